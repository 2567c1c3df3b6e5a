"""The budget of live requests, and the message when it is exhausted."""

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

WAIT_SECONDS = 0.25  # maximum between two checks of the budget


class Budget:
    """Limits the cost of live requests, so that a cap holds after any crash.

    Before anything is sent, a charge is stored, the reserve: the maximum of what is in flight or
    not stored yet. When the command ends in order it is taken back, in the transaction that stores
    the last answers; after a kill -9 it stays, since the requests may have been billed. Without a
    cap only charges of requests without a result are recorded.
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
        # Answers that are not stored yet count too. With a quarter more the throughput is that
        # without a cap: the cost of an answer is known, and a used-up reserve triggers a flush.
        self._reserved_requests = concurrency + (concurrency + 3) // 4
        self._reserve = UNLIMITED  # picodollars, of what is in flight or not stored yet
        self._spent = 0
        self._in_flight = 0  # maximum
        self._in_flight_usage = Usage()
        self._unstored = 0  # answered, and not stored yet
        self._charges: dict[Charge, Usage] = {}
        self._closed = False
        self._exhausted = False
        self._released = asyncio.Event()

    def open(self, request_flush: Callable[[], None]) -> None:
        """Store the reserve; request_flush is called when it is used up."""
        self._request_flush = request_flush
        self._closed = self._exhausted = False
        if self._max_cost != UNLIMITED:
            self._spent = self._store.costs.spent(self._known)
            largest = self._store.costs.max_cost_of_pending(
                self._known, self._max_attempts, self._reserved_requests
            )
            self._reserve = max(0, min(self._max_cost - self._spent, largest))
            self._store.costs.add_charge(Billed(Charge.IN_FLIGHT, Usage(), self._reserve))

    def close(self) -> None:
        """Give up what is in flight; the next flush takes the reserve back."""
        self._charge(Charge.UNANSWERED, self._in_flight_usage)
        self._in_flight, self._in_flight_usage = 0, Usage()
        self._closed = True

    async def reserve(self, request: Request, stop: Stop) -> bool:
        """Wait until the budget allows a request, reserve its maximum; returns whether it did."""
        usage = request.bounds.most
        worst = self._known.cost(usage)
        while not stop.no_new_requests:
            fits = self._in_flight + self._unstored + worst <= self._reserve
            if fits and self._spent + self._in_flight + worst <= self._max_cost:
                self._in_flight += worst
                self._in_flight_usage += usage
                return True
            if not (self._in_flight or self._unstored):
                self._exhausted = True
                return False
            if self._unstored and not fits:
                self._request_flush()
            self._released.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), WAIT_SECONDS)
        return False

    def commit(self, request: Request, outcome: Result | Failure) -> None:
        """Replace the reserved maximum of a request by the cost of its answer."""
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
        """Charge the maximum for a call without an answer or usage, if it may be billed."""
        usage = self._release(request)
        if may_be_billed:
            worst = self._known.cost(usage)
            self._unstored += worst
            self._spent += worst
            self._charge(Charge.UNANSWERED, usage)

    def charges(self) -> list[Billed]:
        """The charges to store with the outcomes that came."""
        charges = [
            Billed(reason, usage, None if self.rates is None else self.rates.cost(usage))
            for reason, usage in self._charges.items()
        ]
        if excess := self._excess():
            charges.append(Billed(Charge.IN_FLIGHT, Usage(), -excess))
        return charges

    def flushed(self) -> None:
        """Called when all outcomes and charges are stored."""
        self._charges.clear()
        self._reserve -= self._excess()
        self._unstored = 0
        self._released.set()

    def raise_if_exhausted(self) -> None:
        """Raise Unfinished where the budget did not allow a request."""
        if self._exhausted:
            raise budget_exhausted(self._max_cost, self._known, self._max_attempts, self._store)

    def _excess(self) -> int:
        """The part of the reserve that is not needed once all outcomes are stored.

        All of it at the end; before that, what exceeds the rest of the budget.
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
        self._released.set()
        return usage


def budget_exhausted(
    max_cost: int, rates: Rates, max_attempts: int, store: WorkStore
) -> Unfinished:
    """The error for requests that a cap of so many picodollars does not allow."""
    spent, in_flight = store.costs.spent(rates), store.costs.in_flight_at_kills()
    backlog = store.requests.backlog(max_attempts)
    if max(backlog.learnt, backlog.with_old) == backlog.requests:
        cost = rates.cost(Usage(backlog.prompt_tokens, 0, backlog.completion_tokens))
        more = f"about {dollars(cost):.4f}"
        largest = store.costs.max_cost_of_pending(rates, max_attempts, 1)
        enough = max(2 * (spent + cost), spent + largest)  # at least the next request
    else:  # no length of an answer is known
        cost = store.costs.max_cost_of_pending(rates, max_attempts, backlog.requests)
        more, enough = f"at most {dollars(cost):.4f}", spent + cost
    uncertain = (
        f" ({dollars(in_flight):.4f} of them perhaps, for requests that were in flight when a "
        "command was killed)"
        if in_flight
        else ""
    )
    return Unfinished(
        f"--max-cost {dollars(max_cost).normalize():f} is reached: {dollars(spent):.4f} USD are "
        f"spent{uncertain}, and the next request could cost more than what is left. "
        f"{backlog.requests} requests are pending, {more} USD more; resume "
        f"with a higher --max-cost, as {_rounded_up(dollars(enough)):f}"
    )


def _rounded_up(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01" if amount >= 1 else "0.000001"), ROUND_UP)
