"""Costs of a run: prices, charges without a result, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database
    from store.jobs.journal import Journal

from store.costs.bill import bill, current_price
from store.money import FREE, Billed, Cost, PriceSnapshot, Rates, rate_parameters
from store.runs import Event, append_event


class Costs:
    """What tokens of the run cost, and what was billed."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._db = database
        self._journal = journal

    def set_price(self, price: PriceSnapshot) -> None:
        """Record what tokens cost from now on."""
        if current_price(self._db) != price:
            append_event(self._db, Event.PRICED, price)

    def price(self) -> PriceSnapshot | None:
        """What tokens cost now, None where that is not known."""
        return current_price(self._db)

    def options(self) -> dict[str, str | None]:
        """The cap and prices of the run as the user wrote them; empty where there are none."""
        row = self._db.first("cost_options")
        return {} if row is None else msgspec.json.decode(row[0], type=dict[str, str | None])

    def set_options(self, options: Mapping[str, str | None]) -> None:
        """Record the cap and prices that hold from now on."""
        if self.options() != options:
            append_event(self._db, Event.COST_OPTIONS, options)

    def is_estimated(self) -> bool:
        """Whether record_estimate was called for this run."""
        (estimated,) = self._db.row("estimated")
        return bool(estimated)

    def record_estimate(self) -> None:
        """Record that an estimate from the run's own answers was shown."""
        append_event(self._db, Event.ESTIMATED, {})

    def add_charge(self, charge: Billed) -> None:
        """Record what live requests cost, or may have cost, without a result."""
        self._db.run(
            "insert_charge",
            cost=charge.cost,
            reason=charge.reason,
            **msgspec.structs.asdict(charge.usage),
        )

    def spent(self, rates: Rates) -> int:
        """Picodollars that the run may have cost so far, with the maximum of what is in flight.

        rates: for tokens that were billed while no price was known.
        """
        live = self._db.row("spent_live", **rate_parameters(rates))
        return sum(map(int, live)) + self._journal.committed(rates)

    def in_flight_at_kills(self) -> int:
        """Maximum picodollars of live requests that were in flight when a command was killed.

        While a command works, those in flight now are included.
        """
        return int(self._db.row("spent_live", **rate_parameters(FREE))[3])

    def max_cost_of_pending(self, rates: Rates, max_attempts: int, requests: int) -> int:
        """Maximum picodollars of the so many most expensive pending requests."""
        (cost,) = self._db.row(
            "max_cost_of_pending",
            max_attempts=max_attempts,
            requests=requests,
            input=rates.input,
            output=rates.output,
        )
        return int(cost)

    def bill(self, done: int, left: int) -> Cost:
        """The run's cost so far. left: requests without an answer, at the mean cost."""
        return bill(self._db, self._journal, done, left)
