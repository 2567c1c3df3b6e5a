-- Prices, charges, and what was spent. Statements by name, with named
-- parameters; 'incoming': rows that the caller registers.

-- name: priced
-- The current price.
SELECT detail FROM events WHERE event = 'priced' ORDER BY rowid DESC LIMIT 1;

-- name: cost_options
-- The last cap and prices of the user.
SELECT detail FROM events WHERE event = 'cost_options' ORDER BY rowid DESC LIMIT 1;

-- name: estimated
SELECT count(*) > 0 FROM events WHERE event = 'estimated';

-- name: insert_charge
INSERT INTO charges
VALUES ($cost, $prompt, $cached, $completion, $reason, (now() AT TIME ZONE 'UTC'));

-- name: max_cost_of_pending
-- Maximum picodollars of the $requests most expensive pending requests.
SELECT coalesce(sum(cost), 0)
FROM (SELECT worst_cost(prompt_bytes_of(params, messages, tools) + image_tokens, limit_of(params), $input, $output)
             AS cost
      FROM pending_requests($max_attempts) JOIN requests USING (request_id)
      ORDER BY cost DESC
      LIMIT $requests);

-- name: spent_live
-- Picodollars of results without a job, of billed failures, of requests without an answer that may have been
-- billed, and of requests that were in flight at a crash or are now. Usage from before a price was known counts at
-- the rates given.
SELECT (SELECT coalesce(sum(coalesce(cost, cost_of(prompt_tokens, cached_tokens, completion_tokens,
                                                    $input, $cached, $output))), 0)
        FROM results WHERE job_id IS NULL),
       coalesce(sum(picodollars) FILTER (WHERE reason = 'failed'), 0),
       coalesce(sum(picodollars) FILTER (WHERE reason = 'unanswered'), 0),
       coalesce(sum(picodollars) FILTER (WHERE reason = 'in flight'), 0)
FROM (SELECT reason, coalesce(cost, cost_of(prompt_tokens, cached_tokens, completion_tokens,
                                             $input, $cached, $output)) AS picodollars
      FROM charges);

-- name: billed_by_stage
-- Answers by stage, their tokens and picodollars; repeated: what equal requests of further rows would have cost.
-- Usage without a known cost counts at the rates given.
SELECT stage, count(*), coalesce(sum(prompt_tokens), 0)::BIGINT, coalesce(sum(cached_tokens), 0)::BIGINT,
       coalesce(sum(completion_tokens), 0)::BIGINT, sum(picodollars),
       coalesce(sum(picodollars * (rows - 1)), 0) AS repeated
FROM (SELECT *, rowid, coalesce(cost, cost_of(prompt_tokens, cached_tokens, completion_tokens,
                                               $input, $cached, $output)) AS picodollars
      FROM results) AS results
JOIN (SELECT request_id, min(stage) AS stage, count(*) AS rows FROM row_requests GROUP BY request_id) USING (request_id)
WHERE NOT reused
GROUP BY stage
ORDER BY min(results.rowid);

-- name: reused_cost
-- Picodollars that reused answers would have cost.
SELECT sum(cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output))
FROM results WHERE reused;
