"""--where: a condition of SQL, parsed by DuckDB and checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

import msgspec

from fastdatasets.sources.columns import some
from store import UserError
from store.database.errors import sql_errors
from store.database.relations import (
    ConstantExpression,
    Expression,
    FunctionExpression,
    Relation,
    SQLExpression,
    memory_connection,
)
from store.errors import SqlError

VALUE_ERRORS = ("Conversion Error", "Out of Range Error")  # of a condition, on a row's value
PREFIX = "SELECT 1 FROM t WHERE\n"

# What an expression may be made of; not of subqueries, windows, parameters and stars.
_CLASSES = {
    "COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "FUNCTION", "CAST", "CASE",
    "BETWEEN", "COLLATE", "LAMBDA", "TYPE",
}  # fmt: skip
_REFUSED = {
    "SUBQUERY": "a subquery is not possible",
    "WINDOW": "a window function is not possible: the condition is of one row",
    "PARAMETER": "there are no parameters",
    "STAR": "name the columns, instead of *",
}
# Scalar functions of DuckDB that are not of their arguments alone are marked volatile, but these.
_OF_STATEMENTS = ("__", "json_serialize_", "json_deserialize_", "json_execute_")
_MACROS = {
    *("if", "nullif", "split_part", "date_add", "days_in_month", "fmod", "fdiv", "json"),
    "array_to_string",
}
_MACRO_PREFIXES = ("list_", "array_")

# Texts of JSON and CSV files that are numbers; 007 and more digits than a number holds are texts.
_INTEGER = r"(-?(0|[1-9]\d{0,17}))?"
_NUMBER = r"(-?(0|[1-9]\d{0,14})(\.\d+)?([eE][-+]?\d{1,3})?)?"
_BOOLEAN = r"(?i)(true|false)?"
_TYPES = {"BIGINT": _INTEGER, "DOUBLE": _NUMBER, "BOOLEAN": _BOOLEAN}


@dataclass(frozen=True, slots=True)
class _Reference:
    """A column in the text of a condition: its name, and where it is, in bytes."""

    name: str
    start: int
    length: int
    is_alone: bool  # not a.b


class Condition:
    """A condition that is one expression over columns, with functions of its arguments only."""

    def __init__(self, text: str) -> None:
        """Raises UserError where it is not, with the place in it."""
        self._text = text
        tree = self._parsed()
        self._references = list(self._checked(tree, ()))

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns that are used; names: of all there are. Raises UserError for others."""
        return list(dict.fromkeys(self._column(one, names) for one in self._references))

    def expression(
        self, rows: Relation, names: Sequence[str], texts: dict[str, Expression], *, typed: bool
    ) -> Expression:
        """The condition, for rows of its columns; raises UserError where types do not fit.

        texts: columns that are compared as these texts; typed: as numbers or booleans where all of
        their values are.
        """
        types = _types_of(rows, texts) if typed else {}
        encoded = self._text.encode()
        for one in sorted(self._references, key=lambda one: -one.start):
            name = self._column(one, names)
            if name in texts and one.is_alone:
                written = str(texts[name])
                if name in types:
                    written = f"TRY_CAST({written} AS {types[name]})"
                encoded = (
                    encoded[: one.start] + written.encode() + encoded[one.start + one.length :]
                )
        try:
            with sql_errors():
                condition = SQLExpression(f"(\n{encoded.decode()}\n)")
                (kind,) = rows.project(condition.alias("wanted")).types
        except SqlError as error:
            raise where_error(error) from None
        if kind.id != "boolean":
            raise UserError(
                f"--where {self._text}: true or false is expected, and this is {kind}: compare it"
            )
        return condition

    def _column(self, one: _Reference, names: Sequence[str]) -> str:
        if one.name in names:
            return one.name
        lowered = {name.lower(): name for name in reversed(names)}
        if (name := lowered.get(one.name.lower())) is not None:
            return name
        near = get_close_matches(one.name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(
            f"--where {self._place(one.start)}: there is no column {one.name!r}{hint} "
            f"The dataset has {some(names)} (a text is written 'in single quotes')"
        )

    def _parsed(self) -> Any:
        parsed = _parse(PREFIX + self._text)
        if parsed["error"]:
            if "position" not in parsed:
                raise self._no_expression()
            at = int(parsed["position"]) - len(PREFIX)
            if at < 0:
                raise self._no_expression()
            raise UserError(f"--where {self._place(at)}: {parsed['error_message']}")
        if len(parsed["statements"]) != 1:
            raise self._no_expression()
        node = parsed["statements"][0]["node"]
        condition = node.pop("where_clause", None)
        plain = _parse(PREFIX + "true")["statements"][0]["node"]
        del plain["where_clause"]
        if node != plain:
            raise self._no_expression()
        return condition

    def _no_expression(self) -> UserError:
        example, most = "score > 3 AND lang = 'zh'", 60
        text = self._text if len(self._text) <= most else f"{self._text[:most]}…"
        return UserError(f'--where: one condition is expected, such as "{example}", not: {text}')

    def _checked(self, node: Any, variables: tuple[str, ...]) -> Iterator[_Reference]:
        """The columns of a part of the tree; raises UserError for what may not be in it.

        variables: of the lambda expressions around it.
        """
        if isinstance(node, list):
            for one in node:
                yield from self._checked(one, variables)
        if not isinstance(node, dict):
            return
        kind, start = node.get("class"), node.get("query_location", 0) - len(PREFIX)
        if kind is not None and kind not in _CLASSES:
            reason = _REFUSED.get(kind, f"{kind.lower()} is not possible")
            raise UserError(f"--where {self._place(start)}: {reason}")
        if kind == "COLUMN_REF":
            name, *inside = node["column_names"]
            if name not in variables:
                yield _Reference(name, start, node["query_location_length"], not inside)
        elif kind == "LAMBDA":
            more = tuple(one.name for one in self._checked(node["lhs"], ()))
            yield from self._checked(node["expr"], variables + more)
        else:
            if kind == "FUNCTION":
                self._check_function(node, start)
            for value in node.values():
                yield from self._checked(value, variables)

    def _check_function(self, node: dict[str, Any], start: int) -> None:
        name = node["function_name"].lower()
        possible, others = _functions()
        if name not in possible:
            near = get_close_matches(name, possible, n=1)
            hint = f"; did you mean {near[0]}?" if near and name not in others else ""
            what = (
                f"the function {name} is not possible: only functions of one row's values are"
                if name in others
                else f"there is no function {name}"
            )
            raise UserError(f"--where {self._place(start)}: {what}{hint}")

    def _place(self, at: int) -> str:
        """Where that is, counted in characters from 1, and the text from there."""
        encoded = self._text.encode()
        before, after = (part.decode("utf-8", "ignore") for part in (encoded[:at], encoded[at:]))
        return f"at character {len(before) + 1} ({after[:20]!r})" if after else "at its end"


def where_error(error: SqlError) -> UserError:
    """The error for a condition that DuckDB cannot apply."""
    line = error.detail.splitlines()[0]
    reason = line.partition("Error: ")[2] or line
    if "cast" in reason:
        reason += ". A column of texts is cast: TRY_CAST(x AS DOUBLE) > 3, x::DATE > '2026-01-31'"
    return UserError(f"--where: {reason}")


def _types_of(rows: Relation, texts: dict[str, Expression]) -> dict[str, str]:
    """The types of columns of texts that are not texts: one pass over the rows."""
    if not texts:
        return {}
    checks = [
        FunctionExpression(
            "bool_and",
            FunctionExpression("regexp_full_match", text, ConstantExpression(pattern)),
        )
        for text in texts.values()
        for pattern in _TYPES.values()
    ]
    found = iter(rows.aggregate(checks).fetchall()[0])
    types = {name: [kind for kind in _TYPES if next(found)] for name in texts}
    return {name: kinds[0] for name, kinds in types.items() if kinds}


def _parse(statement: str) -> Any:
    with memory_connection() as connection:
        row = connection.execute("SELECT json_serialize_sql($text)", {"text": statement}).fetchone()
    assert row is not None, "it returns a row"
    return msgspec.json.decode(row[0])


@cache
def _functions() -> tuple[set[str], set[str]]:
    """The functions of values of one row, and the others."""
    with memory_connection() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions()"
        ).fetchall()
    possible = {
        name
        for name, kind, stability in rows
        if (kind == "scalar" and stability == "CONSISTENT" and not name.startswith(_OF_STATEMENTS))
        or (kind == "macro" and (name in _MACROS or name.startswith(_MACRO_PREFIXES)))
    }
    return possible, {name for name, *_ in rows} - possible
