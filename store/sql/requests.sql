-- Pending requests, their order, and their expected tokens. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: has_pending
SELECT count(*) > 0
FROM (SELECT request_id FROM pending_requests($max_attempts) LIMIT 1);

-- name: has_open
SELECT count(*) > 0
FROM (SELECT request_id FROM requests
      ANTI JOIN results USING (request_id)
      ANTI JOIN requests_in_jobs USING (request_id)
      ANTI JOIN superseded_requests USING (request_id)
      LIMIT 1);

-- name: has_sent
-- Whether any request of the run was sent, or about to be sent.
SELECT EXISTS (FROM results WHERE NOT reused) OR EXISTS (FROM failures) OR EXISTS (FROM charges)
       OR EXISTS (FROM job_events);

-- name: pending
-- Rowids of the pending requests, in the order in which they were planned.
SELECT position FROM pending_requests($max_attempts) ORDER BY position;

-- name: pending_bounds
-- The smallest and the largest of the pending prompts: their common prefix is that of all.
SELECT min(messages), max(messages)
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id);

-- name: prefix_groups
-- How many different prefixes the pending prompts have, and how many requests are pending.
SELECT count(DISTINCT hash(left(messages, $prefix))), count(*)
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id);

-- name: pending_by_prefix
-- Requests with a common prefix are adjacent; otherwise as planned.
SELECT position
FROM (SELECT position, min(position) OVER (PARTITION BY hash(left(messages, $prefix))) AS first
      FROM pending_requests($max_attempts) JOIN requests USING (request_id))
ORDER BY first, position;

-- name: pending_longest_first
SELECT position
FROM pending_requests($max_attempts) JOIN expected_lengths USING (request_id)
ORDER BY tokens DESC, position;

-- name: pending_longest_first_by_prefix
-- Groups of a common prefix by their longest answer, within them the longest first.
SELECT position
FROM (SELECT position, tokens, prefix, max(tokens) OVER (PARTITION BY prefix) AS longest
      FROM (SELECT request_id, position, hash(left(messages, $prefix)) AS prefix
            FROM pending_requests($max_attempts) JOIN requests USING (request_id))
      JOIN expected_lengths USING (request_id))
ORDER BY longest DESC, prefix, tokens DESC, position;

-- name: requests_by_rowid
-- In the order of $rowids, with the failed attempts of each in the current round.
SELECT request_id::VARCHAR, params, messages, tools, coalesce(attempts, 0), image_tokens
FROM (SELECT unnest($rowids) AS position, generate_subscripts($rowids, 1) AS place)
JOIN (SELECT *, rowid AS position FROM requests) USING (position)
LEFT JOIN (SELECT request_id, count(*) AS attempts
           FROM failures WHERE round = current_round() GROUP BY request_id) USING (request_id)
ORDER BY place;

-- name: expected_tokens
SELECT coalesce(sum(tokens), 0)::BIGINT
FROM expected_lengths
ANTI JOIN results USING (request_id)
ANTI JOIN superseded_requests USING (request_id);

-- name: backlog
-- Pending requests, their rows, those with an old output, those whose length is predicted from results, estimated
-- prompt tokens, expected and maximum completion tokens. Then the row requests of the final stage, and images and
-- their most prompt tokens, which are among the estimated ones.
SELECT count(*),
       (SELECT count(*) FROM latest_row_requests SEMI JOIN pending_requests($max_attempts) USING (request_id)),
       count(*) FILTER (WHERE has_old),
       count(*) FILTER (WHERE is_learnt),
       coalesce(sum(estimated_prompt_tokens(prompt_bytes) + image_tokens), 0)::BIGINT,
       coalesce(sum(tokens), 0)::BIGINT,
       coalesce(sum(max_tokens), 0)::BIGINT,
       (SELECT count(*) FROM row_requests WHERE stage = final_stage()),
       coalesce(sum(images), 0)::BIGINT, coalesce(sum(image_tokens), 0)::BIGINT
FROM pending_requests($max_attempts) JOIN expected_lengths USING (request_id);

-- name: outlook
-- Of the final stage: requests without an answer, in flight included, those whose length is
-- predicted from results, prompt tokens by the bytes per token of the results, and expected completion tokens.
SELECT count(*), count(*) FILTER (WHERE is_learnt),
       coalesce(sum(prompt_bytes) * any_value(tokens_a_byte), 0)::BIGINT,
       coalesce(sum(tokens), 0)::BIGINT
FROM expected_lengths
SEMI JOIN (SELECT request_id FROM row_requests WHERE stage = final_stage()) USING (request_id)
SEMI JOIN (SELECT request_id FROM pending_requests($max_attempts)
           UNION ALL
           SELECT request_id FROM requests_in_jobs ANTI JOIN results USING (request_id)) USING (request_id)
CROSS JOIN (SELECT coalesce(sum(prompt_tokens) / sum(prompt_bytes_of(params, messages, tools)), 1 / 3) AS tokens_a_byte
            FROM requests JOIN results USING (request_id) WHERE prompt_tokens IS NOT NULL);

-- name: sample_prompts
-- Pending prompts. Ids are hashes: the smallest ones are a random choice, the same each time.
SELECT messages, tools
FROM requests
SEMI JOIN (SELECT request_id FROM pending_requests($max_attempts) ORDER BY request_id LIMIT $prompts)
    USING (request_id);
