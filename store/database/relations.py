"""DuckDB's relations and expressions, for the readers of datasets."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from duckdb import (
    CaseExpression,
    CoalesceOperator,
    ColumnExpression,
    ConstantExpression,
    Expression,
    FunctionExpression,
    SQLExpression,
)
from duckdb import (
    DuckDBPyConnection as Connection,
)
from duckdb import (
    DuckDBPyRelation as Relation,
)


def pattern_of(file: Path) -> str:
    """What DuckDB takes for this path: * ? [ would be a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", str(file))


@contextmanager
def memory_connection() -> Iterator[Connection]:
    """A connection to an empty database in memory, which reads no file, for the block."""
    connection = duckdb.connect(config={"enable_external_access": False, "threads": 1})
    try:
        yield connection
    finally:
        connection.close()


__all__ = [
    "CaseExpression",
    "CoalesceOperator",
    "ColumnExpression",
    "Connection",
    "ConstantExpression",
    "Expression",
    "FunctionExpression",
    "Relation",
    "SQLExpression",
    "memory_connection",
    "pattern_of",
]
