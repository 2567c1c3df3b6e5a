-- The run, its events, and its status. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: checkpoint
CHECKPOINT;

-- name: insert_version
INSERT INTO meta VALUES ($version);

-- name: version
SELECT schema_version FROM meta;

-- name: insert_run
-- incoming: one row whose columns are the fields of Run.
INSERT INTO run BY NAME SELECT * REPLACE (run_id::UUID AS run_id) FROM incoming;

-- name: run
SELECT * REPLACE (run_id::VARCHAR AS run_id) FROM run;

-- name: samples
SELECT samples FROM run;

-- name: insert_event
INSERT INTO events VALUES ($event, (now() AT TIME ZONE 'UTC'), $detail);

-- name: run_changes
-- Changes of the run's limit and server, and servers of reused answers, in order.
SELECT event, detail
FROM events
WHERE event IN ('limit_changed', 'server_changed', 'other_servers')
ORDER BY rowid;

-- name: status
-- Counts by their names: one row of as many subqueries takes DuckDB four times as long to plan. uncounted: superseded
-- requests without a result and in no job, and retries that failed for good.
WITH failed AS MATERIALIZED (
    FROM failed_for_good($max_attempts) ANTI JOIN requests_in_jobs USING (request_id)
), uncounted AS MATERIALIZED (
    SELECT request_id
    FROM (SELECT request_id, retry FROM unneeded_requests)
    LEFT JOIN (SELECT request_id, true AS has_failed FROM failed) USING (request_id)
    ANTI JOIN results USING (request_id)
    ANTI JOIN requests_in_jobs USING (request_id)
    WHERE NOT retry OR has_failed
)
SELECT 'records', count(*) FROM records
UNION ALL SELECT 'requests', count(*) FROM requests
UNION ALL SELECT 'uncounted', count(*) FROM uncounted
UNION ALL SELECT 'done', count(*) FROM requests SEMI JOIN results USING (request_id)
UNION ALL SELECT 'failed', count(*) FROM failed ANTI JOIN uncounted USING (request_id)
UNION ALL SELECT 'in_flight', count(*) FROM requests_in_jobs ANTI JOIN results USING (request_id)
UNION ALL SELECT 'truncated', count(*)
FROM (FROM results WHERE finish_reason = 'length')
SEMI JOIN (SELECT request_id FROM current_row_requests WHERE about IS NULL) USING (request_id)
UNION ALL SELECT 'prompt_tokens', coalesce(sum(prompt_tokens), 0)::BIGINT FROM results
UNION ALL SELECT 'completion_tokens', coalesce(sum(completion_tokens), 0)::BIGINT FROM results;
