"""What a run is: the row that was frozen when it was created, and events that changed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from store.export_options import ExportOptions

if TYPE_CHECKING:
    from store.database.connection import Database


class Mode(StrEnum):
    """What a run does with its records."""

    DISTILL = "distill"  # answer each record
    AUGMENT = "augment"  # generate variants of each record, then answer all of them


class Language(StrEnum):
    """The language of a record's default prompt."""

    ZH = "zh"
    EN = "en"
    AUTO = "auto"  # by each record's script


class Turns(StrEnum):
    """Which turns of a conversation are answered."""

    LAST = "last"  # the last question, after all earlier turns
    FIRST = "first"  # the first question, alone
    ALL = "all"  # each question, after the new answers to the earlier ones


class Event(StrEnum):
    """What happened to a run as a whole."""

    SAMPLED = "sampled"  # the records of its next source are complete
    RETRY_FAILED = "retry_failed"  # failures before this one no longer count
    STOPPED = "stopped"  # likewise: they concerned every request
    PRICED = "priced"  # a price, from here on
    LIMIT_CHANGED = "limit_changed"  # max_tokens, from here on
    SERVER_CHANGED = "server_changed"  # another server, from here on
    OTHER_SERVERS = "other_servers"  # servers of earlier runs whose answers are reused
    ESTIMATED = "estimated"  # an estimate from its first answers was shown
    EXPORTED = "exported"  # its files were written
    COST_OPTIONS = "cost_options"  # a cap and prices, from here on


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read. encoding, delimiter: None where the file says."""

    encoding: str | None = None
    delimiter: str | None = None
    skip_bad_rows: bool = False


class Dedup(StrEnum):
    """Which questions are left out as duplicates of an earlier one."""

    EXACT = "exact"  # equal but for case and white space
    NEAR = "near"  # and those of nearly the same text, see fastdatasets/dedup.py


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows may be sampled, and how; where nothing is set all may, each with equal chance.

    where: a condition of SQL over the source's columns. min_chars, max_chars: of the question.
    languages: ISO 639 codes. stratify: the column whose values are sampled in proportion to their
    rows, or equally.
    """

    where: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    languages: tuple[str, ...] = ()
    dedup: Dedup | None = None
    stratify: str | None = None
    equal_strata: bool = False


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Checks of answers that a run asks for, beside those of every run.

    functions: MODULE:FUNCTION of the user. schema: a JSON schema. min_chars, max_chars: of an
    answer. answer_pattern: a regular expression of the final answer. verify: the column of the
    dataset's own answer.
    """

    functions: tuple[str, ...] = ()
    schema: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    answer_pattern: str | None = None
    verify: str | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """The judge of a run's answers. base_url: None for a local backend.

    params: of its requests, beside the run's max_tokens. Its templates are among the run's.
    """

    backend: str
    base_url: str | None
    model: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WeightedSource:
    """A dataset of a run. name: a local path, absolute, or a Hub name; weight: above 0, its part of
    the sample in proportion to the other weights, or of its own rows where all rows are sampled.
    """

    name: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{self.weight:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is. Frozen: a resume uses this, not the flags or environment of its command.

    base_url: the server's address in its normal form; None for a local backend. final_stage: the
    stage whose answers are exported: of each record and variant as many as samples says.
    """

    run_id: str
    created_at: datetime
    mode: Mode
    backend: str
    base_url: str | None
    model: str
    sources: tuple[WeightedSource, ...]
    config: str | None
    split: str
    reading: Reading
    selection: Selection
    sample_size: int
    seed: int
    columns: dict[str, str | None]
    turns: Turns
    images: bool
    image_tokens: int | None
    samples: int
    params: dict[str, Any]
    system_prompt: str | None
    language: Language
    templates: dict[str, str]
    final_stage: str
    num_aug: int
    skip_generation: bool
    checks: CheckOptions
    judge: Judge | None
    export: ExportOptions

    @property
    def source_names(self) -> list[str]:
        """The names of its datasets."""
        return [source.name for source in self.sources]

    def without_paths(self) -> Run:
        """The run as its files name it, which others may read: without paths of this machine.

        Of a local model or adapter the folder's name is left, of local datasets what short_names
        leaves.
        """
        names = short_names(self.source_names)
        lora = {name: _end(path) for name, path in self.params.items() if name == "lora"}
        return replace(
            self,
            model=_end(self.model),
            params=self.params | lora,
            judge=self.judge and replace(self.judge, model=_end(self.judge.model)),
            sources=tuple(
                replace(source, name=name) for source, name in zip(self.sources, names, strict=True)
            ),
        )


