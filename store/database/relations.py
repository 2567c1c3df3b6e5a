"""DuckDB's relations and expressions, for the readers of datasets."""

from duckdb import (
    CoalesceOperator,
    ColumnExpression,
    ConstantExpression,
    Expression,
    FunctionExpression,
)
from duckdb import (
    DuckDBPyConnection as Connection,
)
from duckdb import (
    DuckDBPyRelation as Relation,
)

__all__ = [
    "CoalesceOperator",
    "ColumnExpression",
    "Connection",
    "ConstantExpression",
    "Expression",
    "FunctionExpression",
    "Relation",
]
