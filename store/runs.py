"""What a run is: the row that was frozen when it was made, and events that changed it since."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database


class Mode(StrEnum):
    """What a run does with its records."""

    DISTILL = "distill"  # answer each record
    AUGMENT = "augment"  # write variants of each record, then answer all of them


class Language(StrEnum):
    """Which default prompt a record gets."""

    ZH = "zh"
    EN = "en"
    AUTO = "auto"  # decided record by record, by its script


class Event(StrEnum):
    """What befell a run as a whole."""

    SAMPLED = "sampled"  # its records are complete
    RETRY_FAILED = "retry_failed"  # failures before this one no longer count
    STOPPED = "stopped"  # nor before this one: what failed concerned every request
    PRICED = "priced"  # from here on tokens cost so much
    LIMIT_CHANGED = "limit_changed"  # from here on an answer may have so many tokens
    MOVED = "moved"  # from here on another server is asked
    OTHER_SERVERS = "other_servers"  # answers that they gave earlier runs may be taken
    ESTIMATED = "estimated"  # it was said what its first answers tell of the rest
    EXPORTED = "exported"  # its files were written
    COST_OPTIONS = "cost_options"  # from here on this cap and these prices hold


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a run's files are written. No part of a request, so `export` may override it."""

    formats: tuple[str, ...] = ("alpaca", "sharegpt")
    include_reasoning: bool = False
    output_file: str | None = None
    drop_truncated: bool = False  # from the training files


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is. Frozen: a resume uses this, not the flags or environment of the day.

    base_url: the server's address in its normal form; None where no server is asked.
    """

    run_id: str
    created_at: datetime
    mode: Mode
    backend: str
    base_url: str | None
    model: str
    source: str
    config: str | None
    split: str
    sample_size: int
    seed: int
    columns: dict[str, str | None]
    params: dict[str, Any]
    system_prompt: str | None
    language: Language
    templates: dict[str, str]
    num_aug: int
    skip_generation: bool
    export: ExportOptions


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


def append_event(database: Database, event: Event, detail: object) -> None:
    """Note what happened to the run as a whole."""
    database.run("insert_event", event=event, detail=msgspec.json.encode(detail).decode())
