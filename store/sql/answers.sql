-- The answers to the rows, in pages, and what was found of them. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: select_all
-- Answers of the final stage.
CREATE OR REPLACE TEMP VIEW selected_answers AS
SELECT record, ordinal, generation, request_id FROM current_row_requests WHERE stage = final_stage();

-- name: select_unchecked
CREATE OR REPLACE TEMP VIEW selected_answers AS
SELECT record, ordinal, generation, request_id
FROM current_row_requests
ANTI JOIN checked_answers USING (record, ordinal, generation, request_id)
WHERE stage = final_stage();

-- name: answer_keys
-- Keys of the selected answers in sample order, in pages of $page_bytes bytes
-- of text. The texts are read page by page: joined and sorted as a whole they would not fit into memory.
CREATE OR REPLACE TEMP TABLE page_keys AS
SELECT *, sum(bytes) OVER (ORDER BY record, ordinal, generation) // $page_bytes AS page
FROM (
    SELECT record, ordinal, generation, record_row, result_row, variant_row, record_bytes + result_bytes AS bytes
    FROM selected_answers
    JOIN (SELECT record, rowid AS record_row, strlen(instruction) + strlen(input) + coalesce(strlen(system), 0)
                 + coalesce(strlen(history), 0) + coalesce(strlen(tools), 0) AS record_bytes
          FROM records) USING (record)
    JOIN (SELECT request_id, rowid AS result_row,
                 strlen(text) + coalesce(strlen(reasoning), 0) + coalesce(strlen(tool_calls), 0) AS result_bytes
          FROM results) USING (request_id)
    LEFT JOIN (SELECT record, ordinal, rowid AS variant_row FROM variants) USING (record, ordinal))
ORDER BY record, ordinal, generation;

-- name: page_images
-- The images of the records of a page, in order.
CREATE OR REPLACE TEMP VIEW page_images AS
SELECT record, list(url ORDER BY place) AS images
FROM images
SEMI JOIN (SELECT record FROM page_keys WHERE page = getvariable('page')) USING (record)
GROUP BY record;

-- name: answered_rows
CREATE OR REPLACE TEMP VIEW answered_rows AS
SELECT keys.record, keys.ordinal, keys.generation, coalesce(variants.instruction, records.instruction) AS instruction,
       records.input, results.text AS output, coalesce(results.reasoning, '') AS reasoning,
       coalesce(records.system, run.system_prompt) AS system, records.history, records.tools,
       results.tool_calls, records.outputs AS original_outputs,
       results.finish_reason, getvariable('answer_model') AS model, records.source_row,
       records.instruction AS original_instruction, results.request_id, results.prompt_tokens,
       results.cached_tokens, results.completion_tokens, results.cost,
       getvariable('answer_sources')[records.source + 1] AS source, run.split, run.run_id, run.backend, records.fields,
       records.original_output, verdicts, score, score_reason, final_answer, agreement,
       coalesce(page_images.images, []) AS images
FROM run
CROSS JOIN (SELECT * FROM page_keys WHERE page = getvariable('page')) AS keys
JOIN (SELECT *, rowid AS record_row FROM records
      WHERE rowid BETWEEN getvariable('first_record') AND getvariable('last_record')) AS records
    USING (record_row)
JOIN page_results AS results USING (result_row)
LEFT JOIN page_images ON keys.record = page_images.record
LEFT JOIN (SELECT *, rowid AS variant_row FROM variants
           WHERE rowid BETWEEN getvariable('first_variant') AND getvariable('last_variant')) AS variants
    USING (variant_row)
LEFT JOIN (SELECT record, ordinal, generation, request_id,
                  to_json(list({'check': check_name, 'reason': reason} ORDER BY check_name)) AS verdicts
           FROM verdicts
           WHERE stage = final_stage()
           GROUP BY record, ordinal, generation, request_id) AS verdicts
    ON keys.record = verdicts.record AND keys.ordinal = verdicts.ordinal AND keys.generation = verdicts.generation
       AND results.request_id = verdicts.request_id
LEFT JOIN (SELECT record, ordinal, generation, request_id, score, reason AS score_reason FROM scores) AS scores
    ON keys.record = scores.record AND keys.ordinal = scores.ordinal AND keys.generation = scores.generation
       AND results.request_id = scores.request_id
LEFT JOIN final_answers
    ON keys.record = final_answers.record AND keys.ordinal = final_answers.ordinal
       AND keys.generation = final_answers.generation;

