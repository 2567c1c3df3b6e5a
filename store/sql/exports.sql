-- Which files were exported, of how many rows. Statements by name, with named parameters.

-- name: export_volume
-- Records, bytes of their texts, and tokens of an answer: the mean of the results, else by the bytes of the old
-- outputs; null where there are neither.
SELECT count(*), coalesce(sum(strlen(instruction) + strlen(input)), 0)::BIGINT,
       coalesce((SELECT avg(completion_tokens) FROM results
                 SEMI JOIN (SELECT request_id FROM row_requests WHERE stage = final_stage()) USING (request_id)),
                avg(output_tokens(strlen(original_output))) FILTER (original_output != ''))
FROM records;

-- name: export_counts
-- The row counts that an export depends on.
SELECT (SELECT count(*) FROM row_requests), (SELECT count(*) FROM results), (SELECT count(*) FROM variants),
       (SELECT count(*) FROM verdicts), (SELECT count(*) FROM scores);

-- name: exported
-- The events of exports, in order.
SELECT detail FROM events WHERE event = 'exported' ORDER BY rowid;

-- name: count_rows
-- Rows of an export when all known rows are answered.
SELECT samples * ((SELECT count(*) FROM records) + (SELECT count(*) FROM variants)) FROM run;
