-- Pages of answered rows. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: export_volume
-- Records, bytes of their texts, and tokens of an answer: the mean of the results, else by the bytes of the old
-- outputs; null where there are neither.
SELECT count(*), coalesce(sum(strlen(instruction) + strlen(input)), 0)::BIGINT,
       coalesce((SELECT avg(completion_tokens) FROM results
                 SEMI JOIN (SELECT request_id FROM row_requests WHERE stage = final_stage()) USING (request_id)),
                avg(output_tokens(strlen(original_output))) FILTER (original_output != ''))
FROM records;

-- name: export_keys_answered
-- Keys of the exported rows in sample order, one for each answer to a record or variant, in pages of $page_bytes bytes
-- of text. The texts are read page by page: joined and sorted as a whole they would not fit into memory.
CREATE OR REPLACE TEMP TABLE export_keys AS
SELECT *, sum(bytes) OVER (ORDER BY record, ordinal, generation) // $page_bytes AS page
FROM (
    SELECT record, ordinal, generation, record_row, result_row, variant_row, record_bytes + result_bytes AS bytes
    FROM (SELECT record, ordinal, generation, request_id FROM current_row_requests
          WHERE stage = final_stage())
    JOIN (SELECT record, rowid AS record_row, strlen(instruction) + strlen(input) + coalesce(strlen(system), 0)
                 + coalesce(strlen(history), 0) + coalesce(strlen(tools), 0) AS record_bytes
          FROM records) USING (record)
    JOIN (SELECT request_id, rowid AS result_row,
                 strlen(text) + coalesce(strlen(reasoning), 0) + coalesce(strlen(tool_calls), 0) AS result_bytes
          FROM results) USING (request_id)
    LEFT JOIN (SELECT record, ordinal, rowid AS variant_row FROM variants) USING (record, ordinal))
ORDER BY record, ordinal, generation;

-- name: answered_rows
CREATE OR REPLACE TEMP VIEW answered_rows AS
SELECT keys.record, keys.ordinal, keys.generation, coalesce(variants.instruction, records.instruction) AS instruction,
       records.input, results.text AS output, coalesce(results.reasoning, '') AS reasoning,
       coalesce(records.system, run.system_prompt) AS system, records.history, records.tools,
       results.tool_calls, records.outputs AS original_outputs,
       results.finish_reason, getvariable('export_model') AS model, records.source_row,
       records.instruction AS original_instruction, results.request_id, results.prompt_tokens,
       results.cached_tokens, results.completion_tokens, results.cost,
       getvariable('export_sources')[records.source + 1] AS source, run.split, run.run_id, run.backend
FROM run
CROSS JOIN (SELECT * FROM export_keys WHERE page = getvariable('page')) AS keys
JOIN (SELECT *, rowid AS record_row FROM records
      WHERE rowid BETWEEN getvariable('first_record') AND getvariable('last_record')) AS records
    USING (record_row)
JOIN export_results AS results USING (result_row)
LEFT JOIN (SELECT *, rowid AS variant_row FROM variants
           WHERE rowid BETWEEN getvariable('first_variant') AND getvariable('last_variant')) AS variants
    USING (variant_row);

-- name: export_rows_answered
CREATE OR REPLACE TEMP VIEW export_rows AS FROM answered_rows;

-- name: export_rows_by_turn
-- For conversations that were answered turn by turn: the last question, after the others with their answers.
CREATE OR REPLACE TEMP VIEW export_rows AS
SELECT * EXCLUDE (turns, answers)
       REPLACE (turns[-1] AS instruction,
                CASE WHEN answers IS NULL THEN history
                     ELSE to_json(list_concat(coalesce(from_json(history, '["JSON"]'), []),
                                              flatten(list_transform(answers, lambda answer, place:
                                                  [to_json({'role': 'user', 'content': turns[place]}),
                                                   to_json({'role': 'assistant', 'content': answer})]))))::VARCHAR
                END AS history)
FROM (SELECT *, list_concat([instruction], coalesce(from_json(followups, '["VARCHAR"]'), [])) AS turns
      FROM answered_rows JOIN (SELECT record, followups FROM records) USING (record)) AS rows
LEFT JOIN (SELECT record, generation, list(text ORDER BY ordinal) AS answers
           FROM current_row_requests JOIN results USING (request_id)
           SEMI JOIN (SELECT record FROM export_keys WHERE page = getvariable('page')) USING (record)
           WHERE stage <> final_stage()
           GROUP BY record, generation) USING (record, generation);

-- name: export_results_in_order
-- All results between the first and the last of a page.
CREATE OR REPLACE TEMP VIEW export_results AS
SELECT rowid AS result_row, text, reasoning, finish_reason, tool_calls, request_id, prompt_tokens,
       cached_tokens, completion_tokens, cost
FROM results
WHERE rowid BETWEEN getvariable('first_result') AND getvariable('last_result');

-- name: export_results_by_page
CREATE OR REPLACE TEMP VIEW export_results AS
FROM read_parquet(getvariable('export_folder') || '/page=' || getvariable('page') || '/*.parquet',
                  hive_partitioning := false);

