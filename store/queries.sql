-- Every statement the store runs, by name; parameters are named ($name). Relations that a caller
-- registers for one statement are called 'incoming' (Arrow) or 'source_rows' (a dataset's rows).

-- name: checkpoint
CHECKPOINT

-- name: insert_version
INSERT INTO meta VALUES ($version)

-- name: version
SELECT schema_version FROM meta

-- name: insert_run
INSERT INTO run VALUES (
    $run_id, $created_at, $mode, $backend, $base_url, $model, $source, $config, $split, $sample_size, $seed,
    $columns, $params, $system_prompt, $language, $templates, $num_aug, $skip_generation, $export)

-- name: run
SELECT run_id::VARCHAR, created_at, mode, backend, base_url, model, source, config, split, sample_size, seed,
       columns, params, system_prompt, language, templates, num_aug, skip_generation, export
FROM run

-- name: priced
-- The price now.
SELECT detail FROM events WHERE event = 'priced' ORDER BY rowid DESC LIMIT 1

-- name: limit_changed
-- The most tokens of an answer, where that was changed.
SELECT (detail ->> 'max_tokens')::BIGINT FROM events WHERE event = 'limit_changed' ORDER BY rowid DESC LIMIT 1

-- name: servers
-- Where the run went on elsewhere, and whose answers it took over, in the order in which that happened.
SELECT event, detail FROM events WHERE event IN ('moved', 'other_servers') ORDER BY rowid

-- name: cost_options
-- The cap and prices that the user gave, the last ones.
SELECT detail FROM events WHERE event = 'cost_options' ORDER BY rowid DESC LIMIT 1

-- name: estimated
SELECT count(*) > 0 FROM events WHERE event = 'estimated'

-- name: has_sent
-- Whether anything of the run went to a server, or was about to.
SELECT EXISTS (FROM results WHERE NOT reused) OR EXISTS (FROM failures) OR EXISTS (FROM charges)
       OR EXISTS (FROM job_events)

-- name: insert_charge
INSERT INTO charges
VALUES ($cost, $prompt, $cached, $completion, $reason, (now() AT TIME ZONE 'UTC'))

-- name: dearest_pending
-- Picodollars that so many pending requests can cost at most.
SELECT coalesce(sum(cost), 0)
FROM (SELECT worst_cost(strlen(messages), limit_of(params), $input, $output) AS cost
      FROM pending_requests($max_attempts) JOIN requests USING (request_id)
      ORDER BY cost DESC
      LIMIT $requests)

-- name: spent_live
-- Picodollars of results that came without a job, of billed failures, of what may have been billed for answers
-- that never came, and of what was in flight at a death or is now. What was bought while no price was known
-- is priced at the rates given.
SELECT (SELECT coalesce(sum(coalesce(cost, cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output))), 0)
        FROM results WHERE job_id IS NULL),
       coalesce(sum(picodollars) FILTER (WHERE reason = 'failed'), 0),
       coalesce(sum(picodollars) FILTER (WHERE reason = 'unanswered'), 0),
       coalesce(sum(picodollars) FILTER (WHERE reason = 'in flight'), 0)
FROM (SELECT reason, coalesce(cost, cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output)) AS picodollars
      FROM charges)

-- name: bought_by_stage
-- Answers by the stage that asked for them, their tokens and picodollars; repeated: what they would have
-- cost if each ask of the same question had been paid for. Without a known cost: at the rates given.
SELECT stage, count(*), coalesce(sum(prompt_tokens), 0)::BIGINT, coalesce(sum(cached_tokens), 0)::BIGINT,
       coalesce(sum(completion_tokens), 0)::BIGINT, sum(picodollars),
       coalesce(sum(picodollars * (asked - 1)), 0) AS repeated
FROM (SELECT *, rowid, coalesce(cost, cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output)) AS picodollars
      FROM results) AS results
JOIN (SELECT request_id, min(stage) AS stage, count(*) AS asked FROM asks GROUP BY request_id) USING (request_id)
WHERE NOT reused
GROUP BY stage
ORDER BY min(results.rowid)

