-- The work store of one run. Every table is append-only: what is done, pending or failed is a query over them, never
-- a column to update. No PRIMARY KEY or UNIQUE: at two million rows they cost 7 times the insert time and 5 times the
-- size, so inserts use anti-joins. Rows are never deleted, so rowid is the order of insertion. Texts are compressed
-- with zstd: the default, which tries all methods, takes twice the time and three times the size.

CREATE TABLE meta (
    schema_version INTEGER NOT NULL
);

-- One row: the run. All that enters a request is here, frozen.
CREATE TABLE run (
    run_id          UUID NOT NULL,
    created_at      TIMESTAMP NOT NULL,   -- UTC
    mode            VARCHAR NOT NULL CHECK (mode IN ('distill', 'augment')),
    backend         VARCHAR NOT NULL,
    base_url        VARCHAR,              -- the server's address in its normal form; null: a local backend
    model           VARCHAR NOT NULL,
    sources         JSON NOT NULL,        -- [{name, weight}]; name: a local path, absolute, or a Hub name
    config          VARCHAR,
    split           VARCHAR NOT NULL,
    reading         JSON NOT NULL,        -- encoding, delimiter, skip_bad_rows
    selection       JSON NOT NULL,        -- where, lengths, languages, dedup, stratify: which rows may be sampled
    sample_size     BIGINT NOT NULL,      -- 0: all rows
    seed            BIGINT NOT NULL,
    columns         JSON NOT NULL,        -- role -> the column named by the user, or null
    turns           VARCHAR NOT NULL CHECK (turns IN ('last', 'first', 'all')),
    images          BOOLEAN NOT NULL,     -- images of records go with their requests
    image_tokens    BIGINT,               -- the most prompt tokens of an image, by the model; null: not known
    samples         INTEGER NOT NULL,     -- answers to each question
    params          JSON NOT NULL,        -- generation parameters, without the model
    system_prompt   VARCHAR,
    language        VARCHAR NOT NULL CHECK (language IN ('zh', 'en', 'auto')),
    templates       JSON NOT NULL,        -- template name -> its text
    final_stage     VARCHAR NOT NULL,     -- the stage whose answers are exported: of each record and variant
    num_aug         INTEGER NOT NULL,     -- variants of each record; 0 where the mode is distill
    skip_generation BOOLEAN NOT NULL,
    checks          JSON NOT NULL,        -- of answers, beside those of every run
    judge           JSON NOT NULL,        -- backend, base_url, model, params; or null
    export          JSON NOT NULL         -- formats, include_reasoning, output_file, …
);

-- Rows sampled from the sources, one source after the other, in sample order (record = 0, 1, 2, …).
CREATE TABLE records (
    record          BIGINT NOT NULL,
    source          INTEGER NOT NULL,     -- 0-based position in run.sources
    source_row      BIGINT NOT NULL,      -- 0-based position in its source
    instruction     VARCHAR NOT NULL USING COMPRESSION zstd,
    input           VARCHAR NOT NULL USING COMPRESSION zstd,
    original_output VARCHAR NOT NULL USING COMPRESSION zstd,
    reasoning       VARCHAR NOT NULL USING COMPRESSION zstd,  -- the dataset's own
    system          VARCHAR USING COMPRESSION zstd,  -- the record's own system prompt
    history         VARCHAR USING COMPRESSION zstd,  -- JSON: the messages before the question, without system
    tools           VARCHAR USING COMPRESSION zstd,  -- JSON: the tools of the conversation, in OpenAI's form
    tool_calls      VARCHAR USING COMPRESSION zstd,  -- JSON: the original output's
    outputs         VARCHAR USING COMPRESSION zstd,  -- JSON: all original outputs, where there are several
    followups       VARCHAR USING COMPRESSION zstd,  -- JSON: later questions of the user, asked one after the other
    fields          VARCHAR USING COMPRESSION zstd   -- JSON: other columns of the row, where a template uses them
);

-- Images of records, in the order of their '<image>' in the texts.
CREATE TABLE images (
    record      BIGINT NOT NULL,
    place       INTEGER NOT NULL,         -- from 0
    url         VARCHAR NOT NULL,         -- as exported: an address, a path as in the dataset, or images/… in the folder
    detail      VARCHAR,                  -- low, high, auto; null: not said
    sha256      VARCHAR,                  -- of its bytes; null: an address, which the server fetches
    path        VARCHAR,                  -- the file of its bytes, absolute or from the run's folder; null: an address
    bytes       BIGINT                    -- of the file
);

