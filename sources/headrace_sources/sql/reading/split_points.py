"""Where a table is cut into chunks that several connections read at a time."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from headrace_sources.sql.dialects import Database
from headrace_sources.sql.rows.types import INTEGERS, Column, Kind
from headrace_sources.sql.tables.queries import Relation, ends


def split_points(
    connection: Connection, database: Database, relation: Relation, column: Column, count: int
) -> list[Any]:
    """At most ``count`` values of the key's first ``column``, ascending; none where nobody knows how it is spread.

    Numbers are cut into ranges of equal width, which two values from an index tell, others by the statistics.
    Chunks need not be equal: there are several for each thread.
    """
    if column.kind in INTEGERS or column.kind is Kind.DECIMAL:
        found = database.row(connection, ends(relation, column.name))
        assert found is not None
        return even(found[0], found[1], count)
    if relation.table is None:
        return []
    return quantiles(database.histogram(connection, relation.table, column.name), count)


def even(least: Any, greatest: Any, count: int) -> list[int]:
    """Whole numbers that cut the range into parts of about equal width; fewer where there are not so many."""
    bounds = []
    for value in (least, greatest):
        if value is None or (isinstance(value, Decimal) and not value.is_finite()):
            return []
        bounds.append(int(value))
    low, high = bounds
    found = (low + (high - low) * place // (count + 1) for place in range(1, count + 1))
    return [*dict.fromkeys(value for value in found if low <= value < high)]


def quantiles(values: Sequence[Any], count: int) -> list[Any]:
    """``count`` of ``values`` (ascending), as evenly spread as can be; fewer where there are not so many."""
    if len(values) <= count:
        return [*dict.fromkeys(values[1:-1])]
    return [*dict.fromkeys(values[len(values) * place // (count + 1)] for place in range(1, count + 1))]
