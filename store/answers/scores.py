"""Scores of answers: what is to be judged, what the judge said, and the scores read from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database

from store.answers.answers import Answers, Selection
from store.database.arrow import SCORE_SCHEMA, table_of

PAGE = 20_000  # judgements read at a time


class AnswerToJudge(msgspec.Struct, frozen=True, gc=False):
    """An answer and its conversation; history, tool_calls, fields: JSON, see the table records.

    request_id: whose answer it is. version: of the judge's request, for the next one of the row.
    """

    record: int
    ordinal: int
    generation: int
    request_id: str
    version: int
    instruction: str
    input: str
    original_output: str
    output: str
    system: str | None
    history: str | None
    tool_calls: str | None
    fields: str | None


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """What the judge wrote about the answer to a request of a row."""

    record: int
    ordinal: int
    generation: int
    request_id: str
    text: str


class Score(msgspec.Struct, frozen=True, gc=False):
    """The score of an answer; None where none could be read from what the judge wrote."""

    record: int
    ordinal: int
    generation: int
    request_id: str
    score: int | None
    reason: str


class Scores:
    """Scores of answers of the final stage."""

    def __init__(self, database: Database, answers: Answers) -> None:
        self._db = database
        self._answers = answers

    def to_judge(self, stage: str, exclude: Sequence[str]) -> Iterator[list[AnswerToJudge]]:
        """Answers without a request of the judge's stage, in pages.

        exclude: checks whose rejected answers are not judged.
        """
        self._db.set_variable("not_judged", list(exclude))
        for _ in self._answers.pages(Selection.UNJUDGED):
            rows = self._db.rows("answers_to_judge", stage=stage)
            yield [AnswerToJudge(*row) for row in rows]

    def to_read(self, stage: str) -> Iterator[list[Judgement]]:
        """What the judge wrote about answers without a score, in pages."""
        for rows in self._db.pages("judgements_to_read", PAGE, stage=stage):
            yield [Judgement(*row) for row in rows]

    def add(self, scores: Sequence[Score]) -> None:
        """Store scores, each once."""
        with self._db.transaction(), self._db.incoming(table_of(scores, SCORE_SCHEMA)):
            self._db.run("insert_scores")

    def unread(self) -> int:
        """How many judgements of current answers have no score that could be read."""
        (count,) = self._db.row("count_unread")
        return int(count)
