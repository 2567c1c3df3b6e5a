"""Planning: rows of a stage, their requests, and variants ingested from answers."""

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

_CANONICAL = msgspec.json.Encoder(order="sorted")


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces, so that equal requests have equal bytes."""
    return _CANONICAL.encode(value).decode()


class Row(msgspec.Struct, frozen=True, gc=False):
    """The input of a stage: a sampled record (ordinal 0) or a variant of one (1, 2, …).

    All texts are strings, '' where there is none. history, tools, fields: JSON, see the table
    records; images: JSON, see the view sent_images. known_variants: of the record, so far.
    generation: which of its answers, or how many requests for variants the row has had before.
    earlier_questions: of a conversation that is answered turn by turn, with the teacher's own
    answers to them.
    """

    record: int
    ordinal: int
    instruction: str
    input: str
    original_output: str = ""
    reasoning: str = ""
    system: str | None = None
    history: str | None = None
    tools: str | None = None
    fields: str | None = None
    images: str | None = None
    known_variants: Sequence[str] = ()
    generation: int = 0
    earlier_questions: Sequence[str] = ()
    earlier_answers: Sequence[str] = ()


class PlannedRequest(msgspec.Struct, frozen=True, gc=False):
    """A row of a stage and its request; params, messages and tools are canonical JSON.

    generation: the repeat index of an equal request that is sent again on purpose; part of the id.
    version: counts requests of the row that replace each other; the latest supersedes the others.
    repeat: stands for the generation in the id, where a rejected answer is asked for again. about:
    of a judge's request, the request whose answer it is about. image_tokens: the most prompt tokens
    of its images; image_bytes: of these as data URLs.
    """

    record: int
    ordinal: int
    generation: int
    params: str
    messages: str
    version: int = 0
    tools: str | None = None
    repeat: int | None = None
    about: str | None = None
    images: int = 0
    image_tokens: int = 0
    image_bytes: int = 0

    @property
    def request_id(self) -> str:
        """128 bits of SHA-256 in hexadecimal: equal requests have equal ids."""
        repeat = self.generation if self.repeat is None else self.repeat
        again = f"\n{repeat}" if repeat else ""
        tools = f"\n{self.tools}" if self.tools else ""
        text = f"{self.params}\n{self.messages}{tools}{again}"
        return sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class AnswerToIngest:
    """An answer to be ingested as variants of its record."""

    record: int
    generation: int
    request_id: str
    instruction: str
    text: str
    known_variants: tuple[str, ...]


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
    """The variants read from an answer, and how many were dropped as near-duplicates.

    variants: None where the answer could not be parsed.
    """

    answer: AnswerToIngest
    variants: tuple[str, ...] | None
    dropped: int


class Planning:
    """Requests of rows, and rows without one."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def rows_without_request(self, stage: str) -> Iterator[list[Row]]:
        """Records and variants without all requests of the stage, in sample order, in pages.

        A row for each answer of --samples that has none.
        """
        if not self.unplanned(stage):
            return
        for page in self._pages_of_records():
            rows = self._db.rows("rows_without_request", stage=stage, **page)
            if rows:
                yield [Row(*row) for row in rows]

    def rows_of_turn(self, stage: str, number: int | None) -> Iterator[list[Row]]:
        """Records without a request for the question of this number, in sample order, in pages.

        Only those whose earlier questions are answered. number: from 0; None: each conversation's
        last question, whose answer is the final stage's. stage: of the questions before the last.
        """
        for page in self._pages_of_records():
            rows = self._db.rows("rows_of_turn", stage=stage, number=number, **page)
            if rows:
                yield [Row(*row) for row in rows]

    def records_short_of_variants(self, stage: str, max_generations: int) -> Iterator[list[Row]]:
        """Records with too few variants and generations left, in sample order, in pages."""
        pages = self._db.pages(
            "records_short_of_variants", PLAN_PAGE, stage=stage, max_generations=max_generations
        )
        for rows in pages:
            yield [Row(*row) for row in rows]

    def answers_to_ingest(self, stage: str) -> Iterator[list[AnswerToIngest]]:
        """Answers of the stage that were not ingested yet, in sample order, in pages."""
        for rows in self._db.pages("answers_to_ingest", PLAN_PAGE, stage=stage):
            yield [
                AnswerToIngest(record, generation, request_id, instruction, text, tuple(known))
                for record, generation, request_id, instruction, text, known in rows
            ]

    def add_ingested(
        self, stage: str, ingested: Sequence[IngestedAnswer], verdicts: Sequence[Verdict]
    ) -> None:
        """Store variants, and verdicts on answers with too few of them, in one transaction."""
        variants = [
            (one.answer.record, ordinal, instruction)
            for one in ingested
            for ordinal, instruction in enumerate(
                one.variants or (), len(one.answer.known_variants) + 1
            )
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
                self._db.run("insert_ingestions", stage=stage)
            if verdicts:
                with self._db.incoming(table_of(verdicts, VERDICT_SCHEMA)):
                    self._db.run("insert_verdicts")

    def reject_truncated(self, check_name: str) -> None:
        """Reject truncated answers of the final stage, of the latest request of each row."""
        self._db.run("reject_truncated", check_name=check_name)

    def short_of_variants(self, num_aug: int) -> tuple[int, int]:
        """How many records have fewer than num_aug variants, and how many variants are missing."""
        records, missing = self._db.row("short_of_variants", num_aug=num_aug)
        return int(records), int(missing)

    def add(self, stage: str, row_requests: Sequence[PlannedRequest]) -> None:
        """Store requests of rows, in one transaction; equal requests are stored once."""
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
            "about": [row.about for row in row_requests],
            "params": [row.params for row in row_requests],
            "messages": [row.messages for row in row_requests],
            "tools": [row.tools for row in row_requests],
            "images": [row.images for row in row_requests],
            "image_tokens": [row.image_tokens for row in row_requests],
            "image_bytes": [row.image_bytes for row in row_requests],
            "is_first": [first[request_id] == place for place, request_id in enumerate(ids)],
        }
        rows = pa.table(columns, schema=ROW_REQUEST_SCHEMA)
        with self._db.transaction(), self._db.incoming(rows):
            self._db.run("insert_requests")
            self._db.run("insert_row_requests", stage=stage)

    def unplanned(self, stage: str) -> int:
        """How many requests of the stage the records and variants do not have."""
        (rows,) = self._db.row("unplanned", stage=stage, samples=self._samples())
        return int(rows)

    def _pages_of_records(self) -> Iterator[dict[str, int]]:
        """Ranges of records with about PLAN_PAGE answers, as parameters of statements."""
        samples = self._samples()
        size = max(1, PLAN_PAGE // samples)
        for first in range(0, self._db.row("count_records")[0], size):
            yield {"samples": samples, "first": first, "last": first + size - 1}

    def _samples(self) -> int:
        return int(self._db.row("samples")[0])