-- name: reused_cost
-- Picodollars that reused answers would have cost.
SELECT sum(cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output))
FROM results WHERE reused

-- name: insert_event
INSERT INTO events VALUES ($event, (now() AT TIME ZONE 'UTC'), $detail)

-- name: sampled
SELECT detail FROM events WHERE event = 'sampled'

-- name: count_source
-- One pass over the source: its rows, and those with neither instruction nor input.
SELECT count(*), count(*) FILTER (NOT regexp_matches(instruction || input, '[^\s\p{Z}]')) FROM source_rows

-- name: sample_all
INSERT INTO records
SELECT row_number() OVER () - 1,
       source_row, instruction, input, output, reasoning, system
FROM (SELECT *, row_number() OVER () - 1 AS source_row FROM source_rows)
WHERE regexp_matches(instruction || input, '[^\s\p{Z}]')

-- name: sample_some
-- md5 of seed and row: the same choice in every version of DuckDB and with any number of threads, and
-- a larger sample only adds to a smaller one. Rows are numbered as they come, which is in order: sorting
-- them once more takes as long as all the rest.
INSERT INTO records
SELECT row_number() OVER () - 1, source_row, instruction, input, output, reasoning, system
FROM (
    SELECT *, md5_number_lower($seed || ':' || source_row) AS pick
    FROM (SELECT *, row_number() OVER () - 1 AS source_row FROM source_rows)
    WHERE regexp_matches(instruction || input, '[^\s\p{Z}]')
    ORDER BY pick, source_row
    LIMIT $sample_size
)

-- name: count_records
SELECT count(*) FROM records

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
ANTI JOIN (SELECT record, ordinal FROM asks
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
           FROM asks WHERE stage = 'vary' AND version = 0 GROUP BY record) USING (record)
LEFT JOIN (SELECT record, count(*) AS derived
           FROM derivations WHERE stage = 'vary' GROUP BY record) USING (record)
WHERE len(coalesce(found, [])) < $num_aug
  AND coalesce(asked, 0) < $max_samples
  AND coalesce(asked, 0) = coalesce(derived, 0)
ORDER BY record

-- name: answers_to_derive
-- Answers of the stage vary that were not turned into variants yet; with the variants there are.
SELECT record, sample, request_id::VARCHAR, records.instruction, results.text, coalesce(found, [])
FROM current_asks
JOIN results USING (request_id)
JOIN records USING (record)
ANTI JOIN (SELECT record, sample FROM derivations WHERE stage = 'vary') USING (record, sample)
LEFT JOIN (SELECT record, list(instruction ORDER BY ordinal) AS found
           FROM variants GROUP BY record) USING (record)
WHERE stage = 'vary'
ORDER BY record, sample

-- name: insert_variants
INSERT INTO variants SELECT record, ordinal, instruction FROM incoming ORDER BY position

-- name: insert_derivations
INSERT INTO derivations SELECT record, 'vary', sample, kept, dropped FROM incoming

-- name: short_of_variants
SELECT count(*), coalesce(sum($num_aug - found), 0)::BIGINT
FROM (SELECT record, count(variants.ordinal) AS found
      FROM records LEFT JOIN variants USING (record) GROUP BY record)
WHERE found < $num_aug

-- name: first_without_instruction
SELECT source_row FROM records WHERE NOT regexp_matches(instruction, '[^\s\p{Z}]') ORDER BY source_row LIMIT 1

-- name: insert_requests
INSERT INTO requests
SELECT request_id, params, messages
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming WHERE is_first)
ANTI JOIN requests USING (request_id)
ORDER BY position

-- name: insert_asks
INSERT INTO asks
SELECT record, $stage, ordinal, sample, version, request_id::UUID FROM incoming

-- name: insert_results
-- The first success of a request wins.
INSERT INTO results
SELECT request_id, text, reasoning, finish_reason, prompt_tokens, completion_tokens,
       cached_tokens, $backend, cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output), NULL,
       (now() AT TIME ZONE 'UTC'), false
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
ANTI JOIN results USING (request_id)

-- name: attach_earlier
ATTACH $path AS earlier (READ_ONLY)

-- name: detach_earlier
DETACH earlier