-- name: export_keys_originals
CREATE OR REPLACE TEMP TABLE export_keys AS
SELECT *, sum(bytes) OVER (ORDER BY record) // $page_bytes AS page
FROM (SELECT record, 0 AS ordinal, 0 AS generation, rowid AS record_row, NULL::BIGINT AS result_row, NULL::BIGINT AS variant_row,
             strlen(instruction) + strlen(input) + strlen(original_output) + strlen(reasoning) AS bytes
      FROM records)
ORDER BY record;

-- name: export_rows_originals
-- The dataset's own outputs, for a run that skips generation.
CREATE OR REPLACE TEMP VIEW export_rows AS
SELECT record, 0 AS ordinal, 0 AS generation, instruction, input, original_output AS output, reasoning, system,
       history, tools, tool_calls, outputs AS original_outputs,
       NULL::VARCHAR AS finish_reason, NULL::VARCHAR AS model, source_row,
       instruction AS original_instruction, NULL::UUID AS request_id, NULL::BIGINT AS prompt_tokens,
       NULL::BIGINT AS cached_tokens, NULL::BIGINT AS completion_tokens, NULL::HUGEINT AS cost,
       getvariable('export_sources')[records.source + 1] AS source, run.split, run.run_id, run.backend
FROM run
CROSS JOIN records
JOIN (SELECT record FROM export_keys WHERE page = getvariable('page')) USING (record)
WHERE records.rowid BETWEEN getvariable('first_record') AND getvariable('last_record');

-- name: export_counts
-- The row counts that an export depends on.
SELECT (SELECT count(*) FROM row_requests), (SELECT count(*) FROM results), (SELECT count(*) FROM variants);

-- name: exported
-- The events of exports, in order.
SELECT detail FROM events WHERE event = 'exported' ORDER BY rowid;

-- name: count_rows
-- Rows of an export when all known rows are answered.
SELECT samples * ((SELECT count(*) FROM records) + (SELECT count(*) FROM variants)) FROM run;

-- name: export_pages
SELECT page, min(record_row), max(record_row), coalesce(min(result_row), 0), coalesce(max(result_row), 0),
       coalesce(min(variant_row), 0), coalesce(max(variant_row), 0)
FROM export_keys GROUP BY page ORDER BY page;

-- name: export_scans
-- How many results the pages read, each all between its first and its last; how many results there are.
SELECT coalesce(sum(results), 0)::BIGINT, (SELECT count(*) FROM results)
FROM (SELECT max(result_row) - min(result_row) + 1 AS results FROM export_keys GROUP BY page);

-- name: write_export_results
-- Results that were stored in another order than their rows, as one file a page.
COPY (
    SELECT page, result_row, text, reasoning, finish_reason, tool_calls, request_id, prompt_tokens, cached_tokens,
           completion_tokens, cost
    FROM (SELECT DISTINCT page, result_row FROM export_keys)
    JOIN (SELECT rowid AS result_row, * FROM results) USING (result_row)
) TO $folder (FORMAT parquet, PARTITION_BY (page));

-- name: export_requests
-- The parameters of requests, without local paths.
CREATE OR REPLACE TEMP VIEW export_requests AS
SELECT request_id, CASE WHEN getvariable('export_paths') = '' THEN params
                        ELSE json_merge_patch(params, getvariable('export_paths'))::VARCHAR END AS params
FROM requests;

-- name: export_test
-- Records of the test set: $test_share of the questions, at least one and never all, by a hash of question and seed.
-- A conversation goes by its first question, so equal questions, variants and later turns are on one side.
CREATE OR REPLACE TEMP TABLE export_test AS
WITH keys AS (
    SELECT record, md5_number_lower($seed || ':' || CASE WHEN history IS NOT NULL THEN history ->> '$[0].content'
                                                         WHEN input = '' THEN instruction
                                                         ELSE instruction || chr(10) || input END) AS pick
    FROM records
    WHERE $test_share > 0
), picks AS (SELECT DISTINCT pick FROM keys)
SELECT record FROM keys
SEMI JOIN (SELECT pick FROM picks ORDER BY pick
           LIMIT (SELECT CASE WHEN $test_share > 0
                              THEN least(count(*) - 1, greatest(1, round(count(*) * $test_share)::BIGINT))
                              ELSE 0 END FROM picks)) USING (pick);

-- name: export_contents
-- What the rows have, beside a question and an answer: a system prompt, history, tools, tool calls in answers or
-- history; several original outputs; a source, where the run has several; a generation, where it has samples.
SELECT coalesce(bool_or(system IS NOT NULL), false)
           OR (SELECT system_prompt IS NOT NULL AND NOT skip_generation FROM run) AS system,
       coalesce(bool_or(history IS NOT NULL OR (followups IS NOT NULL AND (SELECT turns FROM run) = 'all')), false)
           AS history,
       coalesce(bool_or(tools IS NOT NULL), false) AS tools,
       coalesce(bool_or(history LIKE '%"tool_calls"%'), false)
           OR CASE WHEN (SELECT skip_generation FROM run) THEN coalesce(bool_or(tool_calls IS NOT NULL), false)
                   ELSE EXISTS (SELECT 1 FROM results WHERE results.tool_calls IS NOT NULL) END AS tool_calls,
       coalesce(bool_or(outputs IS NOT NULL), false) AS original_outputs,
       (SELECT json_array_length(sources) > 1 FROM run) AS source,
       (SELECT samples > 1 AND NOT skip_generation FROM run) AS generation
FROM records;
