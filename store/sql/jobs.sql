-- The journal of the Batch API: jobs, their requests, and their answers. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: insert_job_event
INSERT INTO job_events VALUES ($job_id, $event, (now() AT TIME ZONE 'UTC'), $detail);

-- name: job_events
SELECT job_id, detail FROM job_events ORDER BY rowid;

-- name: build_queue
-- Pending requests, in the order in which they go into job files; incoming: their rowids in that order.
CREATE OR REPLACE TEMP TABLE queue AS
SELECT place, request_id, line_bytes(params, messages, tools, image_bytes) AS bytes,
       estimated_prompt_tokens(prompt_bytes_of(params, messages, tools)) + image_tokens AS tokens,
       prompt_bytes_of(params, messages, tools) + image_tokens AS prompt_bytes, limit_of(params) AS max_tokens
FROM incoming JOIN (SELECT *, rowid AS position FROM requests) USING (position)
ORDER BY place;

-- name: next_job
-- The next requests of the queue that fit into one job file, at least one if the budget allows: the last one's place,
-- their number, their tokens, and the limits of their usage.
SELECT max(place), count(*), coalesce(sum(tokens), 0)::BIGINT, coalesce(sum(prompt_bytes), 0)::BIGINT,
       coalesce(sum(max_tokens), 0)::BIGINT
FROM (
    SELECT place, tokens, prompt_bytes, max_tokens, row_number() OVER running AS requests,
           sum(bytes) OVER running AS running_bytes, sum(tokens) OVER running AS running_tokens,
           sum(worst_cost(prompt_bytes, max_tokens, $input, $output)) OVER running AS running_cost
    FROM (FROM queue WHERE place >= $first AND place < $first + $max_requests)
    WINDOW running AS (ORDER BY place)
)
WHERE (requests = 1 OR (running_bytes <= $max_bytes AND running_tokens <= $max_tokens))
  AND running_cost <= $max_cost;

-- name: insert_job_requests
-- In the order of the lines of the job's file.
INSERT INTO job_requests
SELECT $job_id, request_id, prompt_bytes, max_tokens FROM queue WHERE place BETWEEN $first AND $last ORDER BY place;

-- name: job_span
-- The first and last rowid of a job's requests, and their distinct parameters.
SELECT min(position), max(position), list(DISTINCT params)
FROM (SELECT request_id, params, rowid AS position FROM requests)
SEMI JOIN (SELECT request_id FROM job_requests WHERE job_id = $job_id) USING (request_id);

-- name: job_lines
-- The lines of a job's file in order, each with its newline. incoming: by params, the opening of a request's body,
-- '{"model":…' without its closing brace.
SELECT '{"custom_id":"' || request_id::VARCHAR || '","method":"POST","url":"' || $endpoint
       || '","body":' || incoming.opening || ',"messages":' || messages
       || coalesce(',"tools":' || tools, '') || '}}' || chr(10)
FROM (SELECT request_id, rowid AS line FROM job_requests WHERE job_id = $job_id)
JOIN (SELECT * FROM requests WHERE rowid BETWEEN $first AND $last) USING (request_id)
JOIN incoming USING (params)
ORDER BY line;

-- name: insert_job_results
-- The first answer of a request wins; requests of other jobs are left out.
INSERT INTO results
SELECT request_id, text, reasoning, finish_reason, prompt_tokens, completion_tokens, cached_tokens,
       $backend, cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output), $job_id,
       (now() AT TIME ZONE 'UTC'), false, tool_calls
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
SEMI JOIN (SELECT request_id FROM job_requests WHERE job_id = $job_id) USING (request_id)
ANTI JOIN results USING (request_id);

-- name: insert_plain_results
-- An output file whose lines are all plain answers: a text, a finish_reason and a plausible usage, no refusal, no
-- reasoning, a request of the job. Fails at the first other line.
INSERT INTO results
SELECT request_id,
       CASE WHEN status_code = 200 AND starts_with(content, '"') AND NOT regexp_matches(content, 'think(>|\\u003[eE])')
                 AND nothing_else AND finish_reason IN ('stop', 'length')
                 AND plausible_usage(prompt_tokens, cached_tokens, completion_tokens, content <> '""',
                                     prompt_bytes, max_tokens)
            THEN content ->> '$' ELSE error('not plain') END,
       NULL, finish_reason, prompt_tokens, completion_tokens, cached_tokens, $backend,
       cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output), $job_id,
       (now() AT TIME ZONE 'UTC'), false, NULL
