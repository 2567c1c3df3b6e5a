-- Records, sampled from the relation source_rows that a reader of datasets registers. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: samplings
-- One for each source that was sampled, in the order of the sources.
SELECT detail FROM events WHERE event = 'sampled' ORDER BY rowid;

-- name: are_sampled
SELECT (SELECT count(*) FROM events WHERE event = 'sampled') = json_array_length(sources) FROM run;

-- name: find_candidates
-- One pass over the source: what decides which of its rows are sampled. key: of the question, where duplicates are to
-- be found; question and context: its text, and a hash of what is asked with it, where near-duplicates are.
CREATE OR REPLACE TEMP TABLE candidates AS
SELECT source_row, left_out, problem, unused_turns, stratum,
       CASE WHEN context IS NOT NULL THEN question_key(instruction, input, context) END AS key,
       CASE WHEN $near AND context IS NOT NULL THEN normal_question(instruction, input) END AS question,
       CASE WHEN $near THEN context END AS context
FROM (SELECT row_number() OVER () - 1 AS source_row, left_out, problem, unused_turns, stratum, instruction, input,
             CASE WHEN $exact AND left_out IS NULL AND problem IS NULL
                  THEN context_of(system, history, tools, followups, images ->> '$[*].url') END AS context
      FROM source_rows);

-- name: find_questions
-- The questions of the records so far, as those of candidates.
CREATE OR REPLACE TEMP TABLE earlier_questions AS
SELECT normal_question(instruction, input) AS question,
       question_key(instruction, input, context) AS key, context
FROM (SELECT instruction, input, context_of(system, history, tools, followups, urls) AS context
      FROM records LEFT JOIN (SELECT record, list(url ORDER BY place) AS urls FROM images GROUP BY record)
                   USING (record));

-- name: leave_out_equal
-- Of equal questions the first one of the source stays, and none that a source before it has in the sample.
UPDATE candidates SET left_out = $reason
FROM (SELECT source_row
      FROM (SELECT source_row, key, row_number() OVER (PARTITION BY key ORDER BY source_row) AS nth
            FROM candidates WHERE key IS NOT NULL)
      WHERE nth > 1 OR key IN (SELECT key FROM earlier_questions)) AS equal
WHERE candidates.source_row = equal.source_row;

-- name: questions
-- Texts to be searched for near-duplicates: of the records so far, then of the source's rows that are not left out.
SELECT question AS text, context FROM earlier_questions
UNION ALL
SELECT question AS text, context FROM candidates WHERE left_out IS NULL AND problem IS NULL;

-- name: question_rows
-- The source's rows of these, in the same order; -1 for records.
SELECT -1::BIGINT AS source_row FROM earlier_questions
UNION ALL
SELECT source_row FROM candidates WHERE left_out IS NULL AND problem IS NULL;

-- name: leave_out_incoming
UPDATE candidates SET left_out = $reason FROM incoming WHERE candidates.source_row = incoming.source_row;

-- name: count_source
-- The source's rows, how many are usable, how many are left out by the reason, how many have turns that are not used
-- and how many turns these are; the first row that cannot be read, and why; the first rows left out for an image file
-- that cannot be read.
SELECT count(*), count(*) FILTER (left_out IS NULL AND problem IS NULL), coalesce(histogram(left_out), MAP {}),
       count(*) FILTER (unused_turns > 0), coalesce(sum(unused_turns), 0)::BIGINT,
       min(source_row) FILTER (problem IS NOT NULL), arg_min(problem, source_row),
       min(source_row, $most) FILTER (left_out = $unreadable)
FROM candidates;

-- name: problems
-- Rows that cannot be read by the reason, with numbers and names in it as …, and the first of these rows.
SELECT regexp_replace(problem, '\d+|''.*''|".*"', '…', 'g') AS reason, count(*), min(source_row, $most)
FROM candidates
WHERE problem IS NOT NULL
GROUP BY reason
ORDER BY min(source_row);

-- name: choose_all
CREATE OR REPLACE TEMP TABLE chosen AS
SELECT source_row, row_number() OVER (ORDER BY source_row) - 1 AS place
FROM candidates
WHERE left_out IS NULL AND problem IS NULL;

-- name: choose_some
-- md5 of seed and row: the same choice in every version of DuckDB and with any number of threads, and a larger
-- sample contains a smaller one. With strata the n-th row of each comes before the n+1-th of another where they are
-- equal; else n is divided by the stratum's size, which gives each its share by Sainte-Laguë's method.
CREATE OR REPLACE TEMP TABLE chosen AS
SELECT source_row, row_number() OVER (ORDER BY turn, pick, source_row) - 1 AS place
FROM (
    SELECT source_row, pick,
           CASE $strata
               WHEN 'equal' THEN row_number() OVER (PARTITION BY stratum ORDER BY pick, source_row)
               WHEN 'proportional' THEN (row_number() OVER (PARTITION BY stratum ORDER BY pick, source_row) - 0.5)
                                        / count(*) OVER (PARTITION BY stratum)
               ELSE 0
           END::DOUBLE AS turn
    FROM (SELECT *, md5_number_lower($seed || ':' || source_row) AS pick FROM candidates)
    WHERE left_out IS NULL AND problem IS NULL
)
QUALIFY place < $sample_size;

-- name: insert_chosen
-- Rows are read in order, so that records need not be sorted where all are taken: that would double the time.
INSERT INTO records
SELECT $records + place, $source, source_row, instruction, input, output, reasoning, system, history,
       tools, tool_calls, outputs, followups, fields
FROM (SELECT *, row_number() OVER () - 1 AS source_row FROM source_rows) INNER JOIN chosen USING (source_row);

-- name: insert_chosen_sorted
INSERT INTO records
SELECT $records + place, $source, source_row, instruction, input, output, reasoning, system, history,
       tools, tool_calls, outputs, followups, fields
FROM (SELECT *, row_number() OVER () - 1 AS source_row FROM source_rows) INNER JOIN chosen USING (source_row)
ORDER BY place;

-- name: drop_candidates
DROP TABLE IF EXISTS temp.candidates;

-- name: drop_questions
DROP TABLE IF EXISTS temp.earlier_questions;

-- name: drop_chosen
DROP TABLE IF EXISTS temp.chosen;

-- name: count_records
SELECT count(*) FROM records;

-- name: max_followups
SELECT coalesce(max(json_array_length(followups)), 0) FROM records;

-- name: count_followups
SELECT coalesce(sum(later), 0)::BIGINT, coalesce(sum(later * (later + 1) / 2), 0)::BIGINT
FROM (SELECT json_array_length(followups) AS later FROM records);

-- name: expected_of_records
-- Records with an old output, and the expected completion tokens of an answer to each record.
SELECT count(*) FILTER (original_output <> ''),
       coalesce(sum(default_expected_tokens(strlen(original_output), $max_tokens)), 0)::BIGINT
FROM records;

-- name: first_without_instruction
SELECT source_row FROM records
WHERE source = $source AND NOT regexp_matches(instruction, '[^\s\p{Z}]')
ORDER BY source_row LIMIT 1;