-- name: has_open
SELECT count(*) > 0
FROM (SELECT request_id FROM requests
      ANTI JOIN results USING (request_id)
      ANTI JOIN requests_in_jobs USING (request_id)
      ANTI JOIN superseded_requests USING (request_id)
      LIMIT 1)

-- name: reuse_results
-- What an earlier run answered of the requests that are wanted, have no result here and are in no job, given up
-- or not. By its id a request is the same body to the same model.
INSERT INTO results
SELECT request_id, text, reasoning, finish_reason, prompt_tokens, completion_tokens, cached_tokens,
       backend, 0, NULL, happened_at, true
FROM earlier.results
SEMI JOIN (SELECT request_id FROM requests
           ANTI JOIN results USING (request_id)
           ANTI JOIN requests_in_jobs USING (request_id)
           ANTI JOIN superseded_requests USING (request_id)) USING (request_id)

-- name: cut_off
-- Rows whose latest ask has an answer that was cut off, and what they asked.
SELECT stage, record, ordinal, sample, version, params, messages
FROM latest_asks
SEMI JOIN (SELECT request_id FROM results WHERE finish_reason = 'length') USING (request_id)
JOIN requests USING (request_id)
WHERE stage = 'answer'
ORDER BY record, ordinal

-- name: other_limits
-- Asks without an answer and in no job whose limit is not the run's, and what they asked.
SELECT stage, record, ordinal, sample, version, params, messages
FROM asks_of_other_limits($max_tokens)
ANTI JOIN requests_in_jobs USING (request_id)
JOIN (SELECT *, rowid AS position FROM requests) USING (request_id)
ORDER BY position, record

-- name: count_other_limits
-- Requests of such asks: those in no job, and those in one.
SELECT count(*) FILTER (job IS NULL), count(*) FILTER (job IS NOT NULL)
FROM (SELECT DISTINCT request_id FROM asks_of_other_limits($max_tokens))
LEFT JOIN (SELECT DISTINCT request_id, true AS job FROM requests_in_jobs) USING (request_id)

-- name: jobs_of_other_limits
SELECT DISTINCT job_id FROM job_requests SEMI JOIN asks_of_other_limits($max_tokens) USING (request_id)

-- name: refused_retries
-- Why retries of answers that were cut off failed for good, most frequent first.
SELECT kind, message, count(*) AS requests
FROM (SELECT request_id, arg_max(kind, rowid) AS kind, arg_max(message, rowid) AS message
      FROM failures
      SEMI JOIN (SELECT request_id FROM unneeded_requests WHERE retry) USING (request_id)
      SEMI JOIN failed_for_good($max_attempts) USING (request_id)
      ANTI JOIN requests_in_jobs USING (request_id)
      GROUP BY request_id)
GROUP BY kind, message
ORDER BY requests DESC, message

-- name: insert_failures
INSERT INTO failures
SELECT request_id::UUID, kind, code, message, retryable, text,
       current_round(), NULL, (now() AT TIME ZONE 'UTC')
FROM incoming

-- name: has_pending
SELECT count(*) > 0
FROM (FROM pending_requests($max_attempts) LIMIT 1)

-- name: pending
-- Rowids of what is pending, those first that were first asked.
SELECT position FROM pending_requests($max_attempts) ORDER BY position

-- name: pending_bounds
-- The smallest and the largest prompt of what is pending: what they share at their beginning, all do.
SELECT min(messages), max(messages)
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id)

-- name: prefix_groups
-- How many different beginnings what is pending has, and how many requests it is.
SELECT count(DISTINCT hash(left(messages, $prefix))), count(*)
FROM requests SEMI JOIN pending_requests($max_attempts) USING (request_id)

-- name: pending_by_prefix
-- Requests that share a beginning side by side; otherwise as asked.
SELECT position
FROM (SELECT position, min(position) OVER (PARTITION BY hash(left(messages, $prefix))) AS first
      FROM pending_requests($max_attempts) JOIN requests USING (request_id))
ORDER BY first, position

-- name: pending_longest_first
SELECT position
FROM pending_requests($max_attempts) JOIN expected_lengths USING (request_id)
ORDER BY tokens DESC, position

