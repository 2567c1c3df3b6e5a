-- Rows of a stage, the requests they make, and rows made of answers. Statements by name, with named parameters; 'incoming' is what a caller registers.

-- name: rows_to_answer
-- Of a range of records, those and their variants that have not been asked yet, in sample order.
SELECT record, ordinal, instruction, input, original_output, reasoning, system
FROM (
    SELECT record, 0 AS ordinal, instruction, input, original_output, reasoning, system
    FROM records
    WHERE record BETWEEN $first AND $last
    UNION ALL
    SELECT record, ordinal, variants.instruction, input, '', '', system
    FROM variants JOIN records USING (record)
    WHERE record BETWEEN $first AND $last
)
ANTI JOIN (SELECT record, ordinal FROM row_requests
           WHERE stage = 'answer' AND record BETWEEN $first AND $last) USING (record, ordinal)
ORDER BY record, ordinal

-- name: rows_to_vary
-- Records with too few variants, with samples left, all of whose samples were derived; with the
-- variants there are and the number of samples asked for so far.
SELECT record, instruction, input, original_output, reasoning, system,
       coalesce(found, []), coalesce(asked, 0)
FROM records
LEFT JOIN (SELECT record, list(instruction ORDER BY ordinal) AS found
           FROM variants GROUP BY record) USING (record)
LEFT JOIN (SELECT record, count(*) AS asked
           FROM row_requests WHERE stage = 'vary' AND version = 0 GROUP BY record) USING (record)
LEFT JOIN (SELECT record, count(*) AS derived
           FROM ingestions WHERE stage = 'vary' GROUP BY record) USING (record)
WHERE len(coalesce(found, [])) < $num_aug
  AND coalesce(asked, 0) < $max_generations
  AND coalesce(asked, 0) = coalesce(derived, 0)
ORDER BY record

-- name: answers_to_ingest
-- Answers of the stage vary that were not turned into variants yet; with the variants there are.
SELECT record, generation, request_id::VARCHAR, records.instruction, results.text, coalesce(found, [])
FROM current_row_requests
JOIN results USING (request_id)
JOIN records USING (record)
ANTI JOIN (SELECT record, generation FROM ingestions WHERE stage = 'vary') USING (record, generation)
LEFT JOIN (SELECT record, list(instruction ORDER BY ordinal) AS found
           FROM variants GROUP BY record) USING (record)
WHERE stage = 'vary'
ORDER BY record, generation

-- name: insert_variants
INSERT INTO variants SELECT record, ordinal, instruction FROM incoming ORDER BY position

-- name: insert_ingestions
INSERT INTO ingestions SELECT record, 'vary', generation, kept, dropped FROM incoming

-- name: short_of_variants
SELECT count(*), coalesce(sum($num_aug - found), 0)::BIGINT
FROM (SELECT record, count(variants.ordinal) AS found
      FROM records LEFT JOIN variants USING (record) GROUP BY record)
WHERE found < $num_aug

-- name: insert_requests
INSERT INTO requests
SELECT request_id, params, messages
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming WHERE is_first)
ANTI JOIN requests USING (request_id)
ORDER BY position

-- name: insert_row_requests
INSERT INTO row_requests
SELECT record, $stage, ordinal, generation, version, request_id::UUID FROM incoming

-- name: unplanned
-- Records and variants without a question for their answer.
SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM variants)
       - (SELECT count(*) FROM row_requests WHERE stage = 'answer' AND version = 0)