-- A question as duplicates are compared: in lower case, with single spaces.
CREATE MACRO normal_question(instruction, input) AS
    lower(trim(regexp_replace(concat_ws(' ', instruction, input), '[\s\p{Z}]+', ' ', 'g')));

-- A hash of what is asked with a question; empty where there is nothing. images: their URLs.
CREATE MACRO context_of(system, history, tools, followups, images) AS
    CASE WHEN coalesce(system, history, tools, followups) IS NULL AND images IS NULL THEN ''
         ELSE md5(json_array(system, history, tools, followups, images)::VARCHAR) END;

-- A hash that is equal for equal questions.
CREATE MACRO question_key(instruction, input, context) AS
    md5_number(normal_question(instruction, input) || chr(10) || context);

-- New instructions from answers of a stage before the final one, used with the record's input. ordinal: 1, 2, …
CREATE TABLE variants (
    record      BIGINT NOT NULL,
    ordinal     INTEGER NOT NULL,
    instruction VARCHAR NOT NULL USING COMPRESSION zstd
);

-- Answers that were ingested, each once: how many variants were kept, and how many dropped as near-duplicates; both 0
-- where the answer could not be parsed.
CREATE TABLE ingestions (
    record  BIGINT NOT NULL,
    stage   VARCHAR NOT NULL,
    generation INTEGER NOT NULL,
    kept    INTEGER NOT NULL,
    dropped INTEGER NOT NULL
);

-- Answers that a check rejected, and why: an answer to a row, by the request_id of one of the row's requests. A row
-- with a rejected answer can get a further request, as the next generation or version. Others are only flagged.
CREATE TABLE verdicts (
    record      BIGINT NOT NULL,
    stage       VARCHAR NOT NULL,
    ordinal     INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    request_id  UUID NOT NULL,
    check_name  VARCHAR NOT NULL,         -- as in fastdatasets/checks/kinds.py, or MODULE:FUNCTION
    reason      VARCHAR NOT NULL,
    happened_at TIMESTAMP NOT NULL
);

-- Answers of the final stage that were checked, each once. final_answer: the short one that the answer ends with; null
-- where there is none.
CREATE TABLE checked_answers (
    record       BIGINT NOT NULL,
    ordinal      INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    request_id   UUID NOT NULL,
    final_answer VARCHAR USING COMPRESSION zstd
);

-- What a judge said of an answer of the final stage, which request_id is of. score: null where it could not be read.
CREATE TABLE scores (
    record     BIGINT NOT NULL,
    ordinal    INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    request_id UUID NOT NULL,
    score      INTEGER,
    reason     VARCHAR NOT NULL USING COMPRESSION zstd
);

-- Chat completion requests. request_id: the first 128 bits of the SHA-256 of the canonical request (and of the
-- generation, where an equal request is sent again on purpose): equal requests have one id, in all stores.
CREATE TABLE requests (
    request_id UUID NOT NULL,
    params     VARCHAR NOT NULL,          -- canonical JSON: the model and its generation parameters
    messages   VARCHAR NOT NULL USING COMPRESSION zstd,          -- canonical JSON: [{"content", "role"}, …]
    tools      VARCHAR USING COMPRESSION zstd,                   -- canonical JSON, as its body has them; null: none
    images     INTEGER NOT NULL,          -- how many it has; in messages as sha256:… or an address
    image_tokens BIGINT NOT NULL,         -- the most prompt tokens of these
    image_bytes BIGINT NOT NULL           -- of these as data URLs in its body
);

-- The requests of the rows of a stage. generation > 0: an equal request again, on purpose: for more variants, or as
-- one of run.samples answers.
-- version > 0: again with another limit, or since a check rejected the answer; it supersedes the lower versions of the
-- same record, stage, ordinal and generation, which are not sent any more. The answer of the latest version that has
-- one counts. about: of a judge's request, the request whose answer it is about.
CREATE TABLE row_requests (
    record     BIGINT NOT NULL,
    stage      VARCHAR NOT NULL,
    ordinal    INTEGER NOT NULL,          -- 0: the record itself; 1, 2, …: its variants
    generation INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    request_id UUID NOT NULL,
    about      UUID
);

