-- Answers and failed attempts. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: insert_results
-- The first answer of a request wins.
INSERT INTO results
SELECT request_id, text, reasoning, finish_reason, prompt_tokens, completion_tokens,
       cached_tokens, $backend,
       cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output), NULL,
       (now() AT TIME ZONE 'UTC'), false, tool_calls
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
ANTI JOIN results USING (request_id);

-- name: insert_failures
INSERT INTO failures
SELECT request_id::UUID, kind, code, message, retryable, text,
       current_round(), NULL, (now() AT TIME ZONE 'UTC')
FROM incoming;

-- name: reuse_results
-- Results of an earlier run for requests that have none here, are in no job, and are not superseded. Equal ids mean
-- the same body for the same model.
INSERT INTO results
SELECT request_id, text, reasoning, finish_reason, prompt_tokens, completion_tokens, cached_tokens,
       backend, 0, NULL, happened_at, true, tool_calls
FROM earlier.results
SEMI JOIN (SELECT request_id FROM requests
           ANTI JOIN results USING (request_id)
           ANTI JOIN requests_in_jobs USING (request_id)
           ANTI JOIN superseded_requests USING (request_id)) USING (request_id);

-- name: count_results
SELECT count(*) FROM results;

-- name: any_result
SELECT count(*) > 0 FROM (SELECT 1 FROM results LIMIT 1);

-- name: answer_speed
-- Completion tokens a second, without those of the first commit: when they began is not known.
SELECT sum(completion_tokens) FILTER (WHERE happened_at > first)
       / nullif(epoch(max(happened_at) - any_value(first)), 0)
FROM results, (SELECT min(happened_at) AS first FROM results);

-- name: failed_alike
-- Of the current round: how many requests failed for good, for how many reasons (kind, code), the reason and message
-- of one of them; and how many answers and requests the run has.
SELECT count(*), count(DISTINCT row(kind, code)), any_value(kind), any_value(code), any_value(message),
       (SELECT count(*) FROM results),
       (SELECT count(*) FROM requests ANTI JOIN superseded_requests USING (request_id))
FROM (SELECT request_id, arg_max(kind, rowid) AS kind, arg_max(coalesce(code, ''), rowid) AS code,
             arg_max(message, rowid) AS message
      FROM failures
      WHERE round = current_round()
      GROUP BY request_id)
SEMI JOIN failed_for_good($max_attempts) USING (request_id);

-- name: current_round
SELECT current_round();

-- name: failure_kinds
-- Requests whose result is missing by the kind of their last failure, most frequent first.
SELECT kind, count(*) AS requests
FROM (SELECT request_id, arg_max(kind, rowid) AS kind
      FROM failures
      ANTI JOIN results USING (request_id)
      ANTI JOIN unneeded_requests USING (request_id)
      GROUP BY request_id)
GROUP BY kind
ORDER BY requests DESC, kind;

-- name: failure_reasons
-- The latest message of each request whose result is missing, most frequent first.
SELECT kind, message, count(*) AS requests
FROM (SELECT request_id, arg_max(kind, rowid) AS kind, arg_max(message, rowid) AS message
      FROM failures
      ANTI JOIN results USING (request_id)
      ANTI JOIN unneeded_requests USING (request_id)
      GROUP BY request_id)
GROUP BY kind, message
ORDER BY requests DESC, message
LIMIT 5;

-- name: refused_retries
-- Why retries of truncated answers failed for good, most frequent first.
SELECT kind, message, count(*) AS requests
FROM (SELECT request_id, arg_max(kind, rowid) AS kind, arg_max(message, rowid) AS message
      FROM failures
      SEMI JOIN (SELECT request_id FROM unneeded_requests WHERE retry) USING (request_id)
      SEMI JOIN failed_for_good($max_attempts) USING (request_id)
      ANTI JOIN requests_in_jobs USING (request_id)
      GROUP BY request_id)
GROUP BY kind, message
ORDER BY requests DESC, message;

-- name: attach_earlier
ATTACH $path AS earlier (READ_ONLY);

-- name: detach_earlier
DETACH earlier;