def short_names(names: Sequence[str]) -> list[str]:
    """Different names of datasets without local paths; of a path the file's name is left, and as
    many of its folders as tell it apart from the others.
    """

    def short(name: str) -> str:
        parts = 1
        while parts < len(PurePath(name).parts) and any(
            _end(other, parts) == _end(name, parts) for other in names if other != name
        ):
            parts += 1
        return _end(name, parts)

    return [short(name) for name in names]


def _end(name: str, parts: int = 1) -> str:
    """The last parts of an absolute path; other names as they are."""
    path = PurePath(name)
    return "/".join(path.parts[1:][-parts:]) if path.is_absolute() else name


JSON_FIELDS = (
    *("sources", "reading", "selection", "columns", "params", "templates"),
    *("checks", "judge", "export"),
)


class ServerChanged(msgspec.Struct, frozen=True):
    """Another server from here on; answered: whether the one before had answered."""

    base_url: str
    answered: bool


def insert_run(database: Database, run: Run) -> None:
    """Store what a run is; the table's columns are the fields of Run."""
    import pyarrow as pa  # which --help need not wait for

    row = asdict(run)
    row |= {name: msgspec.json.encode(row[name]).decode() for name in JSON_FIELDS}
    with database.incoming(pa.Table.from_pylist([row])):
        database.run("insert_run")


def run_as_made(database: Database) -> Run:
    """The run as it was frozen."""
    row = database.record("run")
    row |= {name: msgspec.json.decode(row[name]) for name in JSON_FIELDS}
    return msgspec.convert(row, Run)


def current_run(database: Database) -> Run:
    """The run with the changed limit and server, if any."""
    run, changes = run_as_made(database), dict(_changes(database))  # the last of each kind
    if (detail := changes.get(Event.LIMIT_CHANGED)) is not None:
        run = replace(run, params={**run.params, **msgspec.json.decode(detail)})
    if (detail := changes.get(Event.SERVER_CHANGED)) is not None:
        run = replace(run, base_url=msgspec.json.decode(detail, type=ServerChanged).base_url)
    return run


def changed_limit(database: Database) -> int | None:
    """The max_tokens of an answer, where it was changed since the run was created."""
    detail = dict(_changes(database)).get(Event.LIMIT_CHANGED)
    return None if detail is None else int(msgspec.json.decode(detail)["max_tokens"])


def servers(database: Database) -> set[str | None]:
    """Addresses of the servers of the run's answers, reused ones included; None: local."""
    current = run_as_made(database).base_url
    addresses: set[str | None] = set()
    for event, detail in _changes(database):
        if event == Event.SERVER_CHANGED:
            change = msgspec.json.decode(detail, type=ServerChanged)
            if change.answered:
                addresses.add(current)
            current = change.base_url
        elif event == Event.OTHER_SERVERS:
            addresses.update(msgspec.json.decode(detail, type=list[str | None]))
    return addresses | {current}


def _changes(database: Database) -> list[tuple[str, str]]:
    """Events of the run's limit and servers, in order, and their details."""
    return database.rows("run_changes")


def append_event(database: Database, event: Event, detail: object) -> None:
    """Store an event of the run."""
    database.run("insert_event", event=event, detail=msgspec.json.encode(detail).decode())