CREATE TABLE results (
    request_id        UUID NOT NULL,
    text              VARCHAR NOT NULL USING COMPRESSION zstd,
    reasoning         VARCHAR USING COMPRESSION zstd,
    finish_reason     VARCHAR,
    prompt_tokens     BIGINT,
    completion_tokens BIGINT,
    cached_tokens     BIGINT,
    backend           VARCHAR NOT NULL,
    cost              HUGEINT,            -- picodollars, at the price at that time; null: not known
    job_id            VARCHAR,
    happened_at       TIMESTAMP NOT NULL,
    reused            BOOLEAN NOT NULL,   -- copied from an earlier run: free in this one
    tool_calls        VARCHAR USING COMPRESSION zstd     -- JSON, as in an assistant's message; null: none
);

-- Failed attempts. round: the current one when the request was sent; only failures of the current round count as
-- attempts.
CREATE TABLE failures (
    request_id UUID NOT NULL,
    kind       VARCHAR NOT NULL CHECK (kind IN ('refused', 'server', 'filtered', 'unusable')),
    code       VARCHAR,
    message    VARCHAR NOT NULL,
    retryable  BOOLEAN NOT NULL,
    text       VARCHAR,                   -- the answer, where it could not be used
    round      INTEGER NOT NULL,
    job_id     VARCHAR,
    happened_at TIMESTAMP NOT NULL
);

-- What live requests cost, or may have cost, without a result: billed failures, and the maximum of requests without
-- an answer. 'in flight': the maximum of what a crash would lose, taken back when the command ends in order.
CREATE TABLE charges (
    cost        HUGEINT,                  -- picodollars, at the price at that time; null: not known
    prompt_tokens     BIGINT NOT NULL,    -- all three are 0 for 'in flight'
    cached_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reason      VARCHAR NOT NULL CHECK (reason IN ('failed', 'unanswered', 'in flight')),
    happened_at TIMESTAMP NOT NULL
);

-- What happened to the run as a whole.
CREATE TABLE events (
    event  VARCHAR NOT NULL CHECK (event IN ('sampled', 'retry_failed', 'stopped', 'priced', 'limit_changed', 'server_changed', 'other_servers', 'estimated', 'exported', 'cost_options')),
    happened_at TIMESTAMP NOT NULL,
    detail JSON NOT NULL
);

-- The journal of the Batch API: intents, committed before a call, and outcomes, committed after it. A job is one JSONL
-- file; its state is folded from its events (store/jobs/).
CREATE TABLE job_events (
    job_id      VARCHAR NOT NULL,
    event       VARCHAR NOT NULL CHECK (event IN ('planned', 'uploaded', 'creating', 'refused', 'not_found', 'closed', 'created', 'duplicate', 'cancelling', 'quota_refused', 'ended', 'awaited', 'collected', 'lost')),
    happened_at TIMESTAMP NOT NULL,
    detail      JSON NOT NULL
);

CREATE TABLE job_requests (
    job_id       VARCHAR NOT NULL,
    request_id   UUID NOT NULL,
    prompt_bytes BIGINT NOT NULL,         -- of its messages, and a byte for each token of images; with max_tokens: the
                                          -- limits of its usage
    max_tokens   BIGINT NOT NULL
);

-- The stage whose answers are exported.
CREATE MACRO final_stage() AS (SELECT final_stage FROM run);

-- Requests of jobs that are not closed: not to be sent again. A duplicate batch opens a job again.
CREATE VIEW requests_in_jobs AS
SELECT request_id
FROM job_requests
WHERE job_id NOT IN (SELECT job_id FROM job_events WHERE event IN ('closed', 'duplicate')
                     GROUP BY job_id HAVING arg_max(event, rowid) = 'closed');

-- The latest version of row requests with more than one.
CREATE VIEW latest_versions AS
SELECT record, stage, ordinal, generation, max(version) AS latest
FROM row_requests
WHERE version > 0
GROUP BY record, stage, ordinal, generation;

-- Row requests that were not superseded: the latest version of each.
CREATE VIEW latest_row_requests AS
SELECT record, stage, ordinal, generation, version, request_id, about
FROM row_requests
LEFT JOIN latest_versions USING (record, stage, ordinal, generation)
WHERE version = coalesce(latest, 0);

-- Row requests whose answers count: the latest version with a result; without any result, the first.
CREATE VIEW current_row_requests AS
SELECT record, stage, ordinal, generation, version, request_id, about
FROM row_requests
LEFT JOIN (SELECT record, stage, ordinal, generation, max(version) AS latest
           FROM row_requests SEMI JOIN results USING (request_id)
           WHERE version > 0
           GROUP BY record, stage, ordinal, generation) USING (record, stage, ordinal, generation)