-- name: answer_rows_answered
CREATE OR REPLACE TEMP VIEW answer_rows AS FROM answered_rows;

-- name: answer_rows_by_turn
-- For conversations that were answered turn by turn: the last question, after the others with their answers.
CREATE OR REPLACE TEMP VIEW answer_rows AS
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
           SEMI JOIN (SELECT record FROM page_keys WHERE page = getvariable('page')) USING (record)
           WHERE stage <> final_stage() AND about IS NULL
           GROUP BY record, generation) USING (record, generation);

-- name: page_results_in_order
-- All results between the first and the last of a page.
CREATE OR REPLACE TEMP VIEW page_results AS
SELECT rowid AS result_row, text, reasoning, finish_reason, tool_calls, request_id, prompt_tokens,
       cached_tokens, completion_tokens, cost
FROM results
WHERE rowid BETWEEN getvariable('first_result') AND getvariable('last_result');

-- name: page_results_by_page
CREATE OR REPLACE TEMP VIEW page_results AS
FROM read_parquet(getvariable('results_folder') || '/page=' || getvariable('page') || '/*.parquet',
                  hive_partitioning := false);

-- name: answer_keys_of_originals
CREATE OR REPLACE TEMP TABLE page_keys AS
SELECT *, sum(bytes) OVER (ORDER BY record) // $page_bytes AS page
FROM (SELECT record, 0 AS ordinal, 0 AS generation, rowid AS record_row, NULL::BIGINT AS result_row,
             NULL::BIGINT AS variant_row,
             strlen(instruction) + strlen(input) + strlen(original_output) + strlen(reasoning) AS bytes
      FROM records)
ORDER BY record;

-- name: answer_rows_of_originals
-- The dataset's own outputs, for a run that skips generation.
CREATE OR REPLACE TEMP VIEW answer_rows AS
SELECT record, 0 AS ordinal, 0 AS generation, instruction, input, original_output AS output, reasoning, system,
       history, tools, tool_calls, outputs AS original_outputs,
       NULL::VARCHAR AS finish_reason, NULL::VARCHAR AS model, source_row,
       instruction AS original_instruction, NULL::UUID AS request_id, NULL::BIGINT AS prompt_tokens,
       NULL::BIGINT AS cached_tokens, NULL::BIGINT AS completion_tokens, NULL::HUGEINT AS cost,
       getvariable('answer_sources')[records.source + 1] AS source, run.split, run.run_id, run.backend, records.fields,
       original_output, NULL::JSON AS verdicts, NULL::INTEGER AS score, NULL::VARCHAR AS score_reason,
       NULL::VARCHAR AS final_answer, NULL::DOUBLE AS agreement, coalesce(page_images.images, []) AS images
FROM run
CROSS JOIN records
JOIN (SELECT record FROM page_keys WHERE page = getvariable('page')) USING (record)
LEFT JOIN page_images USING (record)
WHERE records.rowid BETWEEN getvariable('first_record') AND getvariable('last_record');

-- name: answer_pages
SELECT page, min(record_row), max(record_row), coalesce(min(result_row), 0), coalesce(max(result_row), 0),
       coalesce(min(variant_row), 0), coalesce(max(variant_row), 0)
FROM page_keys GROUP BY page ORDER BY page;

-- name: result_scans
-- How many results the pages read, each all between its first and its last; how many results there are.
SELECT coalesce(sum(results), 0)::BIGINT, (SELECT count(*) FROM results)
FROM (SELECT max(result_row) - min(result_row) + 1 AS results FROM page_keys GROUP BY page);

-- name: write_page_results
-- Results that were stored in another order than their rows, as one file a page.
COPY (
    SELECT page, result_row, text, reasoning, finish_reason, tool_calls, request_id, prompt_tokens, cached_tokens,
           completion_tokens, cost
    FROM (SELECT DISTINCT page, result_row FROM page_keys)
    JOIN (SELECT rowid AS result_row, * FROM results) USING (result_row)
) TO $folder (FORMAT parquet, PARTITION_BY (page));

-- name: test_records
-- Records of the test set: $test_share of the questions, at least one and never all, by a hash of question and seed.
-- A conversation goes by its first question, so equal questions, variants and later turns are on one side.
CREATE OR REPLACE TEMP TABLE test_records AS
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