FROM (
    SELECT try_cast(custom_id AS UUID) AS request_id, response.status_code,
           choice.message.content, choice.finish_reason,
           coalesce(error, choice.message.refusal, choice.message.reasoning,
                    choice.message.reasoning_content, choice.message.tool_calls) IS NULL AS nothing_else,
           plain_count(usage.prompt_tokens) AS prompt_tokens,
           plain_count(usage.completion_tokens) AS completion_tokens,
           plain_count(usage.prompt_tokens_details.cached_tokens) AS cached_tokens
    FROM (
        SELECT *, response.body.choices[1] AS choice, response.body.usage AS usage
        FROM read_json($path, format := 'newline_delimited', maximum_object_size := 4194304, columns := {
            custom_id: 'VARCHAR', error: 'JSON',
            response: 'STRUCT(status_code BIGINT, body STRUCT(
                choices STRUCT(
                    message STRUCT(content JSON, refusal JSON, reasoning JSON, reasoning_content JSON,
                                   tool_calls JSON),
                    finish_reason VARCHAR)[],
                usage STRUCT(prompt_tokens VARCHAR, completion_tokens VARCHAR,
                             prompt_tokens_details STRUCT(cached_tokens VARCHAR))))'})))
LEFT JOIN (SELECT request_id, prompt_bytes, max_tokens FROM job_requests WHERE job_id = $job_id) USING (request_id);

-- name: job_bounds
-- The limits of the usage of each of a job's requests.
SELECT request_id::VARCHAR, prompt_bytes, max_tokens FROM job_requests WHERE job_id = $job_id;

-- name: job_largest
-- The limits of the usage of any $number of a job's requests.
SELECT (SELECT sum(prompt_bytes) FROM (SELECT prompt_bytes FROM job_requests WHERE job_id = $job_id
                                       ORDER BY prompt_bytes DESC LIMIT $number)),
       (SELECT sum(max_tokens) FROM (SELECT max_tokens FROM job_requests WHERE job_id = $job_id
                                     ORDER BY max_tokens DESC LIMIT $number));

-- name: count_answered
-- How many requests of a job have a result.
SELECT count(*)
FROM (SELECT request_id FROM job_requests WHERE job_id = $job_id) SEMI JOIN results USING (request_id);

-- name: job_usage
SELECT count(DISTINCT request_id), coalesce(sum(prompt_tokens), 0)::BIGINT,
       coalesce(sum(cached_tokens), 0)::BIGINT, coalesce(sum(completion_tokens), 0)::BIGINT
FROM results WHERE job_id = $job_id;

-- name: insert_job_failures
INSERT INTO failures
SELECT request_id, kind, code, message, retryable, text,
       $round, $job_id, (now() AT TIME ZONE 'UTC')
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
SEMI JOIN (SELECT request_id FROM job_requests WHERE job_id = $job_id) USING (request_id)
ANTI JOIN (SELECT request_id FROM failures WHERE job_id = $job_id) USING (request_id);

-- name: job_line_counts
-- A job's requests with an answer in the lines of a batch, with an error, without a line, and without a line, result
-- or failure of the job. incoming: ids and kinds of the lines.
SELECT count(*) FILTER (kind = 'answer'), count(*) FILTER (kind = 'error'), count(*) FILTER (kind IS NULL),
       count(*) FILTER (kind IS NULL AND answered IS NULL)
FROM (SELECT request_id FROM job_requests WHERE job_id = $job_id)
LEFT JOIN (SELECT request_id::UUID AS request_id, kind FROM incoming) USING (request_id)
LEFT JOIN (SELECT request_id, true AS answered FROM results
           UNION SELECT request_id, true FROM failures WHERE job_id = $job_id) USING (request_id);

-- name: insert_missing
-- Requests of a job without a line; incoming: those that were not attempted.
INSERT INTO failures
SELECT request_id, 'server', NULL, $message, $retryable, NULL,
       $round, $job_id, (now() AT TIME ZONE 'UTC')
FROM (SELECT request_id FROM job_requests WHERE job_id = $job_id)
ANTI JOIN results USING (request_id)
ANTI JOIN (SELECT request_id FROM failures WHERE job_id = $job_id) USING (request_id)
ANTI JOIN (SELECT request_id::UUID AS request_id FROM incoming) USING (request_id);

-- name: request_of_line
-- The request on a line (from 1) of a job's file.
SELECT request_id::VARCHAR FROM job_requests WHERE job_id = $job_id ORDER BY rowid LIMIT 1 OFFSET $line - 1;
