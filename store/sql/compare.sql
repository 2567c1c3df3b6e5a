-- Two runs compared: numbers of each answer from both stores, joined in one of them, and pairs of answers for a judge.
-- Statements by name, with named parameters; 'incoming': rows that the caller registers.

-- name: read_compared_answers
-- The current answers of the final stage in sample order (place), as numbers. question: a hash of the question as
-- asked, without the run's own prompt. answer: a hash of the answer without its case and its white space. cost:
-- picodollars, of each request once. usable: it has text or a tool call, and no check of $exclude rejected it.
CREATE OR REPLACE TEMP TABLE compared_answers AS
SELECT row_number() OVER (ORDER BY record, ordinal, generation) AS place, record, ordinal, request_id,
       md5_number_lower(context || ':' || coalesce(variants.instruction, records.instruction)) AS question,
       characters, completion_tokens,
       CASE WHEN row_number() OVER (PARTITION BY request_id ORDER BY record, ordinal, generation) = 1
            THEN cost ELSE 0 END AS cost,
       score, md5_number_lower(final_answer) AS final_answer, answer, coalesce(checks, []) AS checks,
       has_content AND NOT list_has_any(coalesce(checks, []), $exclude::VARCHAR[]) AS usable
FROM current_row_requests
JOIN (SELECT record, md5_number_lower(instruction) AS instruction,
             md5_number_lower(to_json([system, history, input, tools, followups, images])::VARCHAR) AS context
      FROM records LEFT JOIN sent_images USING (record)) AS records USING (record)
JOIN (SELECT request_id, completion_tokens, length(text) AS characters,
             coalesce(cost, cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output))::BIGINT
             AS cost,
             md5_number_lower(lower(trim(regexp_replace(text, '[\s\p{Z}]+', ' ', 'g'))) || coalesce(tool_calls, ''))
             AS answer,
             tool_calls IS NOT NULL OR regexp_matches(text, '[^\s\p{Z}]') AS has_content
      FROM results) AS results USING (request_id)
LEFT JOIN (SELECT record, ordinal, md5_number_lower(instruction) AS instruction FROM variants) AS variants
    USING (record, ordinal)
LEFT JOIN scores USING (record, ordinal, generation, request_id)
LEFT JOIN checked_answers USING (record, ordinal, generation, request_id)
LEFT JOIN (SELECT record, ordinal, generation, request_id, list(check_name) AS checks
           FROM verdicts
           WHERE stage = final_stage()
           GROUP BY record, ordinal, generation, request_id) USING (record, ordinal, generation, request_id)
WHERE stage = final_stage();

-- name: count_compared_answers
SELECT count(*) FROM compared_answers;

-- name: compared_numbers
SELECT place, question, characters, completion_tokens, cost, score, final_answer, answer, checks, usable
FROM compared_answers;

-- name: read_compared
-- The answers of both runs to all questions; side 0: the other run's, whose numbers are incoming; side 1: this one's.
CREATE OR REPLACE TEMP TABLE compared AS
SELECT 0 AS side, place, question, characters, completion_tokens, cost, score, final_answer, answer, checks, usable
FROM incoming
UNION ALL
SELECT 1, place, question, characters, completion_tokens, cost, score, final_answer, answer, checks, usable
FROM compared_answers;

-- name: read_compared_questions
-- What each run has of a question: answers, answers with a final one, their mean score.
CREATE OR REPLACE TEMP TABLE compared_questions AS
SELECT question, count(*) FILTER (side = 0) AS answers_0, count(*) FILTER (side = 1) AS answers_1,
       count(final_answer) FILTER (side = 0) AS finals_0, count(final_answer) FILTER (side = 1) AS finals_1,
       avg(score) FILTER (side = 0) AS score_0, avg(score) FILTER (side = 1) AS score_1
FROM compared GROUP BY question;

-- name: read_common_answers
CREATE OR REPLACE TEMP VIEW common_answers AS
FROM compared SEMI JOIN (FROM compared_questions WHERE answers_0 > 0 AND answers_1 > 0) USING (question);

-- name: count_compared_questions
SELECT count(*) FILTER (answers_0 > 0 AND answers_1 > 0), count(*) FILTER (answers_1 = 0),
       count(*) FILTER (answers_0 = 0)
FROM compared_questions;

-- name: compared_runs
-- Of each side, over the common questions. cost: null where that of any answer is not known.
SELECT side, count(*), avg(characters), median(characters), avg(completion_tokens),
       CASE WHEN count(cost) = count(*) THEN sum(cost)::BIGINT END, count(score), avg(score)
FROM common_answers GROUP BY side ORDER BY side;

-- name: compared_verdicts
SELECT side, check_name, count(*)
FROM (SELECT side, unnest(checks) AS check_name FROM common_answers)
GROUP BY side, check_name ORDER BY side, check_name;

-- name: compared_equality
-- The mean over questions of the share of pairs, an answer of each run, that are equal; the questions with final
-- answers of both runs, and the same of these.
SELECT avg(coalesce(equal, 0) / (answers_0 * answers_1)), count(*) FILTER (finals_0 > 0 AND finals_1 > 0),
       avg(coalesce(agreeing, 0) / (finals_0 * finals_1)) FILTER (finals_0 > 0 AND finals_1 > 0)
FROM compared_questions
LEFT JOIN (SELECT question, sum(one * other) AS equal
           FROM (SELECT question, answer, count(*) FILTER (side = 0) AS one, count(*) FILTER (side = 1) AS other
                 FROM common_answers GROUP BY question, answer)
           GROUP BY question) USING (question)
LEFT JOIN (SELECT question, sum(one * other) AS agreeing
           FROM (SELECT question, final_answer, count(*) FILTER (side = 0) AS one,
                        count(*) FILTER (side = 1) AS other
                 FROM common_answers WHERE final_answer IS NOT NULL GROUP BY question, final_answer)
           GROUP BY question) USING (question)
WHERE answers_0 > 0 AND answers_1 > 0;

-- name: compared_scores
-- Questions where the first run's mean score is higher, the same, lower.
SELECT count(*) FILTER (score_0 > score_1), count(*) FILTER (score_0 = score_1), count(*) FILTER (score_0 < score_1)
FROM compared_questions;

-- name: pairs_to_judge
-- The places of the first usable answers of both runs to a question, where they differ. Questions in the order of their
-- hashes: any first part of them is a random sample.
SELECT question, min(place) FILTER (side = 0) AS place_0, min(place) FILTER (side = 1) AS place_1
FROM compared
WHERE usable
GROUP BY question
HAVING arg_min(answer, place) FILTER (side = 0) <> arg_min(answer, place) FILTER (side = 1)
ORDER BY question
LIMIT $pairs;

-- name: texts_of_pairs
-- Questions and answers at the places of incoming, in its order of questions.
SELECT coalesce(variants.instruction, records.instruction) AS instruction, records.input, records.system,
       records.history, results.text, results.tool_calls
FROM (FROM incoming JOIN compared_answers USING (question, place)) AS pairs
JOIN records USING (record)
JOIN results USING (request_id)
LEFT JOIN variants ON pairs.record = variants.record AND pairs.ordinal = variants.ordinal
ORDER BY question;

-- name: judged_pairs
-- What the judge wrote of each line of the file of pairs, and the characters of both answers in it.
SELECT source_row, length(fields ->> 'first'), length(fields ->> 'second'), text
FROM current_row_requests JOIN records USING (record) JOIN results USING (request_id)
WHERE stage = final_stage()
ORDER BY source_row;