-- name: answer_contents
-- What the rows have, beside a question and an answer: a system prompt, history, tools, tool calls in answers or
-- history; several original outputs; images, and some of these in files of the dataset; a source, where the run has
-- several; a generation, where it has samples;
-- what was found of the answers.
SELECT coalesce(bool_or(system IS NOT NULL), false)
           OR (SELECT system_prompt IS NOT NULL AND NOT skip_generation FROM run) AS system,
       coalesce(bool_or(history IS NOT NULL OR (followups IS NOT NULL AND (SELECT turns FROM run) = 'all')), false)
           AS history,
       coalesce(bool_or(tools IS NOT NULL), false) AS tools,
       coalesce(bool_or(history LIKE '%"tool_calls"%'), false)
           OR CASE WHEN (SELECT skip_generation FROM run) THEN coalesce(bool_or(tool_calls IS NOT NULL), false)
                   ELSE EXISTS (SELECT 1 FROM results WHERE results.tool_calls IS NOT NULL) END AS tool_calls,
       coalesce(bool_or(outputs IS NOT NULL), false) AS original_outputs, EXISTS (FROM images) AS images,
       EXISTS (FROM images WHERE path IS NOT NULL AND path <> url) AS image_files,
       (SELECT json_array_length(sources) > 1 FROM run) AS source,
       (SELECT samples > 1 AND NOT skip_generation FROM run) AS generation,
       EXISTS (FROM verdicts SEMI JOIN current_row_requests USING (record, stage, ordinal, generation, request_id)
               WHERE stage = final_stage()) AS verdicts,
       EXISTS (FROM scores) AS score, EXISTS (FROM scores) AS score_reason,
       EXISTS (FROM checked_answers WHERE final_answer IS NOT NULL) AS final_answer,
       EXISTS (FROM checked_answers WHERE final_answer IS NOT NULL) AND (SELECT samples > 1 FROM run) AS agreement
FROM records;

-- name: answer_requests
-- The parameters of requests, without local paths.
CREATE OR REPLACE TEMP VIEW answer_requests AS
SELECT request_id, CASE WHEN getvariable('answer_paths') = '' THEN params
                        ELSE json_merge_patch(params, getvariable('answer_paths'))::VARCHAR END AS params
FROM requests;

-- name: final_answers
-- The final answers of current answers, and the share of the answers to the same question that agree.
CREATE OR REPLACE TEMP TABLE final_answers AS
SELECT record, ordinal, generation, final_answer,
       count(*) OVER (PARTITION BY record, ordinal, final_answer)
       / count(*) OVER (PARTITION BY record, ordinal) AS agreement
FROM checked_answers
SEMI JOIN (FROM current_row_requests WHERE stage = final_stage()) USING (record, ordinal, generation, request_id)
WHERE EXISTS (FROM checked_answers WHERE final_answer IS NOT NULL)
QUALIFY final_answer IS NOT NULL;

-- name: answer_counts
-- With the same counts there are no new answers to rows.
SELECT (SELECT count(*) FROM row_requests), (SELECT count(*) FROM results);

-- name: answers_to_check
SELECT record, ordinal, generation, request_id::VARCHAR, instruction, input,
       CASE WHEN ordinal = 0 THEN original_output ELSE '' END, output, reasoning, coalesce(finish_reason, ''), tool_calls,
       source_row, history IS NOT NULL OR system IS DISTINCT FROM (SELECT system_prompt FROM run),
       CASE WHEN ordinal = 0 AND $expected IS NOT NULL
            THEN from_json(fields, '"MAP(VARCHAR, JSON)"')[$expected] ->> '$' END
FROM answer_rows
ORDER BY record, ordinal, generation;

-- name: reject_duplicates
-- Answers whose letters and digits are those of an earlier answer to another question, $least of them or more. Only
-- answers that begin alike are compared as a whole.
INSERT INTO verdicts
WITH answers AS MATERIALIZED (
    SELECT record, ordinal, generation, request_id, beginning
    FROM (SELECT * FROM current_row_requests WHERE stage = final_stage())
    JOIN (SELECT request_id, hash(letters_of(left(text, 160))[:30]) AS beginning
          FROM results
          WHERE strlen(text) >= $least) USING (request_id)
), suspects AS MATERIALIZED (
    SELECT record, ordinal, generation, request_id, source_row, md5_number_upper(letters_of(text)) AS letters,
           md5_number_upper(concat_ws(chr(10), coalesce(variants.instruction, records.instruction), input, history,
                                      followups)) AS question
    FROM answers
    SEMI JOIN (SELECT beginning FROM answers GROUP BY beginning
               HAVING min(record) < max(record) OR min(ordinal) < max(ordinal)) USING (beginning)
    JOIN (SELECT request_id, text FROM results) USING (request_id)
    JOIN records USING (record)
    LEFT JOIN variants USING (record, ordinal)
    WHERE length(letters_of(text)) >= $least
)
SELECT record, final_stage(), ordinal, generation, request_id, $check_name,
       'equal to the answer to row ' || (first_row + 1), now() AT TIME ZONE 'UTC'
