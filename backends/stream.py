"""The loop of every backend that answers while it runs: pull requests, flush answers often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Protocol

from backends.base import Outcomes, Progress
from backends.budget import Budget
from backends.first_failures import Unanswered
from backends.stopping import Stop, noting_signals
from store import DiskFull, Unfinished, WorkStore
from store.requests import Request, RequestOrder
from store.results import Failure, Result

FLUSH_SECONDS = 2.0  # a kill -9 costs at most what came in since the last flush
FLUSH_ROWS = 512
STORE_TRIES = 60  # on a full disk, a minute between them in the end: an hour in all
STORE_WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.25  # between two looks for a signal while waiting


WhyEnd = Callable[[], Unfinished | None]


class Answers(Protocol):
    """The verb of an engine: take requests as it has room for them, give outcomes as they come.

    It yields often, with an empty sequence where nothing came, so that what is buffered is flushed
    in time. Where stop.no_more is set the requests end, and it asks nothing more by itself either;
    where stop.soon is set it gives what has come, gives up what is in flight, and ends.
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
    why_end: WhyEnd = lambda: None,
    longest_wait: float = STORE_WAIT_SECONDS,
) -> None:
    """Answer all that is pending, retryable failures up to max_attempts included.

    purse: what the answers cost; None: nothing. why_end is asked whenever failed attempts were
    stored, and gives why the run is to end: then no attempt is used. At a signal everything that
    came is stored before KeyboardInterrupt is raised. Raises DiskFull where there is no room for
    what came, after having waited for some; longest_wait: seconds between two tries.
    """
    unstored = _Unstored(name, store, progress, budget, flush_seconds, longest_wait)
    with noting_signals() as stop:
        while not stop.interrupted:
            requests = store.requests.pending(max_attempts, order)
            first = next(requests, None)
            if first is None:
                return
            stop.reset()
            _drain(answers, chain([first], requests), unstored, why_end, stop)


def _drain(
    answers: Answers,
    requests: Iterator[Request],
    unstored: _Unstored,
    why_end: WhyEnd,
    stop: Stop,
) -> None:
    reason: Unfinished | None = None
    try:
        for outcomes in answers(_until(requests, stop), stop):
            failed = unstored.add(outcomes)
            if not (unstored.due or stop.interrupted):
                continue
            if not unstored.flush():
                stop.end(soon=False)  # what is in flight is paid for, and kept in memory too
            elif failed and reason is None:
                reason = why_end()
                if reason is not None:
                    stop.end(soon=True)
    finally:  # a dying engine and a second Ctrl-C included: what was bought is kept
        unstored.flush_at_last(stop)
    reason = reason or why_end()
    if reason is not None:
        if not isinstance(reason, Unanswered):
            unstored.store.results.stop(str(reason))
        raise reason


def _until(requests: Iterator[Request], stop: Stop) -> Iterator[Request]:
    """The requests, until nothing more is to be asked."""
    while not stop.no_more and (request := next(requests, None)) is not None:
        yield request


class _Unstored:
    """What came and is not stored yet: in memory until it is."""

    def __init__(
        self,
        name: str,
        store: WorkStore,
        progress: Progress,
        budget: Budget | None,
        flush_seconds: float,
        longest_wait: float,
    ) -> None:
        self._name = name
        self.store = store
        self._progress = progress
        self._budget = budget
        self._flush_seconds = flush_seconds
        self._longest_wait = longest_wait
        self._results: list[Result] = []
        self._failures: list[Failure] = []
        self._tries = 0  # in vain, since the last flush
        self._due_at = time.monotonic() + flush_seconds

    def add(self, outcomes: Outcomes) -> bool:
        """Take outcomes; gives whether failures are among what is not stored."""
        for outcome in outcomes:
            if isinstance(outcome, Result):
                self._results.append(outcome)
            else:
                self._failures.append(outcome)
        return bool(self._failures)

    @property
    def due(self) -> bool:
        """Whether it is time to store."""
        if self._tries:
            return time.monotonic() >= self._due_at
        many = len(self._results) + len(self._failures) >= FLUSH_ROWS
        return many or time.monotonic() >= self._due_at

    def flush(self) -> bool:
        """Store all, with what it cost; where the disk is full nothing, and gives False."""
        charges = [] if self._budget is None else self._budget.charges()
        if self._results or self._failures or charges:
            rates = None if self._budget is None else self._budget.rates
            try:
                self.store.results.add(self._name, self._results, self._failures, rates, charges)
            except DiskFull as full:
                self._say_full(full)
                return False
            if self._tries:
                self._progress.say(f"there is room again: {len(self._results)} answers are stored")
            self._results, self._failures, self._tries = [], [], 0
            # Not where nothing was stored: the first answers are stored as soon as they come.
            self._due_at = time.monotonic() + self._flush_seconds
        if self._budget is not None:
            self._budget.flushed()
        with suppress(DiskFull):  # of looking; for what came the next flush waits
            self._progress.update(self.store)
        return True

    def flush_at_last(self, stop: Stop) -> None:
        """Store all; waits for room on the disk, but once only where a signal came.

        Raises DiskFull, saying what is lost.
        """
        while not self.flush():
            if self._tries >= STORE_TRIES or stop.interrupted:
                raise DiskFull(
                    f"{self._full}: {len(self._results)} answers could not be stored and are "
                    "lost, though they were paid for. Make room, then resume"
                )
            while time.monotonic() < self._due_at and not stop.interrupted:
                time.sleep(min(LOOK_SECONDS, max(0.0, self._due_at - time.monotonic())))

    def _say_full(self, full: DiskFull) -> None:
        if not self._tries:
            self._progress.say(
                f"{full}: {len(self._results)} answers are kept in memory and nothing more is "
                "asked. Make room"
            )
        self._full = full
        self._due_at = time.monotonic() + min(2.0**self._tries, self._longest_wait)
        self._tries += 1
