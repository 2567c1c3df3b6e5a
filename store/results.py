"""Results and failures: append-only, the first answer of a request wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from store.costs.costs import Costs
    from store.database.connection import Database

from store.database.arrow import FAILURE_SCHEMA, RESULT_SCHEMA, table_of
from store.money import Billed, Rates, Usage, rate_parameters
from store.runs import Event, append_event


class FailureKind(StrEnum):
    """Why an attempt has no answer."""

    REFUSED = "refused"  # the request is invalid: too long, empty, a 400
    SERVER = "server"  # the server or engine failed: 5xx, time-out, rate limit
    FILTERED = "filtered"  # by a content filter
    UNUSABLE = "unusable"  # the stage cannot use the answer


class Result(msgspec.Struct, frozen=True, gc=False):
    """A request's answer. text: as the model wrote it, without the reasoning.

    tool_calls: as in an assistant's message, as JSON; None where there are none.
    """

    request_id: str
    text: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    tool_calls: str | None = None

    @property
    def usage(self) -> Usage | None:
        """The billed usage, None where the server did not report it."""
        return Usage.reported(self.prompt_tokens, self.cached_tokens, self.completion_tokens)


class Failure(msgspec.Struct, frozen=True, gc=False):
    """One failed attempt."""

    request_id: str
    kind: FailureKind
    message: str
    retryable: bool
    code: str | None = None
    text: str | None = None
    answered: bool = False  # it was billed, without a usable answer
    usage: Usage | None = None  # None: not reported


@dataclass(frozen=True, slots=True)
class FailedAlike:
    """The common reason of all requests that failed for good; code: '' where there is none."""

    requests: int
    kind: FailureKind
    code: str
    message: str


class Results:
    """Answers and failed attempts."""

    def __init__(self, database: Database, costs: Costs) -> None:
        self._db = database
        self._costs = costs

    def add(
        self,
        backend: str,
        results: Sequence[Result],
        failures: Sequence[Failure],
        rates: Rates | None = None,
        charges: Sequence[Billed] = (),
    ) -> None:
        """Store answers, failed attempts and charges in one transaction; the first success wins.

        rates: None where no price is known, or answers are free. Raises DiskFull.
        """
        with self._db.transaction():
            if results:
                rows = table_of(results, RESULT_SCHEMA)
                with self._db.incoming(rows):
                    self._db.run("insert_results", backend=backend, **rate_parameters(rates))
            if failures:
                rows = table_of(failures, FAILURE_SCHEMA)
                with self._db.incoming(rows):
                    self._db.run("insert_failures")
            for charge in charges:
                self._costs.add_charge(charge)

    def count(self) -> int:
        """How many requests have an answer."""
        return int(self._db.row("count_results")[0])

    def answer_speed(self) -> float | None:
        """Completion tokens a second of the answers so far; None where not known."""
        (speed,) = self._db.row("answer_speed")
        return float(speed) if speed else None

    def reuse(self, earlier: Path, wait_seconds: float) -> int:
        """Copy answers to open requests from another run's store; returns how many.

        Raises StoreHeld after wait_seconds in which another process had that file open.
        """
        with self._db.attached(earlier, wait_seconds):
            (answers,) = self._db.row("reuse_results")
        return int(answers)

    def failed_alike(self, max_attempts: int, enough: int) -> FailedAlike | None:
        """The common reason why all requests failed so far, where none was answered.

        None where there are several reasons, or fewer than `enough` requests (all, where the run
        has fewer) or than two failed for good.
        """
        failed, ways, kind, code, message, results, total = self._db.row(
            "failed_alike", max_attempts=max_attempts
        )
        if results or ways != 1 or failed < max(2, min(enough, total)):
            return None
        return FailedAlike(failed, FailureKind(kind), code, message)

    def stop(self, reason: str) -> None:
        """Record that the failures concern every request: those so far do not count as attempts."""
        append_event(self._db, Event.STOPPED, {"reason": reason})

    def retry_failed(self) -> None:
        """Make requests that failed for good pending again: earlier failures no longer count."""
        append_event(self._db, Event.RETRY_FAILED, {})

    def failure_reasons(self) -> list[tuple[FailureKind, str, int]]:
        """The most frequent (kind, message, requests) of requests without a result."""
        rows = self._db.rows("failure_reasons")
        return [(FailureKind(kind), message, count) for kind, message, count in rows]

    def failure_kinds(self) -> dict[FailureKind, int]:
        """Requests without a result, by the kind of their last failure; the most frequent first."""
        return {FailureKind(kind): count for kind, count in self._db.rows("failure_kinds")}

    def refused_retries(self, max_attempts: int) -> list[tuple[FailureKind, str, int]]:
        """Retries of truncated answers that failed for good: (kind, message, requests).

        The most frequent first.
        """
        rows = self._db.rows("refused_retries", max_attempts=max_attempts)
        return [(FailureKind(kind), message, count) for kind, message, count in rows]
