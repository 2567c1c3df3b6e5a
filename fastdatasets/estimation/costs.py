"""Messages about the cost of a run with a server: before it sends, and after first answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from backends.registry import find_backend
from fastdatasets.config.backend import budget_of
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.settings import Settings
from fastdatasets.estimation.estimate import MAX_COUNTED_QUICKLY, Estimate, expected
from fastdatasets.estimation.text import one_line
from fastdatasets.pricing.prices import JUDGE_PRICE, PRICE, parse_price, usd
from fastdatasets.pricing.tokens import counter_for
from fastdatasets.progress import RunProgress
from store import RunFolder, Unfinished, WorkStore
from store.money import Usage, dollars
from store.status import Status

ANSWERS_TO_LEARN_FROM = 20  # as in the view expected_lengths


def keep_cost_options(
    store: WorkStore, execution: ExecutionConfig, say: Callable[[str], None]
) -> ExecutionConfig:
    """The options, with the run's stored cap and prices where the command has none.

    A cap holds for the whole run; a command with another cap replaces it. Raises UserError for
    invalid amounts.
    """
    budget_of(execution)
    kept = store.costs.options()
    cap = execution.max_cost or kept.get("max_cost")
    prices: dict[str, Any] = {}
    for options, name in ((PRICE, "price"), (JUDGE_PRICE, "judge_price")):
        named = {key: getattr(execution, key) for key in (f"{name}_in", f"{name}_out")}
        price_in, price_out = named.values()
        given = parse_price(price_in, price_out, options) is not None
        prices |= named if given else {key: kept.get(key) for key in named}
    if cap is None and not any(prices.values()):
        return execution
    store.costs.set_options({"max_cost": cap, **prices})
    if cap is not None and execution.max_cost is None:
        say(f"--max-cost {cap} of this run holds; another --max-cost replaces it")
    return replace(execution, max_cost=cap, **prices)


def open_costs(
    folder: RunFolder,
    store: WorkStore,
    progress: RunProgress,
    execution: ExecutionConfig,
    settings: Settings,
) -> None:
    """Show the estimate of a run that has sent nothing; confirm a high cost on a terminal.

    Raises Unfinished where the user declines.
    """
    if store.requests.has_sent() or not store.requests.has_pending(execution.max_attempts):
        return
    run = store.run()
    estimate = expected(
        store,
        run,
        counter_for(run.model, quick=True),  # without tokenizers that take seconds to load
        max_attempts=execution.max_attempts,
        prompts=MAX_COUNTED_QUICKLY,
        price=parse_price(execution.price_in, execution.price_out),
        judge_price=parse_price(execution.judge_price_in, execution.judge_price_out, JUDGE_PRICE),
    )
    judge: str | None = None
    if run.judge is not None and find_backend(run.judge.backend).uses_server:
        judge = run.judge.backend
    progress.say(one_line(estimate, run.backend, judge))
    if estimate.is_learnt:
        store.costs.record_estimate()
    cost, limit = (
        _cost(estimate, run.backend, judge, execution),
        settings.fastdatasets_confirm_above,
    )
    if execution.yes or cost is None or not 0 < limit < cost:
        return
    if not progress.confirm(
        f"{usd(cost)} are more than FASTDATASETS_CONFIRM_ABOVE ({limit:f}). Send it? [y/N] "
    ):
        raise Unfinished(
            f"nothing was sent. 'fastdatasets resume {folder.path} --yes' sends it: with "
            "--max-cost up to so many USD, with a smaller --max-output-tokens for less. A smaller "
            "--sample-size makes another run"
        )


def _cost(
    estimate: Estimate, backend: str, judge: str | None, execution: ExecutionConfig
) -> Decimal | None:
    """Expected USD of a run; the maximum where no length is known; None: no price.

    judge: the backend of a paid one.
    """
    quotes = [estimate.quote(backend)]
    if judge is not None and estimate.judge is not None:
        quotes.append(estimate.judge.quote(judge))
    costs = [one.max_cost if one.expected_cost is None else one.expected_cost for one in quotes]
    known = [cost for cost in costs if cost is not None]
    cost = sum(known, Decimal(0)) if known else None
    budget = budget_of(execution)
    return cost if cost is None or budget is None else min(cost, dollars(budget))


class SecondEstimate:
    """A line, once a run, with the cost of the rest estimated from the first answers."""

    def __init__(self, execution: ExecutionConfig) -> None:
        self._execution = execution
        self._is_done = False

    def __call__(self, store: WorkStore, status: Status) -> str | None:
        """The line, or None where it is not due; called after every count."""
        counts = status.requests
        is_time = counts.done >= ANSWERS_TO_LEARN_FROM and counts.pending + counts.in_flight > 0
        if self._is_done or not is_time or not store.requests.has_sent():
            return None
        if store.costs.is_estimated():
            self._is_done = True
            return None
        outlook = store.requests.outlook(self._execution.max_attempts)
        if not outlook.is_learnt:
            return None
        self._is_done = True
        store.costs.record_estimate()
        line = (
            f"estimate from {counts.done} answers: {outlook.requests} more will take about "
            f"{outlook.prompt_tokens} prompt and {outlook.completion_tokens} completion tokens"
        )
        price, spent, budget = store.costs.price(), status.cost.spent, budget_of(self._execution)
        if price is None or spent is None:
            return line
        usage = Usage(outlook.prompt_tokens, 0, outlook.completion_tokens)
        total = spent + dollars(price.rates.cost(usage))
        line += f"; {usd(spent)} spent, {usd(total)} expected in all"
        if budget is None:
            return line
        fits = "within" if total <= dollars(budget) else "more than"
        return f"{line}, {fits} --max-cost {Decimal(self._execution.max_cost or 0):f}"
