-- Prices, charges, and what was spent. Statements by name, with named parameters; 'incoming' is what a caller registers.

-- name: priced
-- The price now.
SELECT detail FROM events WHERE event = 'priced' ORDER BY rowid DESC LIMIT 1

-- name: cost_options
-- The cap and prices that the user gave, the last ones.
SELECT detail FROM events WHERE event = 'cost_options' ORDER BY rowid DESC LIMIT 1

-- name: estimated
SELECT count(*) > 0 FROM events WHERE event = 'estimated'

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
JOIN (SELECT request_id, min(stage) AS stage, count(*) AS asked FROM row_requests GROUP BY request_id) USING (request_id)
WHERE NOT reused
GROUP BY stage
ORDER BY min(results.rowid)

-- name: reused_cost
-- Picodollars that reused answers would have cost.
SELECT sum(cost_of(prompt_tokens, cached_tokens, completion_tokens, $input, $cached, $output))
FROM results WHERE reused
