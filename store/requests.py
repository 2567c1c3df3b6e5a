"""Requests: what is pending and in which order, what is expected of it, and changed limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database
    from store.jobs.journal import Journal
    from store.planning import Planning

from store.costs.money import MOST_TOKENS, Bounds
from store.planning import PlannedRequest
from store.runs import Event, append_event, changed_limit, current_run

PAGE = 2048  # requests read at a time

PREFIX_CHARACTERS = 1024  # of a shared beginning that is worth keeping in an engine's cache
LIMIT_PAGE = 20_000  # questions asked again in one transaction


class AskOrder(StrEnum):
    """In which order pending requests are handed to an engine or server."""

    PREFIX = "prefix"  # as asked, but where long beginnings are shared, those side by side
    LONGEST_FIRST = "longest first"  # by expected answer, within groups of a shared beginning


class Request(msgspec.Struct, frozen=True, gc=False):
    """One question to the teacher, in the terms of OpenAI's chat completions.

    attempts: those that failed so far, in the current round.
    """

    request_id: str
    params: dict[str, Any]
    messages: list[dict[str, Any]]
    attempts: int = 0

    @property
    def bounds(self) -> Bounds:
        """What bounds its usage."""
        max_tokens = self.params.get("max_tokens") or MOST_TOKENS
        return Bounds(len(msgspec.json.encode(self.messages)), int(max_tokens))


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is pending, and what is known of its answers.

    asks: rows that ask for these requests. with_old: requests whose records have an old output;
    learnt: those whose answer's length the results tell. answers_planned: rows of the stage answer,
    of the whole run.
    """

    requests: int
    asks: int
    with_old: int
    learnt: int
    prompt_tokens: int
    completion_tokens: int
    max_completion_tokens: int
    answers_planned: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """Answers that are still to come, in flight included, and the tokens they should take.

    learnt: of the requests, those whose answer's length the results tell.
    """

    requests: int
    learnt: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_learnt(self) -> bool:
        """Whether the tokens are rather what the results tell than a guess."""
        return 2 * self.learnt > self.requests


# The limit of the next version by that of the latest; None: it is not asked again.
NewLimit = Callable[[int | None], int | None]


@dataclass(frozen=True, slots=True)
class LimitApplied:
    """Requests that are asked again with the run's limit, and those in flight that keep theirs."""

    max_tokens: int
    asked: int
    in_flight: int


