"""SQL expressions, compiled once to Python functions over whole batches."""

from headrace_streams.expressions.compiler import Expression, Projection, compile_expressions, parse_expression
from headrace_streams.expressions.errors import ExpressionError
from headrace_streams.expressions.sampled_columns import columns_of, columns_of_schemas
from headrace_streams.expressions.types import Columns, ColumnType

__all__ = [
    "ColumnType",
    "Columns",
    "Expression",
    "ExpressionError",
    "Projection",
    "columns_of",
    "columns_of_schemas",
    "compile_expressions",
    "parse_expression",
]
