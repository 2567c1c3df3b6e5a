"""Records from rows of any shape: a function that DuckDB calls for each vector of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pyarrow as pa

from fastdatasets.sources.conversation import Conversation, read_row
from fastdatasets.sources.turns import NotTurns
from store.database.relations import Connection
from store.runs import Turns

FUNCTION = "read_conversation"
TEXTS = ("instruction", "input", "output", "reasoning")  # never null
JSONS = ("history", "tools", "tool_calls", "outputs", "followups")
RECORD = pa.struct(
    [(name, pa.string()) for name in (*TEXTS, "system", *JSONS, "left_out", "problem")]
    + [("unused_turns", pa.int64())]
)
SQL_TYPE = (
    "STRUCT("
    + ", ".join(
        f"{field.name} {'BIGINT' if field.name == 'unused_turns' else 'VARCHAR'}"
        for field in RECORD
    )
    + ")"
)


@contextmanager
def reading_function(connection: Connection, turns: Turns) -> Iterator[None]:
    """Give a connection the function FUNCTION for the block: a JSON object of roles -> RECORD.

    Removed at the end: a connection that keeps a reference to Python's objects is never freed.
    """

    def convert(rows: pa.Array) -> pa.Array:
        return pa.array([_record(row, turns) for row in rows.to_pylist()], RECORD)

    connection.create_function(FUNCTION, convert, ["VARCHAR"], SQL_TYPE, type="arrow")  # type: ignore[call-overload]
    try:
        yield
    finally:
        connection.remove_function(FUNCTION)


def _record(row: str, turns: Turns) -> dict[str, Any]:
    try:
        read = read_row(msgspec.json.decode(row), turns)
    except NotTurns as error:
        problem = str(error)
    except (msgspec.DecodeError, RecursionError):
        problem = "an object or list in it is nested too deeply"
    else:
        return {name: _cell(read, name) for name in RECORD.names if name != "problem"}
    return {**dict.fromkeys(TEXTS, ""), "problem": problem, "unused_turns": 0}


def _cell(read: Conversation, name: str) -> Any:
    value = getattr(read, name)
    if name in JSONS:
        return msgspec.json.encode(value).decode() if value else None
    return value
