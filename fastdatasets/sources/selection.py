"""Which of a source's rows may be sampled: by condition, length and language; and their strata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import pyarrow as pa

from fastdatasets.languages import language_of
from fastdatasets.sources.columns import some
from fastdatasets.sources.convert import NULL, text_of_column
from fastdatasets.sources.where import Condition
from store import UserError
from store.database.relations import (
    CaseExpression,
    CoalesceOperator,
    ColumnExpression,
    Connection,
    ConstantExpression,
    Expression,
    FunctionExpression,
    Relation,
)
from store.runs import Selection

EXCLUDED = "for which --where is not true"
FUNCTION = "language_of_question"


@dataclass(frozen=True, slots=True)
class SelectedBy:
    """The columns by which rows are selected: those of the condition, and that of the strata."""

    condition: Condition | None
    where: Sequence[str]
    stratify: str | None

    @property
    def columns(self) -> list[str]:
        """All of them."""
        return [*self.where, *filter(None, [self.stratify])]

    def marks(
        self, rows: Relation, labels: Mapping[str, list[str]], *, are_texts: bool
    ) -> dict[str, Expression]:
        """Columns of rows: stratum, a text, and where there is a condition is_wanted, a boolean.

        are_texts: whether the columns of rows are texts of a file without types. Raises UserError
        where the condition does not fit the columns.
        """
        stratum = NULL if self.stratify is None else text_of_column(rows, self.stratify, labels)
        if self.condition is None:
            return {"stratum": stratum}
        named = self.where if are_texts else [name for name in self.where if name in labels]
        texts = {name: text_of_column(rows, name, labels) for name in named}
        condition = self.condition.expression(rows, self.where, texts, typed=are_texts)
        is_wanted = CoalesceOperator(condition, ConstantExpression(value=False))
        return {"is_wanted": is_wanted, "stratum": stratum}


def columns_of(selection: Selection, names: Sequence[str]) -> SelectedBy:
    """The columns of a selection; names: of all there are. Raises UserError for others."""
    condition = None if selection.where is None else Condition(selection.where)
    stratum = selection.stratify
    if stratum is not None and stratum not in names:
        near = get_close_matches(stratum, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(
            f"--stratify {stratum}: there is no column {stratum!r}{hint} The dataset has "
            f"{some(names)}"
        )
    return SelectedBy(condition, [] if condition is None else condition.columns(names), stratum)


@contextmanager
def eligible(connection: Connection, records: Relation, selection: Selection) -> Iterator[Relation]:
    """Records with the reason in left_out where they are not selected, for the block.

    records: with is_wanted where the selection has a condition.
    """
    with _language_function(connection, selection.languages):
        left_out = CaseExpression(
            ColumnExpression("left_out").isnotnull() | ColumnExpression("problem").isnotnull(),
            ColumnExpression("left_out"),
        )
        for is_left_out, reason in _reasons(selection):
            left_out = left_out.when(is_left_out, ConstantExpression(reason))
        others = [name for name in records.columns if name not in ("left_out", "is_wanted")]
        yield records.project(
            *map(ColumnExpression, others), left_out.otherwise(NULL).alias("left_out")
        )


def _reasons(selection: Selection) -> Iterator[tuple[Expression, str]]:
    """What leaves a record out, and the reason that is said, in the order of their costs."""
    if selection.where is not None:
        yield ~ColumnExpression("is_wanted"), EXCLUDED
    texts = [ColumnExpression(name) for name in ("instruction", "input")]
    instruction, its_input = (FunctionExpression("length", text) for text in texts)
    characters = instruction + its_input
    if (least := selection.min_chars) is not None:
        yield characters < ConstantExpression(least), f"shorter than --min-chars {least}"
    if (most := selection.max_chars) is not None:
        yield characters > ConstantExpression(most), f"longer than --max-chars {most}"
    if languages := selection.languages:
        question = FunctionExpression("concat_ws", ConstantExpression("\n"), *texts)
        is_one = FunctionExpression(FUNCTION, question).isin(*map(ConstantExpression, languages))
        yield ~is_one, f"not in {', '.join(languages)} (--question-language)"


@contextmanager
def _language_function(connection: Connection, languages: Sequence[str]) -> Iterator[None]:
    """Give a connection the function FUNCTION for the block; see _reading_function."""
    if not languages:
        yield
        return

    def convert(texts: pa.Array) -> pa.Array:
        return pa.array(map(language_of, texts.to_pylist()), pa.string())

    connection.create_function(FUNCTION, convert, ["VARCHAR"], "VARCHAR", type="arrow")  # type: ignore[call-overload]
    try:
        yield
    finally:
        connection.remove_function(FUNCTION)