WHERE version = coalesce(latest, 0);

-- Of row requests with more than one version, the lowest with a result. Higher ones are retries of that answer, which
-- was truncated.
CREATE VIEW answered_versions AS
SELECT record, stage, ordinal, generation, min(version) AS answered
FROM row_requests
SEMI JOIN latest_versions USING (record, stage, ordinal, generation)
SEMI JOIN results USING (request_id)
GROUP BY record, stage, ordinal, generation;

-- Requests that no row needs: all their row requests were superseded, or (retry) belong to rows that have a truncated
-- answer.
CREATE VIEW unneeded_requests AS
SELECT request_id, bool_or(version = latest) AS retry
FROM row_requests
SEMI JOIN (SELECT request_id FROM row_requests SEMI JOIN latest_versions USING (record, stage, ordinal, generation))
    USING (request_id)
LEFT JOIN latest_versions USING (record, stage, ordinal, generation)
LEFT JOIN answered_versions USING (record, stage, ordinal, generation)
GROUP BY request_id
HAVING bool_and(coalesce(version < latest OR version > answered, false));

-- The superseded ones of unneeded_requests, by a faster query.
CREATE VIEW superseded_requests AS
SELECT request_id
FROM row_requests
SEMI JOIN (SELECT request_id FROM row_requests SEMI JOIN latest_versions USING (record, stage, ordinal, generation))
    USING (request_id)
LEFT JOIN latest_versions USING (record, stage, ordinal, generation)
GROUP BY request_id
HAVING bool_and(coalesce(version < latest, false));

-- Bytes of what a model may read of a request: servers put tools and the form of an answer into the prompt.
CREATE MACRO prompt_bytes_of(params, messages, tools) AS
    strlen(messages) + coalesce(strlen(tools), 0) + coalesce(strlen(params ->> 'response_format'), 0);

-- Bytes of a request's line in a job file, 300 of them beside its messages, tools and parameters.
CREATE MACRO line_bytes(params, messages, tools, image_bytes) AS
    strlen(params) + prompt_bytes_of(params, messages, tools) + image_bytes + 300;

-- The images of records as requests have them: JSON, [{"url", "detail", "bytes"}, …].
CREATE VIEW sent_images AS
SELECT record, to_json(list({'url': coalesce('sha256:' || sha256, url), 'detail': detail, 'bytes': bytes}
                            ORDER BY place))::VARCHAR AS images
FROM images GROUP BY record;

-- Estimated prompt tokens of messages, by their bytes: a third, which is more than English needs and about right
-- for Chinese.
CREATE MACRO estimated_prompt_tokens(bytes) AS 1 + bytes // 3;

-- What equal texts have in common: letters and digits, without case.
CREATE MACRO letters_of(text) AS regexp_replace(lower(text), '[^\pL\pN]+', '', 'g');

-- The maximum tokens of an answer. A request without a limit gets the largest output of any known model.
CREATE MACRO limit_of(params) AS coalesce(params ->> 'max_tokens', '131072')::BIGINT;

-- Tokens of an output, by its bytes.
CREATE MACRO output_tokens(bytes) AS bytes / 3;

-- Expected completion tokens where there are no results to learn from: those of the old output, else (old_bytes is
-- 0) half of the limit.
CREATE MACRO default_expected_tokens(old_bytes, max_tokens) AS
    greatest(1, least(max_tokens,
                      CASE WHEN old_bytes > 0 THEN output_tokens(old_bytes) ELSE max_tokens / 2 END))::BIGINT;

-- What predicts an answer's length before there is one. old_bytes: of the old output of the records (0: none);
-- hint_bytes: these, else the prompt's. A retry of a truncated answer has no old_bytes: the old output predicted
-- less than half of the limit, and the answer was longer.
CREATE VIEW request_hints AS
SELECT request_id, params, limit_of(params) AS max_tokens, prompt_bytes_of(params, messages, tools) AS prompt_bytes,
       images, image_tokens,
       coalesce(output_bytes, 0) AS old_bytes, old_bytes > 0 AS has_old,
       CASE WHEN has_old THEN old_bytes ELSE prompt_bytes END AS hint_bytes
FROM requests
LEFT JOIN (SELECT request_id, max(strlen(original_output)) AS output_bytes
           FROM row_requests
           JOIN records USING (record)
           LEFT JOIN answered_versions USING (record, stage, ordinal, generation)
           WHERE stage = final_stage() AND ordinal = 0 AND version <= coalesce(answered, version)
           GROUP BY request_id) USING (request_id);

