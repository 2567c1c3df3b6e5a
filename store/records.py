"""Records: rows that were sampled from the source, in sample order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database

from store.errors import UserError
from store.runs import Event, append_event


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the records were sampled.

    rows: of the source; left_out: how many of them, by the reason. mapping: role -> column.
    rows_with_unused_turns: rows with turns after the question that is asked and its answer.
    """

    rows: int
    left_out: dict[str, int]
    rows_with_unused_turns: int
    unused_turns: int
    mapping: dict[str, str | None]


class Records:
    """The records of a run."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def sampling(self) -> Sampling | None:
        """How the records were sampled; None until sampling is complete."""
        row = self._db.first("sampled")
        return None if row is None else msgspec.json.decode(row[0], type=Sampling)

    def sample(
        self,
        sample_size: int,
        seed: int,
        mapping: Mapping[str, str | None],
        *,
        need_instruction: bool,
    ) -> Sampling:
        """Sample records from source_rows in one transaction; all rows where sample_size <= 0.

        source_rows is a relation of instruction, input, output, reasoning (not null); of system,
        history, tools, tool_calls, outputs, followups, fields (nullable; see the table records); of
        left_out (why the row is no record), problem (why it cannot be read) and unused_turns.
        The choice depends on seed and row only, not on the number of threads. Raises UserError,
        naming the row, where an instruction is needed and a record has none.
        """
        with self._db.few_threads(), self._db.transaction():
            rows, left_out, rows_unused, unused, bad_row, problem = self._db.row("count_source")
            if problem is not None:
                raise UserError(f"row {bad_row + 1} cannot be read: {problem}")
            if sample_size > 0:
                self._db.run("sample_some", seed=seed, sample_size=sample_size)
            else:
                self._db.run("sample_all")
            if not self.count():
                reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
                raise UserError(f"it has no row with a question to ask: {reasons or 'no rows'}")
            if need_instruction and (row := self._first_without_instruction()) is not None:
                raise UserError(f"the sample in row {row + 1} has no instruction to vary")
            sampling = Sampling(rows, left_out, rows_unused, unused, dict(mapping))
            append_event(self._db, Event.SAMPLED, sampling)
        return sampling

    def count(self) -> int:
        """How many records were sampled."""
        (count,) = self._db.row("count_records")
        return int(count)

    def max_followups(self) -> int:
        """The most questions after the first that a record has."""
        (most,) = self._db.row("max_followups")
        return int(most)

    def followups(self) -> tuple[int, int]:
        """Questions after the first of all records, and the turns that come before these."""
        count, before = self._db.row("count_followups")
        return int(count), int(before)

    def expected_answers(self, max_tokens: int) -> tuple[int, int]:
        """Records with an old output, and completion tokens expected of one answer to each record.

        For answers without requests yet, by the rule that the view expected_lengths has for
        requests before there are results.
        """
        with_old, tokens = self._db.row("expected_of_records", max_tokens=max_tokens)
        return int(with_old), int(tokens)

    def _first_without_instruction(self) -> int | None:
        """The source row of the first record without an instruction."""
        row = self._db.first("first_without_instruction")
        return None if row is None else int(row[0])
