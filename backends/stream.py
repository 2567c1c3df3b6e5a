"""The loop of backends that stream answers: pull requests, store answers often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Protocol

from backends.base import Outcomes, Progress
from backends.budget import Budget
from backends.first_failures import Unanswered
from backends.stopping import Stop, deferred_signals
from store import DiskFull, Unfinished, WorkStore
from store.money import FREE
from store.requests import Request, RequestOrder
from store.results import Failure, Result

FLUSH_SECONDS = 2.0  # a kill -9 loses at most the answers since the last flush
FLUSH_ROWS = 512
STORE_TRIES = 60  # attempts on a full disk, up to a minute apart: an hour in all
STORE_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.25  # between two checks for a signal while waiting


StopReason = Callable[[], Unfinished | None]


class Answers(Protocol):
    """The interface of a streaming engine: pulls requests as it has capacity, yields outcomes.

    It yields often, an empty sequence where nothing came, so that outcomes are stored in time.
    Where stop.no_new_requests is set, the requests end and it sends nothing more; where stop.soon
    is set, it yields what has come, gives up what is in flight, and ends.
    """

    def __call__(self, requests: Iterator[Request], stop: Stop, /) -> Iterable[Outcomes]:
        """Answer the requests, in any order."""


def stream(
    name: str,
    answers: Answers,
    store: WorkStore,
    progress: Progress,
    max_attempts: int,
    flush_seconds: float = FLUSH_SECONDS,
    order: RequestOrder = RequestOrder.PREFIX,
    budget: Budget | None = None,
    stop_reason: StopReason = lambda: None,
    max_wait: float = STORE_WAIT_SECONDS,
) -> None:
    """Answer all pending requests, with retryable failures up to max_attempts.

    budget: None where answers are free. stop_reason is called whenever failures were stored; an
    error that it returns ends the run, without using attempts. After a signal all outcomes are
    stored before KeyboardInterrupt is raised. Raises DiskFull where outcomes cannot be stored
    within STORE_TRIES attempts; max_wait: seconds between two attempts.
    """
    unstored = _Unstored(name, store, progress, budget, flush_seconds, max_wait)
    with deferred_signals() as stop:
        while not stop.interrupted:
            requests = store.requests.pending(max_attempts, order)
            first = next(requests, None)
            if first is None:
                return
            stop.reset()
            _drain(answers, chain([first], requests), unstored, stop_reason, stop)


def _drain(
    answers: Answers,
    requests: Iterator[Request],
    unstored: _Unstored,
    stop_reason: StopReason,
    stop: Stop,
) -> None:
    reason: Unfinished | None = None
    try:
        for outcomes in answers(_until_stopped(requests, stop), stop):
            failed = unstored.add(outcomes)
            if not (unstored.due or stop.interrupted):
                continue
            if not unstored.flush():
                stop.end(soon=False)  # answers in flight are kept in memory too
            elif failed and reason is None:
                reason = stop_reason()
                if reason is not None:
                    stop.end(soon=True)
    finally:  # after a crash of the engine or a second Ctrl-C too
        unstored.flush_finally(stop)
    reason = reason or stop_reason()
    if reason is not None:
        if not isinstance(reason, Unanswered):
            unstored.store.results.stop(str(reason))
        raise reason


def _until_stopped(requests: Iterator[Request], stop: Stop) -> Iterator[Request]:
    """The requests, until stop.no_new_requests is set."""
    while not stop.no_new_requests and (request := next(requests, None)) is not None:
        yield request


class _Unstored:
    """Outcomes that are not stored yet."""

    def __init__(
        self,
        name: str,
        store: WorkStore,
        progress: Progress,
        budget: Budget | None,
        flush_seconds: float,
        max_wait: float,
    ) -> None:
        self._name = name
        self.store = store
        self._progress = progress
        self._budget = budget
        self._flush_seconds = flush_seconds
        self._max_wait = max_wait
        self._results: list[Result] = []
        self._failures: list[Failure] = []
        self._tries = 0  # failed, since the last flush
        self._due_at = time.monotonic() + flush_seconds

    def add(self, outcomes: Outcomes) -> bool:
        """Add outcomes; returns whether there are failures among those not stored."""
        for outcome in outcomes:
            if isinstance(outcome, Result):
                self._results.append(outcome)
            else:
                self._failures.append(outcome)
        return bool(self._failures)

    @property
    def due(self) -> bool:
        """Whether it is time to flush."""
        if self._tries:
            return time.monotonic() >= self._due_at
        many = len(self._results) + len(self._failures) >= FLUSH_ROWS
        return many or time.monotonic() >= self._due_at

    def flush(self) -> bool:
        """Store all outcomes and charges; returns False, and stores nothing, on a full disk."""
        charges = [] if self._budget is None else self._budget.charges()
        if self._results or self._failures or charges:
            rates = FREE if self._budget is None else self._budget.rates
            try:
                self.store.results.add(self._name, self._results, self._failures, rates, charges)
            except DiskFull as full:
                self._say_full(full)
                return False
            if self._tries:
                self._progress.say(
                    f"the disk has space again: {len(self._results)} answers are stored"
                )
            self._results, self._failures, self._tries = [], [], 0
            # Only where something was stored: the first answers are stored as soon as they come.
            self._due_at = time.monotonic() + self._flush_seconds
        if self._budget is not None:
            self._budget.flushed()
        with suppress(DiskFull):  # of reading; the next flush waits where needed
            self._progress.update(self.store)
        return True

    def flush_finally(self, stop: Stop) -> None:
        """Store all; waits while the disk is full, but tries only once after a signal.

        Raises DiskFull, with the number of answers that are lost.
        """
        while not self.flush():
            if self._tries >= STORE_TRIES or stop.interrupted:
                raise DiskFull(
                    f"{self._full}: {len(self._results)} answers could not be stored and are "
                    "lost, though they were billed. Free disk space, then resume"
                )
            while time.monotonic() < self._due_at and not stop.interrupted:
                time.sleep(min(POLL_SECONDS, max(0.0, self._due_at - time.monotonic())))

    def _say_full(self, full: DiskFull) -> None:
        if not self._tries:
            self._progress.say(
                f"{full}: {len(self._results)} answers are kept in memory and nothing more is "
                "sent. Free disk space"
            )
        self._full = full
        self._due_at = time.monotonic() + min(2.0**self._tries, self._max_wait)
        self._tries += 1
