"""The loop of every backend that answers while it runs: pull requests, flush answers often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Protocol

from backends.base import Outcomes, Progress
from store import WorkStore
from store.models import AskOrder, Failure, Request, Result
from store.money import Rates

FLUSH_SECONDS = 2.0  # a kill -9 costs at most what came in since the last flush
FLUSH_ROWS = 512


class Answers(Protocol):
    """The verb of an engine: take requests as it has room for them, give outcomes as they come.

    It yields often, with an empty sequence where nothing came, so that what is buffered is flushed
    in time. Closing it gives up what is in flight.
    """

    def __call__(self, requests: Iterator[Request]) -> Iterable[Outcomes]:
        """Answer the requests, in any order."""


def stream(
    name: str,
    answers: Answers,
    store: WorkStore,
    progress: Progress,
    max_attempts: int,
    flush_seconds: float = FLUSH_SECONDS,
    order: AskOrder = AskOrder.PREFIX,
    rates: Rates | None = None,
    after_failures: Callable[[], None] = lambda: None,
) -> None:
    """Answer all that is pending, retryable failures up to max_attempts included.

    rates: what an answer costs; None where that is not known, or nothing. after_failures is called
    whenever failed attempts were stored, and may raise to end the run.
    """
    while True:
        requests = store.pending(max_attempts, order)
        first = next(requests, None)
        if first is None:
            return
        _drain(
            name,
            answers,
            chain([first], requests),
            store,
            progress,
            flush_seconds,
            rates,
            after_failures,
        )


def _drain(
    name: str,
    answers: Answers,
    requests: Iterator[Request],
    store: WorkStore,
    progress: Progress,
    flush_seconds: float,
    rates: Rates | None,
    after_failures: Callable[[], None],
) -> None:
    results: list[Result] = []
    failures: list[Failure] = []
    flushed_at = time.monotonic()

    def flush() -> None:
        nonlocal flushed_at
        if results or failures:
            store.add_outcomes(name, results, failures, rates)
            results.clear()
            failures.clear()
        flushed_at = time.monotonic()
        progress.look(store)

    try:
        for outcomes in answers(requests):
            for outcome in outcomes:
                if isinstance(outcome, Result):
                    results.append(outcome)
                else:
                    failures.append(outcome)
            due = time.monotonic() - flushed_at >= flush_seconds
            if due or len(results) + len(failures) >= FLUSH_ROWS:
                failed = bool(failures)
                flush()
                if failed:
                    after_failures()
    finally:  # Ctrl-C and a dying engine included: what was bought is kept
        flush()
    after_failures()