-- name: pending_longest_first_by_prefix
-- Groups that share a beginning by their longest, and within them the longest first: the last group is
-- the one with the shortest.
SELECT position
FROM (SELECT position, tokens, beginning, max(tokens) OVER (PARTITION BY beginning) AS longest
      FROM (SELECT request_id, position, hash(left(messages, $prefix)) AS beginning
            FROM pending_requests($max_attempts) JOIN requests USING (request_id))
      JOIN expected_lengths USING (request_id))
ORDER BY longest DESC, beginning, tokens DESC, position

-- name: expected_tokens
SELECT coalesce(sum(tokens), 0)::BIGINT
FROM expected_lengths
ANTI JOIN results USING (request_id)
ANTI JOIN superseded_requests USING (request_id)

-- name: left
-- What is pending: requests, rows that ask for them, those with an old output, those whose answer's length the
-- results tell, tokens of their prompts by our estimate, and of their answers as expected and at most. Then the
-- rows of the stage answer, which is planned last.
SELECT count(*),
       (SELECT count(*) FROM latest_asks SEMI JOIN pending_requests($max_attempts) USING (request_id)),
       count(*) FILTER (WHERE has_old),
       count(*) FILTER (WHERE is_learnt),
       coalesce(sum(about_tokens(prompt_bytes)), 0)::BIGINT,
       coalesce(sum(tokens), 0)::BIGINT,
       coalesce(sum(coalesce(max_tokens, 4096)), 0)::BIGINT,
       (SELECT count(*) FROM asks WHERE stage = 'answer')
FROM pending_requests($max_attempts) JOIN expected_lengths USING (request_id)

-- name: export_volume
-- Of the files an export writes: records, bytes of their own texts, and tokens of an answer, as those so far tell, else
-- a third of the bytes of an old output; null where nothing tells.
SELECT count(*), coalesce(sum(strlen(instruction) + strlen(input)), 0)::BIGINT,
       coalesce((SELECT avg(completion_tokens) FROM results
                 SEMI JOIN (SELECT request_id FROM asks WHERE stage = 'answer') USING (request_id)),
                avg(strlen(original_output)) FILTER (original_output != '') / 3)
FROM records

-- name: outlook
-- Of the stage answer, which is asked last: requests whose answers are still to come, in flight included, those
-- whose length the results tell, tokens of their prompts at the bytes a token has had so far, and of their answers.
SELECT count(*), count(*) FILTER (WHERE is_learnt),
       coalesce(sum(prompt_bytes) * any_value(tokens_a_byte), 0)::BIGINT,
       coalesce(sum(tokens), 0)::BIGINT
FROM expected_lengths
SEMI JOIN (SELECT request_id FROM asks WHERE stage = 'answer') USING (request_id)
SEMI JOIN (SELECT request_id FROM pending_requests($max_attempts)
           UNION ALL
           SELECT request_id FROM requests_in_jobs ANTI JOIN results USING (request_id)) USING (request_id)
CROSS JOIN (SELECT coalesce(sum(prompt_tokens) / sum(strlen(messages)), 1 / 3) AS tokens_a_byte
            FROM requests JOIN results USING (request_id) WHERE prompt_tokens IS NOT NULL)

-- name: sample_prompts
-- Prompts of what is pending. Ids are hashes: the smallest are a random choice, the same each time.
SELECT messages
FROM requests
SEMI JOIN (SELECT request_id FROM pending_requests($max_attempts) ORDER BY request_id LIMIT $prompts)
    USING (request_id)

-- name: answer_speed
-- Completion tokens a second. Those of the first commit came before the time that is known.
SELECT sum(completion_tokens) FILTER (WHERE happened_at > first)
       / nullif(epoch(max(happened_at) - any_value(first)), 0)
FROM results, (SELECT min(happened_at) AS first FROM results)

-- name: requests_by_rowid
-- In the order of $rowids, with the attempts that each has used in the current round.
SELECT request_id::VARCHAR, params, messages, coalesce(attempts, 0)
FROM (SELECT unnest($rowids) AS position, generate_subscripts($rowids, 1) AS place)
JOIN (SELECT *, rowid AS position FROM requests) USING (position)
LEFT JOIN (SELECT request_id, count(*) AS attempts
           FROM failures WHERE round = current_round() GROUP BY request_id) USING (request_id)
