"""The SELECT statements: pure functions of relation, cursor and position, and a few that run one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    TextClause,
    and_,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy import table as sql_table
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import NullType

from headrace import ConfigError
from headrace_sources.sql.configuration.syntax import is_plain_name
from headrace_sources.sql.dialects.dialect import TableName

LARGEST_ID = 2**63 - 1
"""Of an incrementing column."""


@dataclass(frozen=True)
class Relation:
    """What rows come from: a table, or a query (without a semicolon). ``quote``: whether names are quoted."""

    table: TableName | None
    query: str = ""
    quote: bool = True

    def __str__(self) -> str:
        """For messages."""
        return f"table {self.table}" if self.table else "the query"

    def clause(self) -> FromClause:
        """For FROM."""
        if self.table is None:
            # Colons would be taken for parameters. Oracle knows no AS before the name of a subquery.
            inner = self.query.replace(":", "\\:")
            return _as_from(text(f"(\n{inner}\n) headrace_query"))
        schema = self._name(self.table.schema) if self.table.schema else None
        return sql_table(self._name(self.table.name), schema=schema)

    def column(self, name: str) -> ColumnElement[Any]:
        """A column of it."""
        return column(self._name(name))

    def _name(self, name: str) -> quoted_name:
        """Return a name for a statement. Raise ConfigError for one that would be read as more than a name."""
        if not self.quote and not is_plain_name(name):
            raise ConfigError(
                f"{name!r} cannot be written without quotes: it is not a plain identifier",
                code="sql.not_plain",
                hint="set quote.sql.identifiers: always",
            )
        return quoted_name(name, self.quote)

    def coalesced(self, names: tuple[str, ...]) -> ColumnElement[Any]:
        """The first of some columns that is not NULL."""
        columns = [self.column(name) for name in names]
        return columns[0] if len(columns) == 1 else func.coalesce(*columns)


@dataclass(frozen=True)
class Cursor:
    """Columns that rows are ordered by. Not both empty, but in mode bulk."""

    timestamps: tuple[str, ...] = ()
    incrementing: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All of its columns."""
        return (*self.timestamps, self.incrementing) if self.incrementing else self.timestamps


@dataclass(frozen=True)
class Bounds:
    """``after`` and ``before`` as the timestamp column stores them; exclusive, None = no bound."""

    after: Any = None
    after_id: int | None = None
    before: Any = None
    up_to_id: int | None = None
    """Inclusive."""
    until: Any = None
    """Of the timestamp, inclusive; as the column stores it."""
    key: tuple[str, ...] = ()
    """Without a cursor: columns of the primary key, by which pages follow each other."""
    after_key: tuple[Any, ...] = ()
    """Values of :attr:`key`, exclusive; empty = no bound."""
    above: Any = None
    """Of the key's first column, exclusive."""
    up_to: Any = None
    """Of the key's first column, inclusive."""
    row_values: bool = True
    """Whether to write ``(a, b) > (1, 2)``, where an index is used for it."""
    within: tuple[Cursor, Bounds] | None = None
    """Only rows within these bounds of a cursor, though they are read in the key's order."""

    def after_key_values(self, values: tuple[Any, ...]) -> Bounds:
        """Return what is left after the row with these values of :attr:`key`."""
        return replace(self, after_key=values)


def statement(
    relation: Relation, cursor: Cursor, bounds: Bounds, suffix: str = "", page: int | None = None, *, ties: bool = False
) -> Select[Any] | TextClause:
    """Return the SELECT of all columns of the rows within ``bounds``, in the cursor's order.

    ``page``: so many rows at most, with ``ties`` also those that have the cursor of the last one.
    """
    if not cursor.names:
        if relation.table is None:
            return text(f"{relation.query} {suffix}".strip().replace(":", "\\:"))
        return _suffixed(_by_key(relation, bounds, page), suffix)
    query: Select[Any] = (
        select(literal_column("*")).select_from(relation.clause()).where(*_conditions(relation, cursor, bounds))
    )
    if cursor.timestamps:
        query = query.order_by(relation.coalesced(cursor.timestamps))
    if cursor.incrementing:
        query = query.order_by(relation.column(cursor.incrementing))
    if page is not None:
        query = query.fetch(page, with_ties=True) if ties else query.limit(page)
    return _suffixed(query, suffix)


