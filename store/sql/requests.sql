-- What is pending, in which order, and what is expected of it. Statements by name, with named parameters; 'incoming' is what a caller registers.

-- name: has_pending
SELECT count(*) > 0
FROM (FROM pending_requests($max_attempts) LIMIT 1)

-- name: has_open
SELECT count(*) > 0
FROM (SELECT request_id FROM requests
      ANTI JOIN results USING (request_id)
      ANTI JOIN requests_in_jobs USING (request_id)
      ANTI JOIN superseded_requests USING (request_id)
      LIMIT 1)

-- name: has_sent
-- Whether anything of the run went to a server, or was about to.
SELECT EXISTS (FROM results WHERE NOT reused) OR EXISTS (FROM failures) OR EXISTS (FROM charges)
       OR EXISTS (FROM job_events)

-- name: pending
-- Rowids of what is pending, those first that were first asked.
SELECT position FROM pending_requests($max_attempts) ORDER BY position

-- name: pending_bounds
-- The smallest and the largest prompt of what is pending: what they share at their beginning, all do.
SELECT min(messages), max(messages)
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id)

-- name: prefix_groups
-- How many different beginnings what is pending has, and how many requests it is.
SELECT count(DISTINCT hash(left(messages, $prefix))), count(*)
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id)

-- name: pending_by_prefix
-- Requests that share a beginning side by side; otherwise as asked.
SELECT position
FROM (SELECT position, min(position) OVER (PARTITION BY hash(left(messages, $prefix))) AS first
      FROM pending_requests($max_attempts) JOIN requests USING (request_id))
ORDER BY first, position

-- name: pending_longest_first
SELECT position
FROM pending_requests($max_attempts) JOIN expected_lengths USING (request_id)
ORDER BY tokens DESC, position

-- name: pending_longest_first_by_prefix
-- Groups that share a beginning by their longest, and within them the longest first: the last group is
-- the one with the shortest.
SELECT position
FROM (SELECT position, tokens, beginning, max(tokens) OVER (PARTITION BY beginning) AS longest
      FROM (SELECT request_id, position, hash(left(messages, $prefix)) AS beginning
            FROM pending_requests($max_attempts) JOIN requests USING (request_id))
      JOIN expected_lengths USING (request_id))
ORDER BY longest DESC, beginning, tokens DESC, position

-- name: requests_by_rowid
-- In the order of $rowids, with the attempts that each has used in the current round.
SELECT request_id::VARCHAR, params, messages, coalesce(attempts, 0)
FROM (SELECT unnest($rowids) AS position, generate_subscripts($rowids, 1) AS place)
JOIN (SELECT *, rowid AS position FROM requests) USING (position)
LEFT JOIN (SELECT request_id, count(*) AS attempts
           FROM failures WHERE round = current_round() GROUP BY request_id) USING (request_id)
ORDER BY place

-- name: expected_tokens
SELECT coalesce(sum(tokens), 0)::BIGINT
FROM expected_lengths
ANTI JOIN results USING (request_id)
ANTI JOIN superseded_requests USING (request_id)

-- name: backlog
-- What is pending: requests, rows that ask for them, those with an old output, those whose answer's length the
-- results tell, tokens of their prompts by our estimate, and of their answers as expected and at most. Then the
-- rows of the stage answer, which is planned last.
SELECT count(*),
       (SELECT count(*) FROM latest_row_requests SEMI JOIN pending_requests($max_attempts) USING (request_id)),
       count(*) FILTER (WHERE has_old),
       count(*) FILTER (WHERE is_learnt),
       coalesce(sum(estimated_prompt_tokens(prompt_bytes)), 0)::BIGINT,
       coalesce(sum(tokens), 0)::BIGINT,
       coalesce(sum(max_tokens), 0)::BIGINT,
       (SELECT count(*) FROM row_requests WHERE stage = 'answer')
FROM pending_requests($max_attempts) JOIN expected_lengths USING (request_id)

-- name: outlook
-- Of the stage answer, which is asked last: requests whose answers are still to come, in flight included, those
-- whose length the results tell, tokens of their prompts at the bytes a token has had so far, and of their answers.
SELECT count(*), count(*) FILTER (WHERE is_learnt),
       coalesce(sum(prompt_bytes) * any_value(tokens_a_byte), 0)::BIGINT,
       coalesce(sum(tokens), 0)::BIGINT
FROM expected_lengths
SEMI JOIN (SELECT request_id FROM row_requests WHERE stage = 'answer') USING (request_id)
SEMI JOIN (SELECT request_id FROM pending_requests($max_attempts)
           UNION ALL
           SELECT request_id FROM requests_in_jobs ANTI JOIN results USING (request_id)) USING (request_id)
CROSS JOIN (SELECT coalesce(sum(prompt_tokens) / sum(strlen(messages)), 1 / 3) AS tokens_a_byte
            FROM requests JOIN results USING (request_id) WHERE prompt_tokens IS NOT NULL)

-- name: sample_prompts
-- Prompts of what is pending. Ids are hashes: the smallest are a random choice, the same each time.
SELECT messages
FROM requests
SEMI JOIN (SELECT request_id FROM pending_requests($max_attempts) ORDER BY request_id LIMIT $prompts)
    USING (request_id)

-- name: rejected
-- Rows the answer to whose latest request a check rejected, and what was asked.
SELECT stage, record, ordinal, generation, version, params, messages
FROM latest_row_requests
SEMI JOIN (FROM verdicts WHERE check_name = $check_name) USING (record, stage, ordinal, generation, request_id)
JOIN requests USING (request_id)
ORDER BY stage, record, ordinal, generation

-- name: other_limits
-- Asks without an answer and in no job whose limit is not the run's, and what they asked.
SELECT stage, record, ordinal, generation, version, params, messages
FROM row_requests_of_other_limits($max_tokens)
ANTI JOIN requests_in_jobs USING (request_id)
JOIN (SELECT *, rowid AS position FROM requests) USING (request_id)
ORDER BY position, record

-- name: count_other_limits
-- Requests of such asks: those in no job, and those in one.
SELECT count(*) FILTER (job IS NULL), count(*) FILTER (job IS NOT NULL)
FROM (SELECT DISTINCT request_id FROM row_requests_of_other_limits($max_tokens))
LEFT JOIN (SELECT DISTINCT request_id, true AS job FROM requests_in_jobs) USING (request_id)

-- name: jobs_of_other_limits
SELECT DISTINCT job_id FROM job_requests SEMI JOIN row_requests_of_other_limits($max_tokens) USING (request_id)