ORDER BY place

-- name: failed_alike
-- Of the current round: how many requests failed for good, in how many ways, the way and words of one of
-- them; and how many answers and requests the run has.
SELECT count(*), count(DISTINCT (kind, code)), any_value(kind), any_value(code), any_value(message),
       (SELECT count(*) FROM results),
       (SELECT count(*) FROM requests ANTI JOIN superseded_requests USING (request_id))
FROM (SELECT request_id, arg_max(kind, rowid) AS kind, arg_max(coalesce(code, ''), rowid) AS code,
             arg_max(message, rowid) AS message
      FROM failures
      WHERE round = current_round()
      GROUP BY request_id)
SEMI JOIN failed_for_good($max_attempts) USING (request_id)

-- name: current_round
SELECT current_round()

-- name: status
-- uncounted: superseded requests without a result and in no job, and retries that failed for good.
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
SELECT
    (SELECT count(*) FROM records),
    (SELECT count(*) FROM requests) - (SELECT count(*) FROM uncounted),
    (SELECT count(*) FROM requests SEMI JOIN results USING (request_id)),
    (SELECT count(*) FROM failed ANTI JOIN uncounted USING (request_id)),
    (SELECT count(*) FROM requests_in_jobs ANTI JOIN results USING (request_id)),
    (SELECT count(*) FROM (FROM results WHERE finish_reason = 'length') SEMI JOIN current_asks USING (request_id)),
    (SELECT coalesce(sum(prompt_tokens), 0)::BIGINT FROM results),
    (SELECT coalesce(sum(completion_tokens), 0)::BIGINT FROM results)

-- name: unasked
-- Records and variants without a question for their answer.
SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM variants)
       - (SELECT count(*) FROM asks WHERE stage = 'answer' AND version = 0)

-- name: failure_reasons
-- The latest message of each request whose result is missing, most frequent first.
SELECT kind, message, count(*) AS requests
FROM (SELECT request_id, arg_max(kind, rowid) AS kind, arg_max(message, rowid) AS message
      FROM failures
      ANTI JOIN results USING (request_id)
      ANTI JOIN unneeded_requests USING (request_id)
      GROUP BY request_id)
GROUP BY kind, message
ORDER BY requests DESC, message
LIMIT 5

-- name: export_keys_answered
-- What exports are made of, as narrow keys in sample order: one row an answered record or variant, in
-- pages of so many bytes of text. The texts are read page by page: joined and sorted as a whole they
-- would not fit any memory limit.
CREATE OR REPLACE TEMP TABLE export_keys AS
SELECT *, sum(bytes) OVER (ORDER BY record, ordinal) // $page_bytes AS page
FROM (
    SELECT record, ordinal, record_row, result_row, variant_row, record_bytes + result_bytes AS bytes
    FROM (SELECT record, ordinal, request_id FROM current_asks WHERE stage = 'answer')
    JOIN (SELECT record, rowid AS record_row, strlen(instruction) + strlen(input) AS record_bytes
          FROM records) USING (record)
    JOIN (SELECT request_id, rowid AS result_row,
                 strlen(text) + strlen(coalesce(reasoning, '')) AS result_bytes
          FROM results) USING (request_id)
    LEFT JOIN (SELECT record, ordinal, rowid AS variant_row FROM variants) USING (record, ordinal))
ORDER BY record, ordinal

-- name: export_rows_answered
CREATE OR REPLACE TEMP VIEW export_rows AS
SELECT keys.record, keys.ordinal, coalesce(variants.instruction, records.instruction) AS instruction,
       records.input, results.text AS output, coalesce(results.reasoning, '') AS reasoning,
       results.finish_reason, (SELECT model FROM run) AS model, records.source_row,
       records.instruction AS original_instruction
FROM (SELECT * FROM export_keys WHERE page = getvariable('page')) AS keys
JOIN (SELECT *, rowid AS record_row FROM records
      WHERE rowid BETWEEN getvariable('first_record') AND getvariable('last_record')) AS records
    USING (record_row)
