"""What readers of datasets build with: DuckDB's relations and expressions, by way of this room."""

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
