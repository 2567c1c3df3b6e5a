"""Arrow schemas of rows that are inserted into DuckDB; fields are named as the structs'."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

RESULT_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("text", pa.string()),
        ("reasoning", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("tool_calls", pa.string()),
    ]
)
FAILURE_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("kind", pa.string()),
        ("message", pa.string()),
        ("retryable", pa.bool_()),
        ("code", pa.string()),
        ("text", pa.string()),
    ]
)
ROW_REQUEST_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("record", pa.int64()),
        ("ordinal", pa.int32()),
        ("generation", pa.int32()),
        ("version", pa.int32()),
        ("request_id", pa.string()),
        ("about", pa.string()),
        ("params", pa.string()),
        ("messages", pa.string()),
        ("tools", pa.string()),
        ("images", pa.int32()),
        ("image_tokens", pa.int64()),
        ("image_bytes", pa.int64()),
        ("is_first", pa.bool_()),  # of its request in the table
    ]
)
VARIANT_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("record", pa.int64()),
        ("ordinal", pa.int32()),
        ("instruction", pa.string()),
    ]
)
INGESTION_SCHEMA = pa.schema(
    [
        ("record", pa.int64()),
        ("generation", pa.int32()),
        ("kept", pa.int32()),
        ("dropped", pa.int32()),
    ]
)
VERDICT_SCHEMA = pa.schema(
    [
        ("record", pa.int64()),
        ("stage", pa.string()),
        ("ordinal", pa.int32()),
        ("generation", pa.int32()),
        ("request_id", pa.string()),
        ("check_name", pa.string()),
        ("reason", pa.string()),
    ]
)
CHECKED_SCHEMA = pa.schema(
    [
        ("record", pa.int64()),
        ("ordinal", pa.int32()),
        ("generation", pa.int32()),
        ("request_id", pa.string()),
        ("final_answer", pa.string()),
    ]
)
SCORE_SCHEMA = pa.schema(
    [
        ("record", pa.int64()),
        ("ordinal", pa.int32()),
        ("generation", pa.int32()),
        ("request_id", pa.string()),
        ("score", pa.int32()),
        ("reason", pa.string()),
    ]
)
ID_SCHEMA = pa.schema([("request_id", pa.string())])
LINE_SCHEMA = pa.schema([("request_id", pa.string()), ("kind", pa.string())])
BODY_SCHEMA = pa.schema([("params", pa.string()), ("opening", pa.string())])


def table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows, at least one, as an Arrow table."""
    return pa.table(dict(zip(schema.names, zip(*rows, strict=True), strict=True)), schema=schema)


def table_of(structs: Sequence[msgspec.Struct], schema: pa.Schema) -> pa.Table:
    """The fields of structs that a schema names as an Arrow table."""
    columns = {name: list(map(attrgetter(name), structs)) for name in schema.names}
    return pa.table(columns, schema=schema)


def each_once(rows: pa.Table) -> pa.Table:
    """The first row of each request_id."""
    ids = rows.column("request_id").to_pylist()
    first: dict[str, int] = {}
    for place, request_id in enumerate(ids):
        first.setdefault(request_id, place)
    return rows if len(first) == len(ids) else rows.take(list(first.values()))