JOIN export_results AS results USING (result_row)
LEFT JOIN (SELECT *, rowid AS variant_row FROM variants
           WHERE rowid BETWEEN getvariable('first_variant') AND getvariable('last_variant')) AS variants
    USING (variant_row)

-- name: export_results_in_order
-- The results of a page, and others between them.
CREATE OR REPLACE TEMP VIEW export_results AS
SELECT rowid AS result_row, text, reasoning, finish_reason
FROM results
WHERE rowid BETWEEN getvariable('first_result') AND getvariable('last_result')

-- name: write_export_results
-- Results that came in another order than their rows', as files by page.
COPY (
    SELECT page, result_row, text, reasoning, finish_reason
    FROM (SELECT DISTINCT page, result_row FROM export_keys)
    JOIN (SELECT rowid AS result_row, text, reasoning, finish_reason FROM results) USING (result_row)
) TO $folder (FORMAT parquet, PARTITION_BY (page))

-- name: export_results_by_page
CREATE OR REPLACE TEMP VIEW export_results AS
FROM read_parquet(getvariable('export_folder') || '/page=' || getvariable('page') || '/*.parquet',
                  hive_partitioning := false)

-- name: export_keys_originals
CREATE OR REPLACE TEMP TABLE export_keys AS
SELECT *, sum(bytes) OVER (ORDER BY record) // $page_bytes AS page
FROM (SELECT record, 0 AS ordinal, rowid AS record_row, NULL::BIGINT AS result_row, NULL::BIGINT AS variant_row,
             strlen(instruction) + strlen(input) + strlen(original_output) + strlen(reasoning) AS bytes
      FROM records)
ORDER BY record

-- name: export_rows_originals
-- The dataset's own outputs, for a run that skips generation.
CREATE OR REPLACE TEMP VIEW export_rows AS
SELECT record, 0 AS ordinal, instruction, input, original_output AS output, reasoning,
       NULL::VARCHAR AS finish_reason, NULL::VARCHAR AS model, source_row,
       instruction AS original_instruction
FROM records
JOIN (SELECT record FROM export_keys WHERE page = getvariable('page')) USING (record)
WHERE rowid BETWEEN getvariable('first_record') AND getvariable('last_record')

-- name: export_counts
-- What decides what is exported.
SELECT (SELECT count(*) FROM asks), (SELECT count(*) FROM results), (SELECT count(*) FROM variants)

-- name: exported
-- What was said of each export, in the order in which they were written.
SELECT detail FROM events WHERE event = 'exported' ORDER BY rowid

-- name: count_rows
-- Rows that an export has once all of them are answered, as far as they are known.
SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM variants)

-- name: export_pages
SELECT page, min(record_row), max(record_row), coalesce(min(result_row), 0), coalesce(max(result_row), 0),
       coalesce(min(variant_row), 0), coalesce(max(variant_row), 0)
FROM export_keys GROUP BY page ORDER BY page

-- name: export_scans
-- How many results are read where each page reads all between its first and its last; how many there are.
SELECT coalesce(sum(results), 0)::BIGINT, (SELECT count(*) FROM results)
FROM (SELECT max(result_row) - min(result_row) + 1 AS results FROM export_keys GROUP BY page)

-- name: insert_job_event
INSERT INTO job_events VALUES ($job_id, $event, $batch_id, (now() AT TIME ZONE 'UTC'), $detail)

-- name: job_events
SELECT job_id, event, batch_id, detail FROM job_events ORDER BY rowid

-- name: line_up
-- What is pending, in the order in which it goes into job files; incoming: its rows in that order. bytes:
-- 200 is what a line has around its messages and parameters.
CREATE OR REPLACE TEMP TABLE queue AS
SELECT place, request_id, strlen(params) + strlen(messages) + 200 AS bytes, about_tokens(strlen(messages)) AS tokens,
       strlen(messages) AS prompt_bytes, limit_of(params) AS max_tokens
FROM incoming JOIN (SELECT *, rowid AS position FROM requests) USING (position)
ORDER BY place

