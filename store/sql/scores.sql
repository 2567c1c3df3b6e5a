-- What a judge says of answers. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: select_unjudged
-- Answers of the final stage without a judge's request about them, without those that a check of the variable
-- not_judged rejected.
CREATE OR REPLACE TEMP VIEW selected_answers AS
SELECT record, ordinal, generation, request_id
FROM (FROM current_row_requests WHERE stage = final_stage())
ANTI JOIN (SELECT record, ordinal, generation, about AS request_id FROM row_requests WHERE about IS NOT NULL)
    USING (record, ordinal, generation, request_id)
ANTI JOIN (FROM verdicts WHERE list_contains(getvariable('not_judged'), check_name))
    USING (record, stage, ordinal, generation, request_id);

-- name: answers_to_judge
-- Of a page. version: of the row's next request of the stage.
SELECT record, ordinal, generation, request_id::VARCHAR, coalesce(version, 0), instruction, input, original_output,
       output, system, history, tool_calls, fields
FROM answer_rows
LEFT JOIN (SELECT record, ordinal, generation, 1 + max(version) AS version
           FROM row_requests WHERE stage = $stage
           GROUP BY record, ordinal, generation) USING (record, ordinal, generation)
ORDER BY record, ordinal, generation;

-- name: judgements_to_read
SELECT record, ordinal, generation, about::VARCHAR, text
FROM (SELECT record, ordinal, generation, about, request_id FROM row_requests WHERE stage = $stage)
JOIN results USING (request_id)
ANTI JOIN (SELECT record, ordinal, generation, request_id AS about FROM scores)
    USING (record, ordinal, generation, about)
ORDER BY record, ordinal, generation, about;

-- name: insert_scores
INSERT INTO scores
SELECT record, ordinal, generation, request_id, score, reason
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
ANTI JOIN scores USING (record, ordinal, generation, request_id);

-- name: count_unread
SELECT count(*)
FROM scores
SEMI JOIN (FROM current_row_requests WHERE stage = final_stage()) USING (record, ordinal, generation, request_id)
WHERE score IS NULL;