def _by_key(relation: Relation, bounds: Bounds, page: int | None) -> Select[Any]:
    query: Select[Any] = select(literal_column("*")).select_from(relation.clause())
    if page is None:
        return query
    columns = [relation.column(name) for name in bounds.key]
    # Values without a type, so that the database takes each for one of its column's.
    if bounds.above is not None and not bounds.after_key:
        query = query.where(columns[0] > literal(bounds.above, NullType()))
    if bounds.up_to is not None:
        query = query.where(columns[0] <= literal(bounds.up_to, NullType()))
    if bounds.after_key:
        values = [literal(value, NullType()) for value in bounds.after_key]
        if len(columns) == 1 or not bounds.row_values:
            query = query.where(*_after(columns, values))
        else:
            query = query.where(tuple_(*columns) > tuple_(*values))
    if bounds.within is not None:
        query = query.where(*_conditions(relation, *bounds.within))
    return query.order_by(*columns).limit(page)


def _after(columns: Sequence[ColumnElement[Any]], last: Sequence[Any]) -> list[ColumnElement[bool]]:
    """Return (a, b) > (x, y) written out: not every database uses an index for it. The first condition is for one."""
    if len(columns) == 1:
        return [columns[0] > last[0]]
    ways = [and_(*_equal(columns, last, place), columns[place] > last[place]) for place in range(len(columns))]
    return [columns[0] >= last[0], or_(*ways)]


def greatest_id(connection: Connection, relation: Relation, cursor: Cursor) -> int | None:
    """Return the greatest value of the incrementing column; None without rows."""
    column = relation.column(cursor.incrementing)
    found = connection.execute(select(func.max(column)).select_from(relation.clause())).scalar_one()
    return None if found is None else int(found)


def greatest(relation: Relation, cursor: Cursor, bounds: Bounds) -> Select[Any]:
    """Return the SELECT of the greatest timestamp within ``bounds``, or of the greatest id; no row where none is."""
    value = relation.coalesced(cursor.timestamps) if cursor.timestamps else relation.column(cursor.incrementing)
    query: Select[Any] = select(value).select_from(relation.clause()).where(*_conditions(relation, cursor, bounds))
    return query.order_by(value.desc()).limit(1)


def page_end(relation: Relation, cursor: Cursor, bounds: Bounds, rows: int) -> Select[Any]:
    """Return the SELECT of the timestamp, or of the id, of row number ``rows`` within ``bounds``.

    No row where there are fewer.
    """
    value = relation.coalesced(cursor.timestamps) if cursor.timestamps else relation.column(cursor.incrementing)
    query: Select[Any] = select(value).select_from(relation.clause()).where(*_conditions(relation, cursor, bounds))
    return query.order_by(value).offset(rows - 1).limit(1)


def ends(relation: Relation, name: str) -> Select[Any]:
    """Return the SELECT of the least and the greatest value of a column."""
    column = relation.column(name)
    return select(func.min(column), func.max(column)).select_from(relation.clause())


def has_more_than(connection: Connection, relation: Relation, cursor: Cursor, bounds: Bounds, rows: int) -> bool:
    """Return whether there are more than ``rows`` rows within ``bounds``; read no more rows than that takes."""
    found: Select[Any] = select(literal_column("1")).select_from(relation.clause())
    if cursor.names:
        found = found.where(*_conditions(relation, cursor, bounds))
    return connection.execute(found.offset(rows).limit(1)).first() is not None


def in_order(relation: Relation, cursor: Cursor) -> Select[Any]:
    """Return the SELECT of the first row in the cursor's order, to ask the planner how it would find it."""
    order = [relation.coalesced(cursor.timestamps)] if cursor.timestamps else [relation.column(cursor.incrementing)]
    return select(literal_column("*")).select_from(relation.clause()).order_by(*order).limit(1)


KeyBounds = tuple[Sequence[Any] | None, Sequence[Any] | None]
"""After the first key, up to the second; None = no bound."""


