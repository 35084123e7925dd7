"""One table (or the query): its position, its open result, and the batches that come out of it.

A result is streamed: the driver hands over ``batch.max.rows`` rows at a time, and one row more is kept back, because
only the next row tells whether a batch ends between two rows of equal timestamp. What is read, which rows of it are
new, and which position goes with a batch, is for :mod:`headrace_sources.sql.progress`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from headrace import ConfigError, JsonForm, Schema, SourceBatch, TaskError, schema
from headrace_sources.sql.config import SqlSourceConfig
from headrace_sources.sql.deletes import deleted
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.dialects.generic import Verdict
from headrace_sources.sql.gap_free import Reach
from headrace_sources.sql.ledger import Ledger
from headrace_sources.sql.offsets import Position, partition_of
from headrace_sources.sql.pages import PageSize, Paging, Reading
from headrace_sources.sql.progress import BadCursorError, Places, Progress
from headrace_sources.sql.queries import Bounds, Cursor, Relation, probe, statement
from headrace_sources.sql.rows import REFUSALS, NullInRequiredError, Shape, find_column, shape_of
from headrace_sources.sql.server_json import DoubtfulRowsError, Query, ServerJson, Stream
from headrace_sources.sql.tables import topic_of
from headrace_sources.sql.timestamps import TimestampCodec, from_json
from headrace_sources.sql.types import TEMPORALS, Column, Kind, TypeMapping, infer, widen

Row = Sequence[Any]


@dataclass(frozen=True)
class Source:
    """What is read, and how."""

    relation: Relation
    cursor: Cursor
    keys: tuple[str, ...]
    """Columns of the record key; empty = no key."""
    identity: tuple[str, ...]
    """Columns that name a row in messages."""
    config: SqlSourceConfig
    mapping: TypeMapping
    json_form: JsonForm | None = None
    """The form in which rows may come as JSON."""
    unique: tuple[str, ...] = ()
    """Columns that no two rows have equal; empty = nobody knows."""
    reach: Reach = field(default_factory=Reach)
    paging: Paging = Paging.NONE
    ledger: Ledger | None = None
    """Takes the keys of what is sent."""

    @property
    def topic(self) -> str:
        """Where the records go."""
        return topic_of(self.config, self.relation.table)


def describe(connection: Connection, database: Database, relation: Relation) -> tuple[Column, ...]:
    """The columns that a reading of ``relation`` has now; a primary key's are not nullable."""
    result = connection.execute(probe(relation))
    columns = database.columns(connection, relation.table, relation.query, result.cursor)
    result.close()
    primary_key = database.primary_key(connection, relation.table) if relation.table else ()
    return tuple(replace(column, nullable=False) if column.name in primary_key else column for column in columns)


@dataclass
class _Page:
    """A part of a table that one statement reads."""

    bounds: Bounds
    wanted: int
    rows: int = 0
    first: Row | None = None
    seconds: float = 0.0  # that the database was busy with it