-- name: next_job
-- The next in the queue that fit into one job file, at least one if the money allows: the last's place, how
-- many, their tokens, and what bounds their cost.
SELECT max(place), count(*), coalesce(sum(tokens), 0)::BIGINT, coalesce(sum(prompt_bytes), 0)::BIGINT,
       coalesce(sum(max_tokens), 0)::BIGINT
FROM (
    SELECT place, tokens, prompt_bytes, max_tokens, row_number() OVER running AS requests,
           sum(bytes) OVER running AS running_bytes, sum(tokens) OVER running AS running_tokens,
           sum(worst_cost(prompt_bytes, max_tokens, $input, $output)) OVER running AS running_cost
    FROM (FROM queue WHERE place >= $first AND place < $first + $max_requests)
    WINDOW running AS (ORDER BY place)
)
WHERE (requests = 1 OR (running_bytes <= $max_bytes AND running_tokens <= $max_tokens))
  AND running_cost <= $max_cost

-- name: insert_job_requests
-- In the order of the job's lines.
INSERT INTO job_requests
SELECT $job_id, request_id, prompt_bytes, max_tokens FROM queue WHERE place BETWEEN $first AND $last ORDER BY place

-- name: job_span
-- Between which rows of requests a job's are, and the different parameters they have.
SELECT min(position), max(position), list(DISTINCT params)
FROM (SELECT request_id, params, rowid AS position FROM requests)
SEMI JOIN (SELECT request_id FROM job_requests WHERE job_id = $job_id) USING (request_id)

-- name: job_lines
-- A job's lines in order, each with its newline. incoming: for each params the opening of a request's body,
-- '{"model":…' without its closing brace.
SELECT '{"custom_id":"' || request_id::VARCHAR || '","method":"POST","url":"' || $endpoint
       || '","body":' || incoming.opening || ',"messages":' || messages || '}}' || chr(10)
FROM (SELECT request_id, rowid AS line FROM job_requests WHERE job_id = $job_id)
JOIN (SELECT * FROM requests WHERE rowid BETWEEN $first AND $last) USING (request_id)
JOIN incoming USING (params)
ORDER BY line

-- name: insert_job_results
-- The first success of a request wins; others' requests stay out.
INSERT INTO results
SELECT request_id, text, reasoning, finish_reason, prompt_tokens, completion_tokens, cached_tokens,
       $backend, cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output), $job_id,
       (now() AT TIME ZONE 'UTC'), false
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
SEMI JOIN (SELECT request_id FROM job_requests WHERE job_id = $job_id) USING (request_id)
ANTI JOIN results USING (request_id)

-- name: insert_plain_results
-- An output file all of whose lines are answers as they usually are. Fails at the first that is otherwise:
-- a text, its end and a usage that can be, nothing refused, nothing reasoned, our request.
INSERT INTO results
SELECT request_id,
       CASE WHEN status_code = 200 AND starts_with(content, '"') AND NOT regexp_matches(content, 'think(>|\\u003[eE])')
                 AND nothing_else AND finish_reason IN ('stop', 'length')
                 AND plausible_usage(prompt_tokens, cached_tokens, completion_tokens, content <> '""',
                                     prompt_bytes, max_tokens)
            THEN content ->> '$' ELSE error('not plain') END,
       NULL, finish_reason, prompt_tokens, completion_tokens, cached_tokens, $backend,
       cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output), $job_id,
       (now() AT TIME ZONE 'UTC'), false
