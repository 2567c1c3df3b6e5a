"""Requests of the same rows again, as their next version: with another limit, or as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database
    from store.jobs.journal import Journal
    from store.planning import Planning

from store.planning import PlannedRequest
from store.runs import Event, append_event, changed_limit, current_run

LIMIT_PAGE = 20_000  # requests planned again in one transaction

# From the limit of the latest version to that of the next; None: it is not sent again.
NewLimit = Callable[[int | None], int | None]


@dataclass(frozen=True, slots=True)
class LimitApplied:
    """Requests planned again with the run's limit, and those in flight that keep theirs."""

    max_tokens: int
    replanned: int
    in_flight: int


class Limits:
    """Requests planned again, as the next version of their rows."""

    def __init__(self, database: Database, planning: Planning, journal: Journal) -> None:
        self._db = database
        self._planning = planning
        self._journal = journal

    def replan_rejected(self, check_names: Sequence[str], new_limit: NewLimit | None = None) -> int:
        """Plan requests again for rows whose latest answer one of the checks rejected.

        new_limit: the limit of each; None: the requests are equal, and sent again on purpose. The
        old answer counts until the new one is stored. Rows whose latest request has no answer
        are left out, so that a second call changes nothing. Returns how many requests that are.
        """
        request_ids: set[str] = set()
        pages = _next_versions(self._db, "rejected", new_limit, check_names=list(check_names))
        for stage, requests in pages:
            self._planning.add(stage, requests)
            request_ids.update(request.request_id for request in requests)
        return len(request_ids)

    def change(self, max_tokens: int) -> None:
        """Set the limit of answers from now on; apply plans requests again with it."""
        if current_run(self._db).params.get("max_tokens") != max_tokens:
            append_event(self._db, Event.LIMIT_CHANGED, {"max_tokens": max_tokens})

    def apply(self, folder: Path) -> LimitApplied | None:
        """Plan requests of another limit than the run's again, where that was changed.

        Only requests without an answer that are not at a server. Jobs that were not sent are
        closed and their files in folder removed. After a crash in between the next call does the
        rest. None where the limit was never changed.
        """
        limit = changed_limit(self._db)
        if limit is None:
            return None
        jobs = {job for (job,) in self._db.rows("jobs_of_other_limits", max_tokens=limit)}
        self._journal.close_unsent(jobs, folder)
        replanned, in_flight = self._db.row("count_other_limits", max_tokens=limit)
        pages = _next_versions(self._db, "other_limits", lambda _: limit, max_tokens=limit)
        for stage, requests in pages:
            self._planning.add(stage, requests)
        return LimitApplied(limit, replanned, in_flight)


def _next_versions(
    database: Database, name: str, new_limit: NewLimit | None, **parameters: int | list[str]
) -> Iterator[tuple[str, list[PlannedRequest]]]:
    """The next versions of the rows of a statement, by stage and in pages."""
    (samples,) = database.row("samples")
    for rows in database.pages(name, LIMIT_PAGE, **parameters):
        for stage, of_stage in groupby(rows, itemgetter(0)):
            requests = [
                PlannedRequest(
                    record,
                    ordinal,
                    generation,
                    changed,
                    messages,
                    version + 1,
                    tools,
                    # Different from that of every other answer to the row.
                    repeat=generation + samples * (version + 1) if new_limit is None else None,
                    about=about,
                    images=images,
                    image_tokens=image_tokens,
                    image_bytes=image_bytes,
                )
                for (
                    _,
                    record,
                    ordinal,
                    generation,
                    version,
                    params,
                    messages,
                    tools,
                    about,
                    images,
                    image_tokens,
                    image_bytes,
                ) in of_stage
                if (changed := _with_limit(params, new_limit)) is not None
            ]
            if requests:
                yield stage, requests


def _with_limit(params: str, new_limit: NewLimit | None) -> str | None:
    """A request's parameters with another max_tokens, as canonical JSON."""
    if new_limit is None:
        return params
    values = msgspec.json.decode(params)
    limit = new_limit(values.get("max_tokens"))
    if limit is None:
        return None
    return msgspec.json.encode({**values, "max_tokens": limit}, order="sorted").decode()