class TableReader:
    """Reads one relation, a result after the other. ``connection`` is the same for all calls while a result is open."""

    def __init__(self, source: Source, database: Database, position: Position | None) -> None:
        self.source = source
        self._database = database
        initial = source.config.timestamp_initial
        self.progress = Progress(
            source.relation,
            source.cursor,
            database,
            source.reach,
            position or Position(),
            timedelta(milliseconds=source.config.timestamp_delay),
            chosen=position is not None
            and initial not in (None, -1)
            and position == Position(from_json(initial, None)),
        )
        self._placed = False  # progress knows the columns
        self._partition = partition_of(source.relation.table, source.config.mode)
        self._columns: tuple[Column, ...] = ()
        self._signature: object = None  # of a result that has these columns
        self._shape: Shape | None = None
        self._codec: TimestampCodec | None = None
        self._key_schema: Schema | None = None
        self._planned = False  # whether _fast is up to date
        self._fast: ServerJson | None = None  # None = there is no fast path
        self._fast_rest = False  # the fast path rests until everything was read
        self._verified = True  # whether the open result's columns are known to be the table's
        self._result_fast: ServerJson | None = None  # what the open result's rows are made for; None = the plain path
        self._names: Sequence[str] = ()  # of what the open result's rows hold
        self._result: Stream | None = None
        self._pages = PageSize(source.config.batch_rows, source.config.target_time / 1000)
        self._page: _Page | None = None  # what the open result reads; None = everything
        self._rest: Bounds | None = None  # what the reading that goes on has still to read; None = it has ended
        self._reading: Reading | None = None  # of more than one page
        self.told: str | None = None
        """How far a long reading is, when there is something new to say."""
        self._kept: list[Row] = []  # the row that was fetched and not yet given out

    @property
    def open(self) -> bool:
        """Whether a result is being read."""
        return self._result is not None

    @property
    def more(self) -> bool:
        """Whether the table has more pages, which may be read at once; between two of them no result is open."""
        return self._rest is not None

    @property
    def remaining(self) -> int:
        """About how many rows the reading that goes on has yet to read."""
        return self._reading.remaining or 0 if self._reading is not None else 0

    @property
    def soon(self) -> bool:
        """Whether the next read is not to wait for the next time that this table is due."""
        return self.progress.settling

    def close(self) -> None:
        """Give up the open result. Reading goes on after the last batch that :meth:`read` returned."""
        result, self._result = self._result, None
        if result is not None:
            result.close()
        self._kept = []
        self._page = self._rest = None

    def read(self, connection: Connection) -> SourceBatch | None:
        """The next batch; None when there is none for now. With the last batch of a result the result is closed.

        A batch without records only moves the position.
        """
        while True:
            began = time.monotonic()
            if self._result is None:
                self._result = self._execute(connection)
            if self._result is None:
                return None if self.progress.settling else self._ended(None)
            try:
                rows = self._fetch(connection, self._result)
                if self._page is not None:
                    self._page.seconds += time.monotonic() - began
                if rows and not self._verified and not self._verify(connection):
                    continue
                batch = self._batch(rows) if rows else None
            except DoubtfulRowsError:
                # Nothing has moved: the plain path begins with these rows.
                rest = self._page.bounds if self._page is not None and self.source.paging is Paging.KEY else None
                self.close()
                self._rest = rest
                self._fast_rest = True
                continue
            if rows and self._page is not None and self.source.paging is Paging.KEY:
                self._page.bounds = self._behind_key(rows[-1])
            if self._kept:
                return batch
            rest = self._page_ended(rows)
            self.close()
            self._fast_rest = False
            if rest is None:
                return self._ended(batch)
            self._rest = rest
            return batch

    def _page_ended(self, rows: Sequence[Row]) -> Bounds | None:
        """What is to be read after a page that ends with ``rows``; None when it was the last."""
        page = self._page
        if page is None or page.rows < page.wanted:
            return None
        self._pages.took(page.rows, page.seconds)
        if self.source.paging is Paging.KEY:
            self._reading = self._reading or Reading(str(self.source.relation))
            self.told = self._reading.reached(page.rows, None, None, None)
            return page.bounds
        rest = self.progress.behind(page.bounds, rows[-1])
        self._reading = self._reading or Reading(str(self.source.relation))
        start = self.progress.behind(page.bounds, page.first or rows[0])
        if self.source.cursor.timestamps:
            self.told = self._reading.reached(page.rows, start.after, rest.after, rest.before)
        else:
            self.told = self._reading.reached(page.rows, start.after_id, rest.after_id, rest.up_to_id)
        return rest

    def _behind_key(self, row: Row) -> Bounds:
        key = self.source.unique
        return Bounds(key=key, after_key=tuple(row[self._place(name, "mode")] for name in key))

    def _ended(self, batch: SourceBatch | None) -> SourceBatch | None:
        """The last batch of a reading, with the position behind all of it."""
        self._reading = self.told = None
        self.progress.finished()
        if batch is None and self.progress.moved:
            batch = SourceBatch(self.source.topic, [], source_partition=dict(self._partition))
        return self._positioned(batch)

    def _positioned(self, batch: SourceBatch | None) -> SourceBatch | None:
        if batch is not None and self.source.cursor.names:
            batch.source_offset = self.progress.give_position().to_json() or None
        return batch

    def _execute(self, connection: Connection) -> Stream | None:
        """None when there is certainly nothing to read."""
        if not self._columns:
            self._look(connection)
        for _ in range(3):
            if not self._planned:
                self._plan(connection)
            bounds = self._rest or self._bounds(connection)
            if bounds is None:
                return None
            query = self._statement(bounds)
            if self._fast is not None and not self._fast_rest:
                result = self._execute_fast(connection, query, self._fast)
                if result is None:
                    continue
                self._lay_out(self._fast.names, self._fast)
                return result
            result = self._database.stream(connection, query)
            signature = self._database.signature(result.cursor)
            if self._signature in (None, signature):
                self._signature = signature
                self._lay_out([column.name for column in self._columns], None)
                return result
            # The table was changed: look at it again, then read it as it is now.
            result.close()
            self._look(connection)
        raise TaskError(
            f"the columns of {self.source.relation} change faster than they can be read",
            code="sql.columns_changing",
            hint="restart the task when the table has settled",
        )

    def _statement(self, bounds: Bounds) -> Query:
        source = self.source
        suffix = source.config.query_suffix
        if source.paging is Paging.NONE:
            return statement(source.relation, source.cursor, bounds, suffix)
        self._page = _Page(bounds, self._pages.rows)
        ties = source.paging is Paging.TIES
        return statement(source.relation, source.cursor, bounds, suffix, self._page.wanted, ties=ties)

    def _execute_fast(self, connection: Connection, query: Query, fast: ServerJson) -> Stream | None:
        """None when the database cannot do it; the plain path then says why, or does it."""
        try:
            return fast.stream(connection, query)
        except connection.dialect.loaded_dbapi.Error as error:
            if self._database.verdict(error) not in (Verdict.OTHER, Verdict.MISSING_COLUMN):
                raise
            self._database.roll_back(connection)
            self._fast = None
            return None

    def _verify(self, connection: Connection) -> bool:
        """Whether the columns are still those of the fast path, whose statement names them one by one.

        That statement holds the table's lock until its transaction ends, so both see the same columns.
        """
        if self._signature_now(connection) == self._signature:
            self._verified = True
            return True
        self.close()
        self._look(connection)
        return False

    def _signature_now(self, connection: Connection) -> object:
        result = connection.execute(probe(self.source.relation))
        signature = self._database.signature(result.cursor)
        result.close()
        return signature

    def _look(self, connection: Connection) -> None:
        self._rest = None
        self._columns = describe(connection, self._database, self.source.relation)
        self._signature = self._shape = self._codec = None
        self._placed = False
        self._lay_out([column.name for column in self._columns], None)
        for name in self.source.keys:
            self._place(name, "pk.fields" if self.source.config.pk_mode == "fields" else "pk.mode")
        self._planned = False

    def _plan(self, connection: Connection) -> None:
        """Find the fast path, if there is one."""
        form = self.source.json_form
        self._planned, self._fast = True, None
        if (
            form is None
            or self.source.config.delete_detection == "soft"
            or any(column.kind is Kind.UNKNOWN for column in self._columns)
        ):
            return
        names = [column.name for column in self._columns]
        wanted = [names[find_column(names, name)] for name in (*self.source.cursor.names, *self.source.identity)]
        if self._signature is None:
            self._signature = self._signature_now(connection)
        self._fast = self._database.server_json(
            connection,
            self._shape_for([]),
            self._signature,
            self.source.mapping,
            form,
            [*wanted, *self.source.keys],
            self.source.keys,
        )

    def _lay_out(self, names: Sequence[str], fast: ServerJson | None) -> None:
        """The values that rows of the open result begin with."""
        self._names, self._result_fast, self._verified = names, fast, fast is None
        cursor = self.source.cursor
        stamps = [self._place(name, "timestamp.column.name") for name in cursor.timestamps]
        identity = self._place(cursor.incrementing, "incrementing.column.name") if cursor.incrementing else -1
        # A primary key may have gone; rows are then told apart by all that they hold.
        known = {*self.source.unique} <= {*names}
        unique = [self._place(name, "") for name in self.source.unique] if known else []
        self.progress.lay_out(Places(stamps, identity, unique, self._codec))

    def _place(self, name: str, key: str) -> int:
        """Of a column in the rows; it may be gone since the task started."""
        try:
            return find_column(self._names, name)
        except KeyError as error:
            text = f"{self.source.relation} has no column '{name}' any more"
            hint = f"correct {key}, or give the column its name again"
            raise ConfigError(text, code="sql.missing_column", hint=hint) from error

    def _bounds(self, connection: Connection) -> Bounds | None:
        cursor = self.source.cursor
        if not cursor.names:
            return Bounds(key=self.source.unique)
        if cursor.timestamps and self._codec is None:
            relation = self.source.relation
            columns = [self._column(name) for name in cursor.timestamps]
            expression = relation.coalesced(cursor.timestamps)
            self._codec = self._database.codec(connection, relation.clause(), expression, columns)
            if self._codec is None:
                return None
        if not self._placed:
            self._lay_out(self._names, self._result_fast)
            self.progress.restart()
            self._placed = True
        return self.progress.begin(connection)

    def _fetch(self, connection: Connection, result: Stream) -> list[Row]:
        wanted = self.source.config.batch_rows
        try:
            rows = [*self._kept, *result.fetchmany(wanted + 1 - len(self._kept))]
        except Exception as error:
            if self._result_fast is not None and self._database.verdict(error) is Verdict.OTHER:
                self._database.roll_back(connection)
                raise DoubtfulRowsError from error
            found = self._database.unreadable(result.cursor)
            if found is None:
                raise
            place, row = found
            raise self._bad_value(self._columns[place], row, f"{row[place]} is out of range") from error
        if self._page is not None:
            self._page.rows += len(rows) - len(self._kept)
            self._page.first = self._page.first or (rows[0] if rows else None)
        self._kept = [rows.pop()] if len(rows) > wanted else []
        return rows

    def _batch(self, rows: list[Row]) -> SourceBatch | None:
        """Those of ``rows`` that were not sent before; None when there is none. The position goes behind them all."""
        if not self.source.cursor.names:
            return self._records(rows)
        try:
            new = self.progress.take(rows, self._kept[0] if self._kept else None)
            batch = self._records(new) if new else None
            self.progress.confirm()
        except BadCursorError as error:
            column = find_column([column.name for column in self._columns], self._names[error.column])
            raise self._bad_value(self._columns[column], error.row, error.reason) from error
        return self._positioned(batch)

    def _records(self, rows: Sequence[Row]) -> SourceBatch:
        values: Sequence[dict[str, Any]]
        records: Sequence[Any]
        if self._result_fast is not None:
            shape = self._result_fast.shape
            records, values = self._result_fast.read(rows)
        else:
            shape, values = self._convert(rows)
            records = values
        batch = SourceBatch(self.source.topic, records, shape.schema, source_partition=dict(self._partition))
        if len(self.source.keys) == 1:
            [name] = self.source.keys
            batch.keys = [value[name] for value in values]
        elif self.source.keys:
            batch.keys = [{name: value[name] for name in self.source.keys} for value in values]
        batch.key_schema = self._key_schema
        self._account(rows, batch)
        return batch

    def _account(self, rows: Sequence[Row], batch: SourceBatch) -> None:
        """Rows that are marked as deleted become tombstones; the ledger hears of keys before anybody else does."""
        if self.source.config.delete_detection == "soft":
            mark = self._place(self.source.config.soft_column, "delete.soft.column")
            batch.values = [
                None if deleted(row[mark]) else value for row, value in zip(rows, batch.values, strict=True)
            ]
        if self.source.ledger is not None:
            places = [find_column(self._names, name) for name in self.source.keys]
            self.source.ledger.add([tuple(row[place] for place in places) for row in rows])

    def _convert(self, rows: Sequence[Row]) -> tuple[Shape, list[dict[str, Any]]]:
        shape = self._shape_for(rows)
        try:
            return shape, shape.convert(rows)
        except NullInRequiredError:
            # NOT NULL was dropped since, or never held (SQLite, views): the column is optional from now on.
            nulls = {place for row in rows for place, value in enumerate(row) if value is None}
            self._columns = tuple(
                replace(column, nullable=True) if place in nulls else column
                for place, column in enumerate(self._columns)
            )
            self._shape = None
            self._planned = False
            return self._convert(rows)
        except REFUSALS as error:
            place, column, reason = shape.culprit(rows)
            raise self._bad_value(column, rows[place], reason) from error

    def _shape_for(self, rows: Sequence[Row]) -> Shape:
        known = self._shape
        if known is None or any(column.kind is Kind.UNKNOWN for column in self._columns):
            columns = []
            for place, column in enumerate(self._columns):
                if column.kind is Kind.UNKNOWN:
                    before = known.columns[place] if known and known.columns[place].kind is not Kind.UNKNOWN else None
                    found = infer(column.name, [row[place] for row in rows])
                    column = widen(before, found) if found else before or column  # noqa: PLW2901
                columns.append(column)
            if known is None or known.columns != tuple(columns):
                table = self.source.relation.table
                mapping = self.source.mapping
                known = shape_of(columns, table.name if table else None, mapping, self._database.normaliser)
                self._key_schema = _key_schema(known.schema, self.source.keys)
                self._shape = known
        return known

    def _column(self, name: str) -> Column:
        return self._columns[find_column([column.name for column in self._columns], name)]

    def _bad_value(self, column: Column, row: Row, reason: str) -> TaskError:
        identity = ", ".join(f"{name}={row[find_column(self._names, name)]}" for name in self.source.identity)
        return TaskError(
            f"{self.source.relation}: column '{column.name}' of the row {identity or 'read last'} cannot be "
            f"published: {reason}",
            code="sql.bad_value",
            hint="correct the row; or "
            + ("set temporal.out.of.range to null or text; or " if column.kind in TEMPORALS else "")
            + f"leave it out or change the column by a query: SELECT …, CAST({column.name} AS text) AS {column.name} "
            "FROM …",
        )


def _key_schema(value: Schema, keys: tuple[str, ...]) -> Schema | None:
    if not keys:
        return None
    if len(keys) == 1:
        return value.by_name[keys[0]]
    return schema.struct({name: value.by_name[name] for name in keys})