FROM (
    SELECT try_cast(custom_id AS UUID) AS request_id, response.status_code,
           choice.message.content, choice.finish_reason,
           coalesce(error, choice.message.refusal, choice.message.reasoning,
                    choice.message.reasoning_content) IS NULL AS nothing_else,
           plain_count(usage.prompt_tokens) AS prompt_tokens,
           plain_count(usage.completion_tokens) AS completion_tokens,
           plain_count(usage.prompt_tokens_details.cached_tokens) AS cached_tokens
    FROM (
        SELECT *, response.body.choices[1] AS choice, response.body.usage AS usage
        FROM read_json($path, format := 'newline_delimited', maximum_object_size := 4194304, columns := {
            custom_id: 'VARCHAR', error: 'JSON',
            response: 'STRUCT(status_code BIGINT, body STRUCT(
                choices STRUCT(
                    message STRUCT(content JSON, refusal JSON, reasoning JSON, reasoning_content JSON),
                    finish_reason VARCHAR)[],
                usage STRUCT(prompt_tokens VARCHAR, completion_tokens VARCHAR,
                             prompt_tokens_details STRUCT(cached_tokens VARCHAR))))'})))
LEFT JOIN (SELECT request_id, prompt_bytes, max_tokens FROM job_requests WHERE job_id = $job_id) USING (request_id)

-- name: job_bounds
-- What bounds the usage of each of a job's requests.
SELECT request_id::VARCHAR, prompt_bytes, max_tokens FROM job_requests WHERE job_id = $job_id

-- name: job_dearest
-- What bounds the usage of so many of a job's requests, whichever they are.
SELECT (SELECT sum(prompt_bytes) FROM (SELECT prompt_bytes FROM job_requests WHERE job_id = $job_id
                                       ORDER BY prompt_bytes DESC LIMIT $number)),
       (SELECT sum(max_tokens) FROM (SELECT max_tokens FROM job_requests WHERE job_id = $job_id
                                     ORDER BY max_tokens DESC LIMIT $number))

-- name: count_answered
-- How many requests of a job have a result.
SELECT count(*)
FROM (SELECT request_id FROM job_requests WHERE job_id = $job_id) SEMI JOIN results USING (request_id)

-- name: job_usage
SELECT count(DISTINCT request_id), coalesce(sum(prompt_tokens), 0)::BIGINT,
       coalesce(sum(cached_tokens), 0)::BIGINT, coalesce(sum(completion_tokens), 0)::BIGINT
FROM results WHERE job_id = $job_id

-- name: insert_job_failures
INSERT INTO failures
SELECT request_id, kind, code, message, retryable, text,
       $round, $job_id, (now() AT TIME ZONE 'UTC')
FROM (SELECT * REPLACE (request_id::UUID AS request_id) FROM incoming)
SEMI JOIN (SELECT request_id FROM job_requests WHERE job_id = $job_id) USING (request_id)
ANTI JOIN (SELECT request_id FROM failures WHERE job_id = $job_id) USING (request_id)

-- name: job_heard
-- Of a job's requests: those of which the lines of a batch have an answer, those of which they have an
-- error, those without a line, and of these those that the job has neither a result nor a failure of.
-- incoming: ids, and what the lines have.
SELECT count(*) FILTER (kind = 'answer'), count(*) FILTER (kind = 'error'), count(*) FILTER (kind IS NULL),
       count(*) FILTER (kind IS NULL AND answered IS NULL)
FROM (SELECT request_id FROM job_requests WHERE job_id = $job_id)
LEFT JOIN (SELECT request_id::UUID AS request_id, kind FROM incoming) USING (request_id)
LEFT JOIN (SELECT request_id, true AS answered FROM results
           UNION SELECT request_id, true FROM failures WHERE job_id = $job_id) USING (request_id)

-- name: insert_missing
-- Requests of a job of which its files say nothing; incoming: those of which they say 'untried'.
INSERT INTO failures
SELECT request_id, 'server', NULL, $message, $retryable, NULL,
       $round, $job_id, (now() AT TIME ZONE 'UTC')
FROM (SELECT request_id FROM job_requests WHERE job_id = $job_id)
ANTI JOIN results USING (request_id)
ANTI JOIN (SELECT request_id FROM failures WHERE job_id = $job_id) USING (request_id)
ANTI JOIN (SELECT request_id::UUID AS request_id FROM incoming) USING (request_id)

-- name: request_of_line
-- The request on a 1-based line of a job's file.
SELECT request_id::VARCHAR FROM job_requests WHERE job_id = $job_id ORDER BY rowid LIMIT 1 OFFSET $line - 1

-- name: count_results
SELECT count(*) FROM results

-- name: any_result
SELECT count(*) > 0 FROM (SELECT 1 FROM results LIMIT 1)
