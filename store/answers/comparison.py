"""Two runs compared: numbers of each answer, joined in one of the stores; and pairs for a judge.

Texts are never held: a store gives 80 bytes of numbers for an answer, DuckDB does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

    from store.database.connection import Database

from store.costs.bill import current_price
from store.database.statements import QUERIES
from store.money import rate_parameters

PAGE = 5_000  # answers, or judgements, read at a time: each page of answers reads all texts once


class RunFigures(msgspec.Struct, frozen=True):
    """A run's answers to the common questions.

    cost: picodollars; None where not known. verdicts: by check. scored: answers with a score.
    """

    answers: int
    mean_characters: float
    median_characters: float
    mean_completion_tokens: float | None
    cost: int | None
    scored: int
    mean_score: float | None
    verdicts: dict[str, int]


class Compared(msgspec.Struct, frozen=True):
    """Two runs; runs: empty where no question is common. Shares are from 0 to 1.

    scores: questions where the first run has the higher mean score, the same, a lower one.
    """

    common: int
    only_first: int
    only_second: int
    runs: tuple[RunFigures, ...]
    equal_answers: float | None
    final_answers: int  # questions where both runs have one
    equal_final_answers: float | None
    scores: tuple[int, int, int]


class AnswerOfPair(msgspec.Struct, frozen=True, gc=False):
    """An answer and its question; history, tool_calls: JSON."""

    instruction: str
    input: str
    system: str | None
    history: str | None
    text: str
    tool_calls: str | None


class Comparison:
    """The answers of this store's run beside those of another run."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def read(self, exclude: Sequence[str]) -> int:
        """Read the numbers of all answers, before anything else here; returns how many there are.

        exclude: checks whose rejected answers are not for a judge.
        """
        price = current_price(self._db)
        rates = rate_parameters(None if price is None else price.rates)
        self._db.run("read_compared_answers", exclude=list(exclude), **rates)
        (count,) = self._db.row("count_compared_answers")
        return int(count)

    def numbers(self) -> pa.Table:
        """The numbers of all answers, for the other run's store."""
        return self._db.table(QUERIES["compared_numbers"])

    def compare(self, first: pa.Table) -> Compared:
        """Compare another run, which becomes the first, with this one. first: its numbers."""
        with self._db.incoming(first):
            self._db.run("read_compared")
        self._db.run("read_compared_questions")
        self._db.run("read_common_answers")
        common, only_first, only_second = self._db.row("count_compared_questions")
        verdicts: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for side, check, count in self._db.rows("compared_verdicts"):
            verdicts[side][check] = count
        equal, finals, equal_finals = self._db.row("compared_equality")
        wins, ties, losses = self._db.row("compared_scores")
        return Compared(
            common,
            only_first,
            only_second,
            tuple(
                RunFigures(*(*row, verdicts[side])) for side, *row in self._db.rows("compared_runs")
            ),
            equal,
            finals,
            equal_finals,
            (wins, ties, losses),
        )

    def pairs(self, most: int) -> pa.Table:
        """After compare: question, place_0, place_1 of the pairs for a judge, in their order.

        At most so many: the first usable answers of both runs to a question, where they differ.
        """
        return self._db.table(QUERIES["pairs_to_judge"], pairs=most)

    def texts(self, places: pa.Table) -> Iterator[AnswerOfPair]:
        """The answers at places of this store; columns question, place, as of the pairs."""
        for start in range(0, len(places), PAGE):
            with self._db.incoming(places.slice(start, PAGE)):
                rows = self._db.rows("texts_of_pairs")
            yield from (AnswerOfPair(*row) for row in rows)

    def judged_pairs(self) -> Iterator[tuple[int, int, int, str]]:
        """Of a judge's run: line of the file of pairs, characters of both answers, its words."""
        for rows in self._db.pages("judged_pairs", PAGE):
            yield from rows
