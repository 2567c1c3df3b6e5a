"""DuckDB's relations and expressions, for the readers of datasets."""

import re
from pathlib import Path

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
    "pattern_of",
]
