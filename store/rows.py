"""The Arrow schemas of rows that are handed to DuckDB; their fields are those of store.models."""

from __future__ import annotations

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
ASK_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("record", pa.int64()),
        ("ordinal", pa.int32()),
        ("sample", pa.int32()),
        ("params", pa.string()),
        ("messages", pa.string()),
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
DERIVATION_SCHEMA = pa.schema(
    [
        ("record", pa.int64()),
        ("sample", pa.int32()),
        ("kept", pa.int32()),
        ("dropped", pa.int32()),
    ]
)
ID_SCHEMA = pa.schema([("request_id", pa.string())])
POSITION = pa.field("position", pa.int64())
BODY_SCHEMA = pa.schema([("params", pa.string()), ("opening", pa.string())])