-- Expected completion tokens of each request. From 20 results on (is_learnt) a linear regression on hint_bytes where
-- it explains a tenth of the variance (r²), else the mean; before that default_expected_tokens.
CREATE VIEW expected_lengths AS
SELECT request_id, max_tokens, prompt_bytes, images, image_tokens, has_old, coalesce(results >= 20, false) AS is_learnt,
       CASE WHEN is_learnt
            THEN greatest(1, least(max_tokens, CASE WHEN fit >= 0.1 THEN base + slope * hint_bytes ELSE mean END))::BIGINT
            ELSE default_expected_tokens(old_bytes, max_tokens) END AS tokens
FROM request_hints
LEFT JOIN (SELECT params, has_old, count(completion_tokens) AS results, avg(completion_tokens) AS mean,
                  regr_r2(completion_tokens, hint_bytes) AS fit,
                  regr_slope(completion_tokens, hint_bytes) AS slope,
                  regr_intercept(completion_tokens, hint_bytes) AS base
           FROM request_hints JOIN results USING (request_id)
           GROUP BY params, has_old) USING (params, has_old);

-- A new round begins where earlier failures do not count any more: with --retry-failed, or where the run was stopped
-- because all requests failed for the same reason.
CREATE MACRO current_round() AS
    (SELECT count(*) FROM events WHERE event IN ('retry_failed', 'stopped'));

-- Requests without a result for which no attempt is left in the current round.
CREATE MACRO failed_for_good(max_attempts) AS TABLE
SELECT request_id
FROM (
    SELECT request_id, bool_or(NOT retryable) AS refused, count(*) AS attempts
    FROM failures
    WHERE round = current_round()
      AND request_id NOT IN (SELECT request_id FROM results)
    GROUP BY request_id)
WHERE refused OR attempts >= max_attempts;

-- Picodollars of a usage; null where the rates or the tokens are not known.
CREATE MACRO cost_of(prompt_tokens, cached_tokens, completion_tokens, input, cached, output) AS
    (prompt_tokens - coalesce(cached_tokens, 0))::HUGEINT * input + coalesce(cached_tokens, 0)::HUGEINT * cached
    + completion_tokens::HUGEINT * output;

-- The maximum tokens that can be billed for a prompt, by its bytes; see Bounds in store/money.py.
CREATE MACRO max_prompt_tokens(prompt_bytes) AS prompt_bytes + 512;

-- The maximum picodollars of a request.
CREATE MACRO worst_cost(prompt_bytes, max_tokens, input, output) AS
    cost_of(max_prompt_tokens(prompt_bytes), 0, max_tokens, input, 0, output);

-- A count in its usual JSON form; -1 for any other form.
CREATE MACRO plain_count(value) AS CASE
    WHEN value IS NULL THEN NULL WHEN regexp_full_match(value, '[0-9]{1,9}') THEN value::BIGINT ELSE -1 END;

-- Whether a request can have had this usage; null where it has none, or no bounds.
CREATE MACRO plausible_usage(prompt_tokens, cached_tokens, completion_tokens, has_text, prompt_bytes, max_tokens) AS
    prompt_tokens BETWEEN 1 AND max_prompt_tokens(prompt_bytes)
    AND coalesce(cached_tokens, 0) BETWEEN 0 AND prompt_tokens
    AND completion_tokens BETWEEN has_text::INTEGER AND max_tokens;

-- Requests without a result, not superseded, with attempts left and in no open job. position: the rowid, in the order
-- in which they were planned.
CREATE MACRO pending_requests(max_attempts) AS TABLE
SELECT request_id, requests.rowid AS position
FROM requests
ANTI JOIN results USING (request_id)
ANTI JOIN failed_for_good(max_attempts) USING (request_id)
ANTI JOIN requests_in_jobs USING (request_id)
ANTI JOIN superseded_requests USING (request_id);

-- Row requests without an answer whose limit is another.
CREATE MACRO row_requests_of_other_limits(max_tokens) AS TABLE
SELECT record, stage, ordinal, generation, version, request_id, about
FROM latest_row_requests
ANTI JOIN answered_versions USING (record, stage, ordinal, generation)
SEMI JOIN (SELECT request_id FROM requests ANTI JOIN results USING (request_id)
           WHERE limit_of(params) <> max_tokens) USING (request_id);
