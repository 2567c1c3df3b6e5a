-- Records, sampled from the relation source_rows that a reader of datasets registers. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: samplings
-- One for each source that was sampled, in the order of the sources.
SELECT detail FROM events WHERE event = 'sampled' ORDER BY rowid;

-- name: are_sampled
SELECT (SELECT count(*) FROM events WHERE event = 'sampled') = json_array_length(sources) FROM run;

-- name: count_source
-- One pass over the source: its rows, how many are usable, how many are left out by the reason, how many have turns
-- that are not used and how many turns these are; the first row that cannot be read, and why; the first rows left out
-- for an image file that cannot be read.
SELECT count(*), count(*) FILTER (left_out IS NULL AND problem IS NULL), coalesce(histogram(left_out), MAP {}),
       count(*) FILTER (unused_turns > 0), coalesce(sum(unused_turns), 0)::BIGINT,
       min(source_row) FILTER (problem IS NOT NULL), arg_min(problem, source_row),
       min(source_row, $most) FILTER (left_out = $unreadable)
FROM (SELECT left_out, unused_turns, problem, row_number() OVER () - 1 AS source_row FROM source_rows);

-- name: problems
-- Rows that cannot be read by the reason, with numbers and names in it as …, and the first of these rows.
SELECT regexp_replace(problem, '\d+|''.*''|".*"', '…', 'g') AS reason, count(*), min(source_row, $most)
FROM (SELECT problem, row_number() OVER () - 1 AS source_row FROM source_rows)
WHERE problem IS NOT NULL
GROUP BY reason
ORDER BY min(source_row);

-- name: sample_all
INSERT INTO records
SELECT $records + row_number() OVER () - 1, $source,
       source_row, instruction, input, output, reasoning, system, history, tools, tool_calls, outputs, followups,
       fields
FROM (SELECT *, row_number() OVER () - 1 AS source_row FROM source_rows)
WHERE left_out IS NULL AND problem IS NULL;

-- name: sample_some
-- md5 of seed and row: the same choice in every version of DuckDB and with any number of threads, and a larger
-- sample contains a smaller one. Rows are numbered as they are read, which is in order: sorting them again would
-- double the time.
INSERT INTO records
SELECT $records + row_number() OVER () - 1, $source, source_row, instruction, input, output, reasoning, system, history,
       tools, tool_calls, outputs, followups, fields
FROM (
    SELECT *, md5_number_lower($seed || ':' || source_row) AS pick
    FROM (SELECT *, row_number() OVER () - 1 AS source_row FROM source_rows)
    WHERE left_out IS NULL AND problem IS NULL
    ORDER BY pick, source_row
    LIMIT $sample_size
);

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
