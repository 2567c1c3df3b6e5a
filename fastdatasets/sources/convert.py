"""Records from rows: of texts by DuckDB alone, of any other shape by a function that it calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import chain
from operator import and_
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from fastdatasets.sources.chat.conversation import Conversation, read_row
from fastdatasets.sources.chat.tools import NotTurns
from store.database.relations import (
    CaseExpression,
    CoalesceOperator,
    ColumnExpression,
    Connection,
    ConstantExpression,
    Expression,
    FunctionExpression,
    Relation,
    SQLExpression,
)
from store.images import HEAD_BYTES
from store.records import NO_QUESTION
from store.runs import Turns

FUNCTION = "read_conversation"
TEXTS = ("instruction", "input", "output", "reasoning")  # never null
JSONS = ("history", "tools", "tool_calls", "outputs", "followups", "images")
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
NESTED = ("list", "struct", "map", "array")
NULL = ConstantExpression(None).cast("VARCHAR")
BLANK = r"^[\s\p{Z}]*$"


@contextmanager
def records_of(
    connection: Connection,
    rows: Relation,
    roles: Mapping[str, Sequence[str]],
    labels: Mapping[str, list[str]],
    *,
    fields: Sequence[str],
    marks: Mapping[str, Expression],
    turns: Turns,
    folders: Sequence[Path] | None,
) -> Iterator[Relation]:
    """The records of rows, for the block: a relation of the columns that Records.sample takes.

    roles: role -> columns. labels: column -> the names of its class labels. fields: the columns
    that templates may use; where there are none `fields` is null. marks: further columns, of rows;
    where there is an is_wanted and it is false a row is not read, unless it is empty. folders:
    where paths of images are looked for; None: images are not sent.
    """
    kept = {"fields": _fields(rows, fields, labels) if fields else NULL, **marks}
    if _is_plain(rows, roles):
        yield _plain_records(rows, roles, labels, kept)
        return
    with _reading_function(connection, turns, folders):
        yield _read_records(rows, roles, labels, kept)


@contextmanager
def _reading_function(
    connection: Connection, turns: Turns, folders: Sequence[Path] | None
) -> Iterator[None]:
    """Give a connection the function FUNCTION for the block: a JSON object of roles -> RECORD.

    Removed at the end: a connection that keeps a reference to Python's objects is never freed.
    """

    def convert(rows: pa.Array) -> pa.Array:
        return pa.array([_record(row, turns, folders) for row in rows.to_pylist()], RECORD)

    connection.create_function(FUNCTION, convert, ["VARCHAR"], SQL_TYPE, type="arrow")  # type: ignore[call-overload]
    try:
        yield
    finally:
        connection.remove_function(FUNCTION)


def _record(row: str, turns: Turns, folders: Sequence[Path] | None) -> dict[str, Any]:
    try:
        read = read_row(msgspec.json.decode(row), turns, folders)
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


def _is_plain(relation: Relation, roles: Mapping[str, Sequence[str]]) -> bool:
    """Whether all roles are texts, which needs no function of Python's.

    Columns of a JSON file are texts already where none has a list or an object, see text_files.py.
    """
    if not set(roles) <= set(TEXTS):
        return False
    types = dict(zip(relation.columns, relation.types, strict=True))
    used = (types[name] for names in roles.values() for name in names)
    return not any(one.id in NESTED or str(one) == "JSON" for one in used)


def text_of_column(relation: Relation, name: str, labels: Mapping[str, list[str]]) -> Expression:
    """A column as a text; null where it is null."""
    types = dict(zip(relation.columns, relation.types, strict=True))
    column: Expression = ColumnExpression(name)
    if name in labels:
        numbers = ConstantExpression(labels[name])
        return FunctionExpression("list_extract", numbers, column + ConstantExpression(1))
    if str(types[name]) == "JSON":
        return FunctionExpression("json_extract_string", column, ConstantExpression("$"))
    if types[name].id == "blob":
        return FunctionExpression("decode", column)  # UTF-8, or an error: no \xE4\xBD
    return column.cast("VARCHAR")


def _json(relation: Relation, name: str, labels: Mapping[str, list[str]]) -> Expression:
    """A column as JSON: lists and objects as they are, other values as texts."""
    types = dict(zip(relation.columns, relation.types, strict=True))
    column = ColumnExpression(name)
    if types[name].id in NESTED:
        return FunctionExpression("to_json", column)
    text = FunctionExpression("to_json", text_of_column(relation, name, labels))
    if str(types[name]) != "JSON":
        return text
    is_nested = FunctionExpression("json_type", column).isin(
        ConstantExpression("ARRAY"), ConstantExpression("OBJECT")
    )
    return CaseExpression(is_nested, column).otherwise(text)


def _fields(
    relation: Relation, names: Sequence[str], labels: Mapping[str, list[str]]
) -> Expression:
    """All columns as the text of a JSON object."""
    pairs = ((ConstantExpression(name), _json(relation, name, labels)) for name in names)
    return FunctionExpression("json_object", *chain.from_iterable(pairs)).cast("VARCHAR")


def _plain_records(
    relation: Relation,
    roles: Mapping[str, Sequence[str]],
    labels: Mapping[str, list[str]],
    kept: Mapping[str, Expression],
) -> Relation:
    """Records of texts; several columns of a role have a blank line between them."""
    empty = ConstantExpression("")

    def text(role: str) -> Expression:
        texts = [text_of_column(relation, name, labels) for name in roles.get(role, ())]
        if not texts:
            return empty
        if len(texts) == 1:
            return CoalesceOperator(texts[0], empty)
        return FunctionExpression("concat_ws", ConstantExpression("\n\n"), *texts)

    texts = relation.project(*(text(role).alias(role) for role in TEXTS), *_named(kept))
    question = FunctionExpression("concat", *map(ColumnExpression, ("instruction", "input")))
    blank = FunctionExpression("regexp_matches", question, ConstantExpression(BLANK))
    return texts.project(
        *map(ColumnExpression, (*TEXTS, *kept)),
        *(NULL.alias(name) for name in ("system", *JSONS, "problem")),
        CaseExpression(blank, ConstantExpression(NO_QUESTION)).alias("left_out"),
        ConstantExpression(0).cast("BIGINT").alias("unused_turns"),
        NULL.alias("image_blobs"),
    )


def _read_records(
    relation: Relation,
    roles: Mapping[str, Sequence[str]],
    labels: Mapping[str, list[str]],
    kept: Mapping[str, Expression],
) -> Relation:
    """Records of rows of any shape, see conversation.py."""
    blobs: Expression = NULL
    images = next(iter(roles.get("images", ())), None)
    if images is not None and (found := _image_bytes(relation, images)) is not None:
        described, blobs = found

    def cell(role: str, names: Sequence[str]) -> Expression:
        if role == "images" and blobs is not NULL:
            return FunctionExpression("to_json", described)
        if len(names) == 1:
            return _json(relation, names[0], labels)
        if role == "options":
            pairs = ((ConstantExpression(name), ColumnExpression(name)) for name in names)
            return FunctionExpression("json_object", *chain.from_iterable(pairs))
        texts = (text_of_column(relation, name, labels) for name in names)
        joined = FunctionExpression("concat_ws", ConstantExpression("\n\n"), *texts)
        return FunctionExpression("to_json", joined)

    cells = ((ConstantExpression(role), cell(role, names)) for role, names in roles.items())
    row = FunctionExpression("json_object", *chain.from_iterable(cells)).cast("VARCHAR")
    read: Expression = FunctionExpression(FUNCTION, row)
    if "is_wanted" in kept:
        first, *others = (ColumnExpression(name).isnull() for name in chain(*roles.values()))
        is_empty = reduce(and_, others, first)
        read = CaseExpression(kept["is_wanted"] | is_empty, read)
    kept = {**kept, "image_blobs": blobs}
    records = relation.project(read.alias("read"), *_named(kept))

    def part(name: str) -> Expression:
        value = FunctionExpression(
            "struct_extract", ColumnExpression("read"), ConstantExpression(name)
        )
        return CoalesceOperator(value, ConstantExpression("")) if name in TEXTS else value

    return records.project(
        *(part(name).alias(name) for name in RECORD.names), *map(ColumnExpression, kept)
    )


def _named(expressions: Mapping[str, Expression]) -> Iterator[Expression]:
    return (expression.alias(name) for name, expression in expressions.items())


def _image_bytes(relation: Relation, name: str) -> tuple[Expression, Expression] | None:
    """A column of images that has their bytes: what is known of each, and all bytes; else None.

    Its types are those of `datasets`: {bytes, path}, or a list of these; and bytes alone. The
    function sees no bytes, and what is not selected is not read.
    """
    types = dict(zip(relation.columns, relation.types, strict=True))
    kind, column = types[name], _quoted(name)
    if kind.id == "blob":
        images = f"[{{'bytes': {column}, 'path': NULL::VARCHAR}}]"
    elif _has_bytes(kind):
        images = f"[{column}]"
    elif kind.id == "list" and _has_bytes(kind.children[0][1]):
        images = column
    else:
        return None
    one = "_one_of_its_images"  # no column's name, which would come before it
    described = (
        f"{{'sha256': sha256({one}.bytes), 'path': {one}.path, "
        f"'head': hex(array_slice({one}.bytes, 1, {HEAD_BYTES}))}}"
    )
    return (
        SQLExpression(f"list_transform({images}, lambda {one}: {described})"),
        SQLExpression(f"list_transform({images}, lambda {one}: {one}.bytes)"),
    )


def _has_bytes(kind: Any) -> bool:
    fields = dict(kind.children) if kind.id == "struct" else {}
    return "path" in fields and "bytes" in fields and fields["bytes"].id == "blob"


def _quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'
