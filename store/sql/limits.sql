-- Requests to be planned again with another limit. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: rejected
-- Rows whose latest answer one of the checks rejected, and its request.
SELECT stage, record, ordinal, generation, version, params, messages, tools, about::VARCHAR,
       images, image_tokens, image_bytes
FROM latest_row_requests
SEMI JOIN (FROM verdicts WHERE check_name IN (SELECT unnest($check_names)))
    USING (record, stage, ordinal, generation, request_id)
JOIN requests USING (request_id)
ORDER BY stage, record, ordinal, generation;

-- name: other_limits
-- Row requests without an answer and in no job whose limit is not the run's.
SELECT stage, record, ordinal, generation, version, params, messages, tools, about::VARCHAR,
       images, image_tokens, image_bytes
FROM row_requests_of_other_limits($max_tokens)
ANTI JOIN requests_in_jobs USING (request_id)
JOIN (SELECT *, rowid AS position FROM requests) USING (request_id)
ORDER BY position, record;

-- name: count_other_limits
-- Requests without an answer whose limit is not the run's: those in no job, and those in one.
SELECT count(*) FILTER (job IS NULL), count(*) FILTER (job IS NOT NULL)
FROM (SELECT DISTINCT request_id FROM row_requests_of_other_limits($max_tokens))
LEFT JOIN (SELECT DISTINCT request_id, true AS job FROM requests_in_jobs) USING (request_id);

-- name: jobs_of_other_limits
SELECT DISTINCT job_id FROM job_requests SEMI JOIN row_requests_of_other_limits($max_tokens) USING (request_id);
