"""What a run is: the row that was frozen when it was made, and what events have changed since."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from store.models import Event, ExportOptions, Language, Mode, Run

if TYPE_CHECKING:
    from store.database import Database

JSON_FIELDS = ("columns", "params", "templates", "export")


class Moved(msgspec.Struct, frozen=True):
    """Another server is asked from here on; answered: whether the one before had answered."""

    base_url: str
    answered: bool


def run_row(run: Run) -> dict[str, Any]:
    """A run as its row in the store."""
    row = {field.name: getattr(run, field.name) for field in fields(Run)}
    return row | {name: msgspec.json.encode(row[name]).decode() for name in JSON_FIELDS}


def run_as_made(database: Database) -> Run:
    """The run as it was frozen."""
    names = [field.name for field in fields(Run)]
    row = dict(zip(names, database.row("run"), strict=True))
    row |= {name: msgspec.json.decode(row[name]) for name in JSON_FIELDS}
    row["mode"] = Mode(row["mode"])
    row["language"] = Language(row["language"])
    row["export"] = msgspec.convert(row["export"], ExportOptions)
    return Run(**row)


def current_run(database: Database) -> Run:
    """The run as it was frozen, but for a changed limit and a server that it moved to."""
    run = run_as_made(database)
    if (limit := changed_limit(database)) is not None:
        run = replace(run, params={**run.params, "max_tokens": limit})
    moved = [detail for event, detail in database.rows("servers") if event == Event.MOVED]
    if moved:
        run = replace(run, base_url=msgspec.json.decode(moved[-1], type=Moved).base_url)
    return run


def changed_limit(database: Database) -> int | None:
    """The most tokens of an answer, where that was changed since the run was made."""
    row = next(iter(database.rows("limit_changed")), None)
    return None if row is None else int(row[0])


def servers(database: Database) -> set[str | None]:
    """The addresses that the run's answers are from, those it took over included; None: local."""
    current = run_as_made(database).base_url
    found: set[str | None] = set()
    for event, detail in database.rows("servers"):
        if event == Event.MOVED:
            moved = msgspec.json.decode(detail, type=Moved)
            if moved.answered:
                found.add(current)
            current = moved.base_url
        else:
            found.update(msgspec.json.decode(detail, type=list[str | None]))
    return found | {current}
