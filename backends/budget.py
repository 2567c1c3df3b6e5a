"""A budget: what may still be spent on live requests, and its end in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import ROUND_UP, Decimal

from backends.stopping import Stop
from store import Unfinished, WorkStore
from store.money import FREE, UNLIMITED, Billed, Charge, Rates, Usage, dollars
from store.requests import Request
from store.results import Failure, Result

ROOM_SECONDS = 0.25  # at most between two looks for room


class Budget:
    """What live requests may cost at most, so that a budget holds whatever dies.

    Before anything is sent the store has a charge, the reserve, for all that may be in flight or
    not stored yet, and no more than that ever is. An orderly end takes it back, in the transaction
    that stores the last answers; after a kill -9 it stays, since it may have been billed. Without
    a budget it only notes what was billed beside the results.
    """

    def __init__(
        self,
        rates: Rates | None,
        max_cost: int | None,
        store: WorkStore,
        max_attempts: int,
        concurrency: int,
    ) -> None:
        self.rates = rates
        self._known = rates or FREE
        self._max_cost = UNLIMITED if max_cost is None else max_cost
        self._store = store
        self._max_attempts = max_attempts
        # What is answered and not stored yet needs room too. A quarter more measured as fast as no
        # budget at all: of an answer the cost is known, and where the room is used it is stored.
        self._reserved_requests = concurrency + (concurrency + 3) // 4
        self._reserve = UNLIMITED  # of what is in flight or not stored yet
        self._spent = 0
        self._in_flight = 0  # at most
        self._in_flight_usage = Usage()
        self._unstored = 0  # at most: answered, and not stored yet
        self._charges: dict[Charge, Usage] = {}
        self._closed = False
        self._exhausted = False
        self._room = asyncio.Event()

    def open(self, want_stored: Callable[[], None]) -> None:
        """Charge beforehand what may be in flight; want_stored is called where that is all used."""
        self._want_stored = want_stored
        self._closed = self._exhausted = False
        if self._max_cost != UNLIMITED:
            self._spent = self._store.costs.spent(self._known)
            dearest = self._store.costs.max_cost_of_pending(
                self._known, self._max_attempts, self._reserved_requests
            )
            self._reserve = max(0, min(self._max_cost - self._spent, dearest))
            self._store.costs.add_charge(Billed(Charge.IN_FLIGHT, Usage(), self._reserve))

    def close(self) -> None:
        """Let what is in flight be given up, and the reserve be taken back with the next flush."""
        self._charge(Charge.UNANSWERED, self._in_flight_usage)
        self._in_flight, self._in_flight_usage = 0, Usage()
        self._closed = True

    async def reserve(self, request: Request, stop: Stop) -> bool:
        """Wait until the budget allows a request, and hold its cost; gives whether it ever does."""
        usage = request.bounds.most
        worst = self._known.cost(usage)
        while not stop.no_more:
            fits = self._in_flight + self._unstored + worst <= self._reserve
            if fits and self._spent + self._in_flight + worst <= self._max_cost:
                self._in_flight += worst
                self._in_flight_usage += usage
                return True
            if not (self._in_flight or self._unstored):
                self._exhausted = True
                return False
            if self._unstored and not fits:
                self._want_stored()
            self._room.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), ROOM_SECONDS)
        return False

    def commit(self, request: Request, outcome: Result | Failure) -> None:
        """Let an answer cost what it did, and no more."""
        if outcome.usage is None:
            self.commit_unanswered(request, may_be_billed=True)
            return
        self._release(request)
        cost = self._known.cost(outcome.usage)
        self._unstored += cost
        self._spent += cost
        if isinstance(outcome, Failure):
            self._charge(Charge.FAILED, outcome.usage)

    def commit_unanswered(self, request: Request, *, may_be_billed: bool) -> None:
        """Let a call without an answer, or without its usage, cost what it can at most."""
        usage = self._release(request)
        if may_be_billed:
            worst = self._known.cost(usage)
            self._unstored += worst
            self._spent += worst
            self._charge(Charge.UNANSWERED, usage)

    def charges(self) -> list[Billed]:
        """What is to be stored beside the outcomes that came."""
        found = [
            Billed(reason, usage, None if self.rates is None else self.rates.cost(usage))
            for reason, usage in self._charges.items()
        ]
        if unneeded := self._unneeded():
            found.append(Billed(Charge.IN_FLIGHT, Usage(), -unneeded))
        return found

    def flushed(self) -> None:
        """All that came is stored, and the charges with it."""
        self._charges.clear()
        self._reserve -= self._unneeded()
        self._unstored = 0
        self._room.set()

    def raise_if_exhausted(self) -> None:
        """Raise Unfinished where the budget did not allow a request."""
        if self._exhausted:
            raise budget_exhausted(self._max_cost, self._known, self._max_attempts, self._store)

    def _unneeded(self) -> int:
        """What of the reserve is not needed any more once all that came is stored.

        All of it at the end; before, what the budget no longer allows to be in flight.
        """
        if self._max_cost == UNLIMITED:
            return 0
        if self._closed:
            return self._reserve
        return max(0, self._reserve - max(0, self._max_cost - self._spent))

    def _charge(self, reason: Charge, usage: Usage) -> None:
        if usage != Usage():
            self._charges[reason] = self._charges.get(reason, Usage()) + usage

    def _release(self, request: Request) -> Usage:
        usage = request.bounds.most
        self._in_flight -= self._known.cost(usage)
        self._in_flight_usage -= usage
        self._room.set()
        return usage


def budget_exhausted(
    max_cost: int, rates: Rates, max_attempts: int, store: WorkStore
) -> Unfinished:
    """What to tell of requests that the budget, in picodollars, does not allow."""
    spent, in_flight = store.costs.spent(rates), store.costs.in_flight_at_kills()
    backlog = store.requests.backlog(max_attempts)
    if max(backlog.learnt, backlog.with_old) == backlog.requests:
        cost = rates.cost(Usage(backlog.prompt_tokens, 0, backlog.completion_tokens))
        more = f"about {dollars(cost):.4f}"
        dearest = store.costs.max_cost_of_pending(rates, max_attempts, 1)
        enough = max(2 * (spent + cost), spent + dearest)  # for the next request surely
    else:  # nothing tells how long the answers are
        cost = store.costs.max_cost_of_pending(rates, max_attempts, backlog.requests)
        more, enough = f"at most {dollars(cost):.4f}", spent + cost
    unsure = (
        f" ({dollars(in_flight):.4f} of them perhaps, for requests that were in flight when a "
        "command was killed)"
        if in_flight
        else ""
    )
    return Unfinished(
        f"--max-cost {dollars(max_cost).normalize():f} is reached: {dollars(spent):.4f} USD are "
        f"spent{unsure}, and the next request could cost more than what is left. "
        f"{backlog.requests} requests are pending, {more} USD more; resume "
        f"with a higher --max-cost, as {_rounded_up(dollars(enough)):f}"
    )


def _rounded_up(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01" if amount >= 1 else "0.000001"), ROUND_UP)