class Requests:
    """The requests of a run."""

    def __init__(self, database: Database, planning: Planning, journal: Journal) -> None:
        self._db = database
        self._planning = planning
        self._journal = journal

    def has_pending(self, max_attempts: int) -> bool:
        """Whether any request wants an answer."""
        (pending,) = self._db.row("has_pending", max_attempts=max_attempts)
        return bool(pending)

    def has_open(self) -> bool:
        """Whether any request has no answer and is in no job that is still going."""
        (found,) = self._db.row("has_open")
        return bool(found)

    def has_sent(self) -> bool:
        """Whether anything of the run went to a server, as far as is stored, or was about to."""
        (sent,) = self._db.row("has_sent")
        return bool(sent)

    def pending(self, max_attempts: int, order: AskOrder) -> Iterator[Request]:
        """Requests that want an answer as of now, each once.

        Whenever half of them have been given, the order of the others is renewed: by then more is
        known of the lengths of answers.
        """
        given: set[int] = set()
        while waiting := [
            row for row in self.pending_positions(max_attempts, order) if row not in given
        ]:
            half = waiting[: max(PAGE, len(waiting) // 2)]
            given.update(half)
            for start in range(0, len(half), PAGE):
                rows = self._db.rows("requests_by_rowid", rowids=half[start : start + PAGE])
                for request_id, params, messages, attempts in rows:
                    yield Request(
                        request_id,
                        msgspec.json.decode(params),
                        msgspec.json.decode(messages),
                        attempts,
                    )

    def pending_positions(self, max_attempts: int, order: AskOrder) -> list[int]:
        """Row numbers of the requests that want an answer, in that order."""
        attempts = {"max_attempts": max_attempts}
        by_length = order is AskOrder.LONGEST_FIRST
        prefix = self._shared_prefix(max_attempts)
        if prefix is None:
            name = "pending_longest_first" if by_length else "pending"
            return self._db.column(name, **attempts)
        name = "pending_longest_first_by_prefix" if by_length else "pending_by_prefix"
        return self._db.column(name, **attempts, prefix=prefix)

    def _shared_prefix(self, max_attempts: int) -> int | None:
        """How many characters of the prompts tell groups that share a long beginning, if any do.

        What all share is no reason to group: an engine or server has that cached all the time.
        """
        low, high = self._db.row("pending_bounds", max_attempts=max_attempts)
        if low is None:
            return None
        prefix = _in_common(low, high) + PREFIX_CHARACTERS
        groups, requests = self._db.row("prefix_groups", max_attempts=max_attempts, prefix=prefix)
        return prefix if 1 < groups <= requests // 2 else None

    def backlog(self, max_attempts: int) -> Backlog:
        """What is pending, and how long its answers are expected to be."""
        return Backlog(*self._db.row("backlog", max_attempts=max_attempts))

    def outlook(self, max_attempts: int) -> Outlook:
        """What the answers that are still to come should take, as the results so far tell."""
        return Outlook(*self._db.row("outlook", max_attempts=max_attempts))

    def expected_tokens(self) -> int:
        """Completion tokens that are still to come, by what is known and learnt of lengths."""
        (tokens,) = self._db.row("expected_tokens")
        return int(tokens)

    def sample_prompts(self, max_attempts: int, prompts: int) -> Iterator[list[dict[str, Any]]]:
        """The messages of so many pending requests, chosen at random, the same each time."""
        pages = self._db.pages("sample_prompts", PAGE, max_attempts=max_attempts, prompts=prompts)
        for rows in pages:
            for (messages,) in rows:
                yield msgspec.json.decode(messages)

    def ask_again(self, check_name: str, new_limit: NewLimit) -> int:
        """Ask again, with another limit, where a check rejected the latest answer to a row.

        Until the new answer is there the old one counts. A row whose latest request has no answer
        is not asked again: saying it twice asks once. Returns how many requests that makes.
        """
        again: set[str] = set()
        for stage, planned in _next_versions(
            self._db, "rejected", new_limit, check_name=check_name
        ):
            self._planning.add(stage, planned)
            again.update(one.request_id for one in planned)
        return len(again)

    def change_limit(self, max_tokens: int) -> None:
        """Let answers have so many tokens from now on; apply_limit asks again what that changes."""
        if current_run(self._db).params.get("max_tokens") != max_tokens:
            append_event(self._db, Event.LIMIT_CHANGED, {"max_tokens": max_tokens})

    def apply_limit(self, folder: Path) -> LimitApplied | None:
        """Ask again, with the run's limit, where that was changed and another limit was asked with.

        Only what has no answer and is not at a server; jobs that were not sent are planned anew,
        their files in folder removed. A death in between leaves what the next call does. None
        where the limit was never changed.
        """
        limit = changed_limit(self._db)
        if limit is None:
            return None
        jobs = {job for (job,) in self._db.rows("jobs_of_other_limits", max_tokens=limit)}
        self._journal.close_unsent(jobs, folder)
        asked, in_flight = self._db.row("count_other_limits", max_tokens=limit)
        pages = _next_versions(self._db, "other_limits", lambda _: limit, max_tokens=limit)
        for stage, asks in pages:
            self._planning.add(stage, asks)
        return LimitApplied(limit, asked, in_flight)


def _next_versions(
    database: Database, name: str, new_limit: NewLimit, **parameters: int | str
) -> Iterator[tuple[str, list[PlannedRequest]]]:
    """The asks with new limits of the rows that a statement gives, by stage and in pages."""
    for rows in database.pages(name, LIMIT_PAGE, **parameters):
        for stage, of_stage in groupby(rows, itemgetter(0)):
            asks = [
                PlannedRequest(record, ordinal, generation, changed, messages, version + 1)
                for _, record, ordinal, generation, version, params, messages in of_stage
                if (changed := _with_limit(params, new_limit)) is not None
            ]
            if asks:
                yield stage, asks


def _with_limit(params: str, new_limit: NewLimit) -> str | None:
    """A request's parameters with another max_tokens, as canonical JSON."""
    values = msgspec.json.decode(params)
    limit = new_limit(values.get("max_tokens"))
    if limit is None:
        return None
    return msgspec.json.encode({**values, "max_tokens": limit}, order="sorted").decode()


def _in_common(one: str, other: str) -> int:
    """How many characters two texts share at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
