"""Planning: rows of a stage, the requests they make, and rows made of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    from store.database.connection import Database

from store.database.arrow import (
    INGESTION_SCHEMA,
    ROW_REQUEST_SCHEMA,
    VARIANT_SCHEMA,
    VERDICT_SCHEMA,
    table,
    table_of,
)

PLAN_PAGE = 20_000  # records planned in one transaction


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a stage asks about: a sampled record (ordinal 0) or a variant of one (1, 2, …).

    All texts are strings, '' where there is none. found: the variants a record has so far;
    generation: how often the same has been asked before.
    """

    record: int
    ordinal: int
    instruction: str
    input: str
    original_output: str = ""
    reasoning: str = ""
    system: str | None = None
    found: tuple[str, ...] = ()
    generation: int = 0


class PlannedRequest(msgspec.Struct, frozen=True, gc=False):
    """A row of a stage and the question it asks; params and messages are canonical JSON.

    generation: how often the very same question was asked before, on purpose. It tells them apart.
    version: how often it was asked before with another limit; the latest supersedes the others.
    """

    record: int
    ordinal: int
    generation: int
    params: str
    messages: str
    version: int = 0

    @property
    def request_id(self) -> str:
        """128 bits of SHA-256 of all that is asked, in hexadecimal: equal asks have equal ids."""
        again = f"\n{self.generation}" if self.generation else ""
        return sha256(f"{self.params}\n{self.messages}{again}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class VariedAnswer:
    """An answer of the stage vary that is to become variants of its record."""

    record: int
    generation: int
    request_id: str
    instruction: str
    text: str
    found: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """A check's rejection of a row's answer; request_id: the request whose answer it is."""

    record: int
    stage: str
    ordinal: int
    generation: int
    request_id: str
    check_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class IngestedAnswer:
    """What an answer became: the variants that were kept, and how many near-duplicates were not.

    None for variants: the answer could not be parsed.
    """

    answer: VariedAnswer
    variants: tuple[str, ...] | None
    dropped: int


class Planning:
    """What was asked of which row, and what is to be asked yet."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def rows_to_answer(self) -> Iterator[list[Row]]:
        """Records and variants that have no ask for an answer yet, in sample order, in pages."""
        if not self.unplanned():
            return
        for first in range(0, self._db.row("count_records")[0], PLAN_PAGE):
            last = first + PLAN_PAGE - 1
            rows = self._db.rows("rows_to_answer", first=first, last=last)
            if rows:
                yield [Row(*row) for row in rows]

    def rows_to_vary(self, max_generations: int) -> Iterator[list[Row]]:
        """Records that want more variants and may be asked once more, in sample order, in pages."""
        pages = self._db.pages("rows_to_vary", PLAN_PAGE, max_generations=max_generations)
        for rows in pages:
            yield [
                Row(record, 0, text, given, output, reasoning, system, tuple(found), asked)
                for record, text, given, output, reasoning, system, found, asked in rows
            ]

    def answers_to_ingest(self) -> Iterator[list[VariedAnswer]]:
        """Answers of the stage vary that did not become variants yet, in sample order, in pages."""
        for rows in self._db.pages("answers_to_ingest", PLAN_PAGE):
            yield [
                VariedAnswer(record, generation, request_id, instruction, text, tuple(found))
                for record, generation, request_id, instruction, text, found in rows
            ]

    def add_ingested(self, ingested: Sequence[IngestedAnswer], verdicts: Sequence[Verdict]) -> None:
        """Store variants, once and for all, and verdicts on the answers that gave too few."""
        variants = [
            (one.answer.record, ordinal, instruction)
            for one in ingested
            for ordinal, instruction in enumerate(one.variants or (), len(one.answer.found) + 1)
        ]
        ingestions = [
            (one.answer.record, one.answer.generation, len(one.variants or ()), one.dropped)
            for one in ingested
        ]
        with self._db.transaction():
            if variants:
                rows = [(position, *row) for position, row in enumerate(variants)]
                with self._db.incoming(table(rows, VARIANT_SCHEMA)):
                    self._db.run("insert_variants")
            with self._db.incoming(table(ingestions, INGESTION_SCHEMA)):
                self._db.run("insert_ingestions")
            if verdicts:
                with self._db.incoming(table_of(verdicts, VERDICT_SCHEMA)):
                    self._db.run("insert_verdicts")

    def reject_truncated(self, check_name: str) -> None:
        """Reject answers that were cut off at their limit, of the latest request of each row."""
        self._db.run("reject_truncated", check_name=check_name)

    def short_of_variants(self, num_aug: int) -> tuple[int, int]:
        """How many records have fewer variants than wanted, and how many are missing in all."""
        records, missing = self._db.row("short_of_variants", num_aug=num_aug)
        return int(records), int(missing)

    def add(self, stage: str, row_requests: Sequence[PlannedRequest]) -> None:
        """Store asks and those of their requests that are new, in one transaction."""
        ids = [row.request_id for row in row_requests]
        first: dict[str, int] = {}
        for place, request_id in enumerate(ids):
            first.setdefault(request_id, place)
        columns = {
            "position": range(len(ids)),
            "record": [row.record for row in row_requests],
            "ordinal": [row.ordinal for row in row_requests],
            "generation": [row.generation for row in row_requests],
            "version": [row.version for row in row_requests],
            "request_id": ids,
            "params": [row.params for row in row_requests],
            "messages": [row.messages for row in row_requests],
            "is_first": [first[request_id] == place for place, request_id in enumerate(ids)],
        }
        rows = pa.table(columns, schema=ROW_REQUEST_SCHEMA)
        with self._db.transaction(), self._db.incoming(rows):
            self._db.run("insert_requests")
            self._db.run("insert_row_requests", stage=stage)

    def unplanned(self) -> int:
        """How many records and variants have no ask for an answer yet."""
        (rows,) = self._db.row("unplanned")
        return int(rows)