FROM (SELECT *, first_value(source_row) OVER same AS first_row, first_value(question) OVER same AS first_question
      FROM suspects WINDOW same AS (PARTITION BY letters ORDER BY record, ordinal, generation)) AS found
ANTI JOIN (FROM verdicts WHERE stage = final_stage() AND check_name = $check_name) AS known
    USING (record, ordinal, generation, request_id)
WHERE question <> first_question;

-- name: insert_checked
INSERT INTO checked_answers
SELECT record, ordinal, generation, request_id, final_answer
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
ANTI JOIN checked_answers USING (record, ordinal, generation, request_id);

-- name: count_flagged
-- Current answers by the check that rejected them.
SELECT check_name, count(*)
FROM verdicts
SEMI JOIN current_row_requests USING (record, stage, ordinal, generation, request_id)
WHERE stage = final_stage()
GROUP BY check_name
ORDER BY check_name;

-- name: first_reason
SELECT reason
FROM verdicts
SEMI JOIN current_row_requests USING (record, stage, ordinal, generation, request_id)
WHERE stage = final_stage() AND check_name = $check_name
ORDER BY record, ordinal, generation
LIMIT 1;

-- name: left_out
-- Current answers that are not for training, since one of the checks $exclude rejected them.
CREATE OR REPLACE TEMP TABLE left_out AS
SELECT record, ordinal, generation, $exclude[min(list_position($exclude, check_name))]::VARCHAR AS reason
FROM verdicts
SEMI JOIN current_row_requests USING (record, stage, ordinal, generation, request_id)
WHERE stage = final_stage() AND list_contains($exclude, check_name)
GROUP BY record, ordinal, generation;

-- name: leave_out_by_score
INSERT INTO left_out
SELECT record, ordinal, generation,
       CASE WHEN score IS NULL THEN 'without a score' ELSE 'with a score below ' || $min_score END
FROM (FROM current_row_requests SEMI JOIN results USING (request_id) WHERE stage = final_stage())
LEFT JOIN scores USING (record, ordinal, generation, request_id)
ANTI JOIN left_out USING (record, ordinal, generation)
WHERE score IS NULL OR score < $min_score;

-- name: keep_first
INSERT INTO left_out
SELECT record, ordinal, generation, 'not the first'
FROM (FROM current_row_requests SEMI JOIN results USING (request_id) WHERE stage = final_stage())
ANTI JOIN left_out USING (record, ordinal, generation)
QUALIFY row_number() OVER (PARTITION BY record, ordinal ORDER BY generation) > 1;

-- name: keep_best
-- Of each row the answer with the highest score, the first of equal ones.
INSERT INTO left_out
SELECT record, ordinal, generation, CASE WHEN score IS NULL THEN 'without a score' ELSE 'not the best' END
FROM (FROM current_row_requests SEMI JOIN results USING (request_id) WHERE stage = final_stage())
LEFT JOIN scores USING (record, ordinal, generation, request_id)
ANTI JOIN left_out USING (record, ordinal, generation)
QUALIFY score IS NULL
        OR row_number() OVER (PARTITION BY record, ordinal ORDER BY score DESC NULLS LAST, generation) > 1;

-- name: keep_majority
-- Of each row the answers with the most frequent final answer, the first of equally frequent ones.
INSERT INTO left_out
SELECT record, ordinal, generation,
       CASE WHEN final_answer IS NULL THEN 'without a final answer' ELSE 'not the majority' END
FROM (SELECT *, count(*) OVER same AS votes, min(generation) OVER same AS earliest
      FROM (FROM current_row_requests SEMI JOIN results USING (request_id) WHERE stage = final_stage())
      LEFT JOIN checked_answers USING (record, ordinal, generation, request_id)
      ANTI JOIN left_out USING (record, ordinal, generation)
      WINDOW same AS (PARTITION BY record, ordinal, final_answer))
QUALIFY final_answer IS NULL
        OR final_answer <> first_value(final_answer) OVER (
            PARTITION BY record, ordinal ORDER BY final_answer IS NULL, votes DESC, earliest);

-- name: count_left_out
SELECT reason, count(*) FROM left_out GROUP BY reason ORDER BY reason;
