"""A budget: what may still be spent on live requests, and its end in words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from store import Unfinished, WorkStore
from store.journal import UNLIMITED
from store.models import Failure, Request, Result
from store.money import FREE, Charge, Rates, Usage, dollars

IN_FLIGHT = 256  # requests at most whose fate a death may leave unknown, where the budget allows
ROOM_SECONDS = 0.05  # between two looks for room


class Purse:
    """What live requests may cost at most, so that a budget holds whatever dies.

    Before anything is sent the store has a charge for all that may be in flight or not stored yet,
    and no more than that ever is. An orderly end takes it back; after a kill -9 it stays, since it
    may have been billed. Without a budget it only notes what was billed beside the results.
    """

    def __init__(self, rates: Rates | None, max_cost: int | None, store: WorkStore) -> None:
        self._rates = rates or FREE
        self._max_cost = UNLIMITED if max_cost is None else max_cost
        self._store = store
        self._limit = UNLIMITED  # of what is in flight or not stored yet
        self._spent = 0
        self._in_flight = 0  # at most
        self._unsettled = 0  # at most: answered, and not stored yet
        self._charges = dict.fromkeys((Charge.FAILED, Charge.UNANSWERED), 0)
        self._empty = False

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Charge beforehand what may be in flight, and take it back at the end."""
        if self._max_cost != UNLIMITED:
            self._spent = self._store.spent(self._rates)
            dearest = self._store.dearest_request(self._rates)
            self._limit = max(0, min(self._max_cost - self._spent, IN_FLIGHT * dearest))
            self._store.add_charge(self._limit, Charge.IN_FLIGHT)
        try:
            yield
        finally:
            self._charges[Charge.UNANSWERED] += self._in_flight  # given up, and may be billed
            self.settle()
            if self._max_cost != UNLIMITED:
                self._store.add_charge(-self._limit, Charge.IN_FLIGHT)

    async def hold(self, request: Request) -> bool:
        """Wait until the budget allows a request, and hold its cost; gives whether it ever does."""
        worst = self._worst(request)
        while (
            self._spent + self._in_flight + worst > self._max_cost
            or self._in_flight + self._unsettled + worst > self._limit
        ):
            if not (self._in_flight or self._unsettled):
                self._empty = True
                return False
            await asyncio.sleep(ROOM_SECONDS)
        self._in_flight += worst
        return True

    def answered(self, request: Request, outcome: Result | Failure) -> None:
        """Let an answer cost what it did, and no more."""
        usage = outcome.usage
        if usage is None:
            self.unanswered(request, may_be_billed=True)
            return
        worst, cost = self._worst(request), self._rates.cost(usage)
        self._in_flight -= worst
        self._unsettled += worst
        self._spent += cost
        if isinstance(outcome, Failure):
            self._charges[Charge.FAILED] += cost

    def unanswered(self, request: Request, *, may_be_billed: bool) -> None:
        """Let a call without an answer, or without its usage, cost what it can at most."""
        worst = self._worst(request)
        self._in_flight -= worst
        if may_be_billed:
            self._unsettled += worst
            self._spent += worst
            self._charges[Charge.UNANSWERED] += worst

    def settle(self) -> None:
        """Note charges; what was answered before is stored by now."""
        for reason, cost in self._charges.items():
            if cost:
                self._store.add_charge(cost, reason)
            self._charges[reason] = 0
        self._unsettled = 0

    def raise_if_empty(self, max_attempts: int) -> None:
        """Raise Unfinished where the budget did not allow a request."""
        if self._empty:
            raise out_of_money(self._max_cost, self._rates, max_attempts, self._store)

    def _worst(self, request: Request) -> int:
        return self._rates.cost(request.bounds.most)


def out_of_money(max_cost: int, rates: Rates, max_attempts: int, store: WorkStore) -> Unfinished:
    """What to tell of requests that the budget, in picodollars, does not allow."""
    spent = store.spent(rates)
    left = store.left(max_attempts)
    cost = rates.cost(Usage(left.prompt_tokens, 0, left.completion_tokens))
    return Unfinished(
        f"--max-cost {dollars(max_cost).normalize():f} is reached: {dollars(spent):.4f} USD are "
        "spent, and the next request could cost more than what is left. "
        f"{left.requests} requests are pending, about {dollars(cost):.4f} USD more; resume "
        f"with a higher --max-cost, as {2 * dollars(spent + cost):.2f}"
    )
