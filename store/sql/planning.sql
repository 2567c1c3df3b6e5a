-- Rows of a stage, their requests, and variants ingested from answers. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: rows_without_request
-- Of a range of records, those and their variants without one of $samples requests of the stage, in sample order.
SELECT record, ordinal, instruction, input, original_output, reasoning, system, history, tools, fields,
       images, [], generation
FROM (
    SELECT record, 0 AS ordinal, instruction, input, original_output, reasoning, system, history, tools, fields
    FROM records
    WHERE record BETWEEN $first AND $last
    UNION ALL
    SELECT record, ordinal, variants.instruction, input, '', '', system, history, tools, fields
    FROM variants JOIN records USING (record)
    WHERE record BETWEEN $first AND $last
)
LEFT JOIN (FROM sent_images WHERE record BETWEEN $first AND $last) USING (record)
CROSS JOIN (SELECT unnest(range($samples))::INTEGER AS generation)
ANTI JOIN (SELECT record, ordinal, generation FROM row_requests
           WHERE stage = $stage AND record BETWEEN $first AND $last) USING (record, ordinal, generation)
ORDER BY record, ordinal, generation;

-- name: rows_of_turn
-- Of a range of records, those without a request of the stage for the question of this number (null: the last one, of
-- the final stage) whose earlier questions are all answered; with these questions and answers. Each of $samples answers
-- is on earlier answers of its own.
SELECT record, coalesce($number, 0)::INTEGER, turns[1 + number], CASE WHEN number = 0 THEN input ELSE '' END, '', '',
       system, history, tools, fields, images, [], generation, turns[:number], coalesce(answers, [])
FROM (SELECT *, list_concat([instruction], coalesce(from_json(followups, '["VARCHAR"]'), [])) AS turns,
             coalesce($number, len(turns) - 1) AS number
      FROM records
      WHERE record BETWEEN $first AND $last)
LEFT JOIN (FROM sent_images WHERE record BETWEEN $first AND $last) USING (record)
CROSS JOIN (SELECT unnest(range($samples))::INTEGER AS generation)
LEFT JOIN (SELECT record, generation, list(text ORDER BY ordinal) AS answers
           FROM current_row_requests JOIN results USING (request_id)
           WHERE stage = $stage AND record BETWEEN $first AND $last AND ordinal < coalesce($number, 2147483647)
           GROUP BY record, generation) USING (record, generation)
ANTI JOIN (SELECT record, generation FROM row_requests
           WHERE record BETWEEN $first AND $last
             AND CASE WHEN $number IS NULL THEN stage = final_stage() ELSE stage = $stage AND ordinal = $number END)
    USING (record, generation)
WHERE number <= len(turns) - CASE WHEN $number IS NULL THEN 1 ELSE 2 END
  AND coalesce(len(answers), 0) = number
ORDER BY record, generation;

-- name: records_short_of_variants
-- Records without a request of the stage that asks for variants, or whose latest answer was rejected; with their
-- variants and the number of generations so far.
SELECT record, 0, instruction, input, original_output, reasoning, system, history, tools, fields,
       NULL, coalesce(known, []), coalesce(generations, 0)
FROM records
LEFT JOIN (SELECT record, list(instruction ORDER BY ordinal) AS known
           FROM variants GROUP BY record) USING (record)
LEFT JOIN (SELECT record, 1 + max(generation) AS generations
           FROM row_requests WHERE stage = $stage GROUP BY record) USING (record)
LEFT JOIN (SELECT record, 1 + max(generation) AS rejected
           FROM verdicts WHERE stage = $stage GROUP BY record) USING (record)
WHERE coalesce(generations, 0) < $max_generations
  AND coalesce(generations, 0) = coalesce(rejected, 0)
ORDER BY record;

-- name: answers_to_ingest
-- Answers of the stage that were not ingested yet; with the variants of their records.
SELECT record, generation, request_id::VARCHAR, records.instruction, results.text, coalesce(known, [])
FROM current_row_requests
JOIN results USING (request_id)
JOIN records USING (record)
ANTI JOIN (SELECT record, generation FROM ingestions WHERE stage = $stage) USING (record, generation)
LEFT JOIN (SELECT record, list(instruction ORDER BY ordinal) AS known
           FROM variants GROUP BY record) USING (record)
WHERE stage = $stage
ORDER BY record, generation;

-- name: insert_variants
INSERT INTO variants SELECT record, ordinal, instruction FROM incoming ORDER BY position;

-- name: insert_ingestions
INSERT INTO ingestions SELECT record, $stage, generation, kept, dropped FROM incoming;

-- name: insert_verdicts
-- Each once.
INSERT INTO verdicts
SELECT record, stage, ordinal, generation, request_id, check_name, reason, (now() AT TIME ZONE 'UTC')
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
ANTI JOIN verdicts USING (record, stage, ordinal, generation, request_id, check_name);

-- name: reject_truncated
-- Truncated answers of the final stage, of the latest request of each row; each is rejected once.
INSERT INTO verdicts
SELECT record, stage, ordinal, generation, request_id, $check_name, 'cut off at the token limit',
       (now() AT TIME ZONE 'UTC')
FROM latest_row_requests
SEMI JOIN (SELECT request_id FROM results WHERE finish_reason = 'length') USING (request_id)
ANTI JOIN (FROM verdicts WHERE check_name = $check_name)
    USING (record, stage, ordinal, generation, request_id)
WHERE stage = final_stage();

-- name: short_of_variants
SELECT count(*), coalesce(sum($num_aug - known), 0)::BIGINT
FROM (SELECT record, count(variants.ordinal) AS known
      FROM records LEFT JOIN variants USING (record) GROUP BY record)
WHERE known < $num_aug;

-- name: insert_requests
INSERT INTO requests
SELECT request_id, params, messages, tools, images, image_tokens, image_bytes
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming WHERE is_first)
ANTI JOIN requests USING (request_id)
ORDER BY position;

-- name: insert_row_requests
INSERT INTO row_requests
SELECT record, $stage, ordinal, generation, version, request_id::UUID, about::UUID FROM incoming;

-- name: unplanned
-- How many of $samples requests of the stage the records and variants do not have.
SELECT $samples * ((SELECT count(*) FROM records) + (SELECT count(*) FROM variants))
       - (SELECT count(*) FROM row_requests WHERE stage = $stage AND version = 0);
