"""Asking again with another limit: what was cut off, or has no answer once the limit changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from store.models import Ask
from store.queries import QUERIES

if TYPE_CHECKING:
    from store.database import Database

PAGE = 20_000  # questions asked again in one transaction

# The limit of the next version by that of the latest; None: it is not asked again.
NewLimit = Callable[[int | None], int | None]


@dataclass(frozen=True, slots=True)
class LimitApplied:
    """Requests that are asked again with the run's limit, and those in flight that keep theirs."""

    max_tokens: int
    asked: int
    in_flight: int


def next_versions(
    database: Database, name: str, new_limit: NewLimit, **parameters: int
) -> Iterator[tuple[str, list[Ask]]]:
    """The asks with new limits of the rows that a statement gives, by stage and in pages."""
    reader = database.connection.cursor().execute(QUERIES[name], parameters)
    while rows := reader.fetchmany(PAGE):
        for stage, of_stage in groupby(rows, itemgetter(0)):
            asks = [
                Ask(record, ordinal, sample, changed, messages, version + 1)
                for _, record, ordinal, sample, version, params, messages in of_stage
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