def keys_within(relation: Relation, names: Sequence[str], bounds: KeyBounds, rows: int) -> Select[Any]:
    """Return the SELECT of the first ``rows`` keys within ``bounds``, in order; keys with NULL in them are left out."""
    columns = [relation.column(name) for name in names]
    query: Select[Any] = select(*columns).select_from(relation.clause()).order_by(*columns).limit(rows)
    return query.where(*_key_conditions(columns, bounds))


def keys_hashed(
    relation: Relation, names: Sequence[str], hashed: ColumnElement[int], bounds: KeyBounds, most: int
) -> Select[Any]:
    """Return the SELECT of the number of keys within ``bounds``, and of the sum of ``hashed`` over them.

    It reads no more than ``most`` keys.
    """
    columns = [relation.column(name) for name in names]
    part = (
        select(hashed.label("hashed"))
        .select_from(relation.clause())
        .where(*_key_conditions(columns, bounds))
        .limit(most)
        .subquery("part")
    )
    totals: list[ColumnElement[Any]] = [func.count(), func.sum(part.c.hashed)]
    return select(*totals)


def _key_conditions(columns: Sequence[ColumnElement[Any]], bounds: KeyBounds) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [column.is_not(None) for column in columns]
    after, up_to = bounds
    if after is not None:
        conditions += _after(columns, after)
    if up_to is not None:
        ways = [and_(*_equal(columns, up_to, place), columns[place] < up_to[place]) for place in range(len(columns))]
        conditions += [columns[0] <= up_to[0], or_(*ways, and_(*_equal(columns, up_to, len(columns))))]
    return conditions


def _equal(columns: Sequence[ColumnElement[Any]], key: Sequence[Any], places: int) -> Sequence[ColumnElement[bool]]:
    return [columns[place] == key[place] for place in range(places)]


def keys_among(relation: Relation, names: Sequence[str], keys: Sequence[Sequence[Any]]) -> Select[Any]:
    """Return the SELECT of those among ``keys`` that exist."""
    columns = [relation.column(name) for name in names]
    same = [and_(*(column == value for column, value in zip(columns, key, strict=True))) for key in keys]
    query: Select[Any] = select(*columns).select_from(relation.clause()).where(or_(*same))
    return query


def probe(relation: Relation) -> Select[Any]:
    """Return the SELECT of all columns and no row, for the columns of its result."""
    return select(literal_column("*")).select_from(relation.clause()).where(text("1 = 0"))


def without_cursor(relation: Relation, cursor: Cursor) -> Select[Any]:
    """Return the SELECT of one row if there is a row whose cursor is NULL: it is never read."""
    missing = []
    if cursor.timestamps:
        missing.append(relation.coalesced(cursor.timestamps).is_(None))
    if cursor.incrementing:
        missing.append(relation.column(cursor.incrementing).is_(None))
    return select(literal_column("1")).select_from(relation.clause()).where(or_(*missing)).limit(1)


def _conditions(relation: Relation, cursor: Cursor, bounds: Bounds) -> list[ColumnElement[bool]]:
    if not cursor.timestamps:
        identity = relation.column(cursor.incrementing)
        upper = [] if bounds.up_to_id is None else [identity <= bounds.up_to_id]
        return [identity.is_not(None) if bounds.after_id is None else identity > bounds.after_id, *upper]
    moment = relation.coalesced(cursor.timestamps)
    conditions: list[ColumnElement[bool]] = [moment < bounds.before]
    if bounds.until is not None:
        conditions.append(moment <= bounds.until)
    if bounds.after is None:
        return conditions
    if not cursor.incrementing or bounds.after_id == LARGEST_ID:
        return [*conditions, moment > bounds.after]
    # The first condition follows from the second, but only with it databases use an index.
    conditions.append(moment >= bounds.after)
    if bounds.after_id is not None:
        identity = relation.column(cursor.incrementing)
        conditions.append(or_(moment > bounds.after, and_(moment == bounds.after, identity > bounds.after_id)))
    return conditions


def _suffixed(query: Select[Any], suffix: str) -> Select[Any]:
    return query.suffix_with(text(suffix.replace(":", "\\:"))) if suffix else query


def _as_from(clause: TextClause) -> FromClause:
    return clause  # type: ignore[return-value]  # select_from() takes text, as SQLAlchemy documents
