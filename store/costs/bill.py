"""The bill of a run: what was spent, what may have been billed besides, and what was saved."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from store.jobs.job import Job, JobState
from store.money import (
    Cost,
    CostItem,
    PriceSnapshot,
    Rates,
    Saved,
    Usage,
    dollars,
    rate_parameters,
)

if TYPE_CHECKING:
    from store.database.connection import Database
    from store.jobs.journal import Journal


def current_price(database: Database) -> PriceSnapshot | None:
    """The price that was recorded last."""
    row = next(iter(database.rows("priced")), None)
    return None if row is None else msgspec.json.decode(row[0], type=PriceSnapshot)


def bill(database: Database, journal: Journal, done: int, left: int) -> Cost:
    """The run's cost so far. left: requests without an answer, at the mean cost."""
    price = current_price(database)
    if price is None:
        return Cost("USD", None, None)
    rates = rate_parameters(price.rates)
    stages = database.rows("billed_by_stage", **rates)
    repeated = sum(row[6] for row in stages)
    answers, failed, unanswered, in_flight = map(int, database.row("spent_live", **rates))
    jobs = list(journal.jobs().values())
    billed = sum((job.rates or price.rates).cost(job.usage) for job in jobs)
    unmetered = sum(_uncertain(job, job.rates or price.rates) for job in jobs)
    spent = answers + failed + billed
    (reused,) = database.row("reused_cost", **rates)
    usual = Usage(
        sum(job.usage.prompt for job in jobs),
        sum(job.usage.cached for job in jobs),
        sum(job.usage.completion for job in jobs),
    )
    return Cost(
        "USD",
        dollars(spent),
        dollars(spent + (spent * left // done if done else 0)) if done or not left else None,
        dollars(unanswered + in_flight + unmetered),
        Saved(
            None if price.live is None else dollars(price.live.cost(usual) - billed),
            dollars(repeated),
            dollars(int(reused or 0)),
        ),
        price.source,
        tuple(_item(*row[:6]) for row in stages),
        tuple(
            _item(
                job.job_id,
                job.requests,
                job.usage.prompt,
                job.usage.cached,
                job.usage.completion,
                (job.rates or price.rates).cost(job.usage),
            )
            for job in jobs
            if job.usage != Usage()
        ),
        dollars(in_flight),
    )


def _uncertain(job: Job, rates: Rates) -> int:
    """Picodollars that a job may have been billed, at most, for answers that were not delivered."""
    given_up = job.at_risk(rates) if job.state is JobState.CLOSED else 0
    return rates.cost(job.uncertain) + given_up


def _item(
    name: str, answers: int, prompt: int, cached: int, completion: int, cost: int | None
) -> CostItem:
    money: Decimal | None = None if cost is None else dollars(cost)
    return CostItem(name, answers, prompt, cached, completion, money)
