"""Where a table is split into chunks that several connections read at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.reading.chunk_plan import ChunkPlan, split_at
from headrace_sources.sql.reading.read_spec import ReadSpec, describe
from headrace_sources.sql.rows.types import INTEGERS, Column, Kind
from headrace_sources.sql.tables.queries import Bounds, Relation, ends, has_more_than

_CHUNKS = 8
"""Chunks per connection; several, so that all connections finish at about the same time."""


def plan_chunks(
    connection: Connection,
    spec: ReadSpec,
    dialect: Dialect,
    threads: int,
    bounds: Bounds | None = None,
    final_offset: Mapping[str, Any] | None = None,
) -> ChunkPlan | None:
    """Return a plan for so many threads; None where one connection is as good, or the key's distribution is unknown.

    ``bounds``: what is to be read (None = all rows). ``final_offset``: see :class:`ChunkPlan`.
    """
    if not has_more_than(connection, spec.relation, spec.cursor, bounds or Bounds(), worth_splitting(spec, threads)):
        return None
    columns = {column.name: column for column in describe(connection, dialect, spec.relation)}
    first = columns.get(spec.unique[0])
    if first is None:
        return None
    points = split_points(connection, dialect, spec.relation, first, threads * _CHUNKS - 1)
    return split_at(spec.unique, points, spec.config.mode, final_offset) if points else None


def worth_splitting(spec: ReadSpec, threads: int) -> int:
    """Return from how many rows on a table is read by so many threads."""
    return spec.config.batch_rows * threads


def split_points(connection: Connection, dialect: Dialect, relation: Relation, column: Column, count: int) -> list[Any]:
    """Return at most ``count`` values of the key's first ``column``, ascending; none where the distribution is unknown.

    Numbers are split into ranges of equal width, for which an index has the two ends; others by the statistics. Chunks
    need not be equal: there are several for each thread.
    """
    if column.kind in INTEGERS or column.kind is Kind.DECIMAL:
        found = dialect.row(connection, ends(relation, column.name))
        assert found is not None
        return even(found[0], found[1], count)
    if relation.table is None:
        return []
    return quantiles(dialect.histogram(connection, relation.table, column.name), count)


def even(least: Any, greatest: Any, count: int) -> list[int]:
    """Return whole numbers that split the range into parts of about equal width; fewer where it contains fewer."""
    bounds = []
    for value in (least, greatest):
        if value is None or (isinstance(value, Decimal) and not value.is_finite()):
            return []
        bounds.append(int(value))
    low, high = bounds
    found = (low + (high - low) * number // (count + 1) for number in range(1, count + 1))
    return [*dict.fromkeys(value for value in found if low <= value < high)]


def quantiles(values: Sequence[Any], count: int) -> list[Any]:
    """Return ``count`` of ``values`` (ascending), as evenly spread as possible; fewer where there are fewer."""
    if len(values) <= count:
        return [*dict.fromkeys(values[1:-1])]
    return [*dict.fromkeys(values[len(values) * number // (count + 1)] for number in range(1, count + 1))]
