"""One table (or the query): its position, its open result, and the batches that come out of it.

A result is streamed: the driver hands over ``batch.max.rows`` rows at a time, and one row more is kept back, because
only the next row tells whether a batch ends between two rows of equal timestamp. What is read, which rows of it are
new, and which position goes with a batch, is for ``cursor/progress.py``; how rows become records for ``layout.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from headrace import SourceBatch, TaskError
from headrace_sources.sql.cursor.offsets import Position, partition_of
from headrace_sources.sql.cursor.table_cursor import BadCursorError, CursorCodec, TableCursor
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.dialects.dialect import ErrorClass
from headrace_sources.sql.reading.paging import PageSize, Paging, Reading
from headrace_sources.sql.reading.read_spec import Source
from headrace_sources.sql.reading.row_converter import RowConverter
from headrace_sources.sql.rows.row_schema import find_column
from headrace_sources.sql.rows.server_json import DoubtfulRowsError, Query, ServerJson, Stream
from headrace_sources.sql.rows.timestamps import TimestampCodec, from_json
from headrace_sources.sql.tables.queries import Bounds, page_end, statement

Row = Sequence[Any]


@dataclass
class _Page:
    """What one statement reads: a part of a table, or everything (``wanted`` None)."""

    bounds: Bounds
    wanted: int | None
    rows: int = 0
    first: Row | None = None
    seconds: float = 0.0  # that the database was busy with it


class TableReader:
    """Reads one relation, a result after the other. ``connection`` is the same for all calls while a result is open.

    ``start``: without a cursor, what a reading by the primary key begins with.
    """

    def __init__(
        self,
        source: Source,
        database: Database,
        position: Position | None = None,
        start: Callable[[], Bounds] | None = None,
    ) -> None:
        self.source = source
        self._database = database
        self._start = start or (lambda: Bounds(key=source.unique, row_values=database.compares_rows))
        initial = source.config.timestamp_initial
        self.progress = TableCursor(
            source.relation,
            source.cursor,
            database,
            source.reach,
            position or Position(),
            timedelta(milliseconds=source.config.timestamp_delay),
            chosen=position is not None
            and initial not in (None, -1)
            and position == Position(from_json(initial, None)),
            sightings=source.sightings,
        )
        self._placed = False  # progress knows the columns
        self._partition = partition_of(source.relation.table, source.config.mode, source.catalog)
        self._layout = RowConverter(source, database)
        self._codec: TimestampCodec | None = None
        self._fast_rest = False  # the fast path rests until everything was read
        self._result: Stream | None = None
        self._pages = PageSize(source.config.batch_rows, source.config.target_time / 1000)
        self._page: _Page | None = None  # what the open result reads
        self._rest: Bounds | None = None  # what the reading that goes on has still to read; None = it has ended
        self._reading: Reading | None = None
        self._expected: int | None = None  # rows of the open result, as the database estimates them
        self.told: str | None = None
        """How far a long reading is, when there is something new to say."""
        self.long = True
        """Whether the last reading took longer than a query should; so far nobody knows."""
        self.reached: tuple[Any, ...] = ()
        """Values of the primary key in the last row that :meth:`read` gave; only where pages follow it."""
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
    def snapshot(self) -> None:
        """All is read on the connection that :meth:`read` is given."""
        return None

    @property
    def alone(self) -> None:
        """No more connections than the one were asked for."""
        return None

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

    def acknowledged(self, batch: SourceBatch) -> None:
        """``batch`` is in Kafka."""

    def gather(self, timeout: float) -> SourceBatch | None:
        """Nobody reads beside the task."""
        return None

    def stop(self) -> None:
        """Nothing goes on beside the task."""

    def outset(self, connection: Connection, rows: int) -> tuple[Bounds, Position] | None:
        """See :meth:`TableCursor.outset`. No result may be open."""
        if not self._layout.columns:
            self._look(connection)
        return self.progress.outset(connection, rows) if self._ready(connection) else None

    def everything(self, connection: Connection) -> Bounds | None:
        """See :meth:`TableCursor.everything`; None when there is certainly no row."""
        if not self._layout.columns:
            self._look(connection)
        return self.progress.everything(connection) if self._ready(connection) else None

    def read(self, connection: Connection) -> SourceBatch | None:
        """The next batch; None when there is none for now. With the last batch of a result the result is closed.

        A batch without records only moves the position.
        """
        while True:
            began = time.monotonic()
            if self._result is None:
                self._result = self._execute(connection)
            if self._result is None or self._page is None:
                return None if self.progress.settling else self._ended(None)
            page, by_key = self._page, self.source.paging is Paging.KEY
            try:
                rows = self._fetch(connection, self._result, page)
                page.seconds += time.monotonic() - began + self._result.unseen()
                if rows and not self._layout.verified and not self._verify(connection):
                    continue
                batch = self._batch(rows) if rows else None
            except DoubtfulRowsError:
                # Nothing has moved: the plain path begins with these rows.
                self.close()
                self._rest = page.bounds if by_key else None
                self._fast_rest = True
                continue
            if rows and by_key:
                self.reached = tuple(rows[-1][self._layout.place(name, "mode")] for name in self.source.unique)
                page.bounds = page.bounds.behind_key(self.reached)
            if rows and page.wanted is None:
                self._tell(page, rows[-1], len(rows))
            if self._kept:
                return batch
            rest = self._page_ended(page, rows)
            self.close()
            self._fast_rest = False
            if rest is None:
                return self._ended(batch)
            self._rest = rest
            return batch

    def _page_ended(self, page: _Page, rows: Sequence[Row]) -> Bounds | None:
        """What is to be read after a page that ends with ``rows``; None when it was the last."""
        if page.wanted is None or page.rows < page.wanted:
            return None
        self._pages.took(page.rows, page.seconds)
        self._tell(page, rows[-1], page.rows)
        return page.bounds if self.source.paging is Paging.KEY else self.progress.behind(page.bounds, rows[-1])

    def _tell(self, page: _Page, last: Row, rows: int) -> None:
        """How far the reading is with ``rows`` more, of which ``last`` is the last."""
        reading = self._reading = self._reading or Reading(str(self.source.relation))
        if not self.source.cursor.names:
            share = None if not self._expected else min((reading.rows + rows) / self._expected, 0.99)
            self.told = reading.went(rows, share)
            return
        try:
            start, end = (self.progress.behind(page.bounds, row) for row in (page.first or last, last))
        except BadCursorError:  # of the first row, which is none of what is to be sent
            self.told = reading.went(rows, None)
            return
        if self.source.cursor.timestamps:
            self.told = reading.reached(rows, start.after, end.after, end.before)
        else:
            self.told = reading.reached(rows, start.after_id, end.after_id, end.up_to_id)

    def _ended(self, batch: SourceBatch | None) -> SourceBatch | None:
        """The last batch of a reading, with the position behind all of it."""
        reading, self._reading, self.told = self._reading, None, None
        self.long = reading is not None and time.monotonic() - reading.began > self._pages.target
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
        layout = self._layout
        if not layout.columns:
            self._look(connection)
        for _ in range(3):
            if not layout.planned:
                layout.plan(connection)
            bounds = self._rest or self._bounds(connection)
            if bounds is None:
                return None
            query = self._statement(connection, bounds)
            if layout.fast is not None and not self._fast_rest:
                result = self._execute_fast(connection, query, layout.fast)
                if result is None:
                    continue
                self._lay_out(layout.fast.names, layout.fast)
                return result
            result = self._database.stream(connection, query)
            signature = self._database.signature(result.cursor)
            if layout.signature in (None, signature):
                layout.signature = signature
                self._lay_out([column.name for column in layout.columns], None)
                return result
            # The table was changed: look at it again, then read it as it is now.
            result.close()
            self._look(connection)
        raise TaskError(
            f"the columns of {self.source.relation} change faster than they can be read",
            code="sql.columns_changing",
            hint="restart the task when the table has settled",
        )

    def _statement(self, connection: Connection, bounds: Bounds) -> Query:
        source = self.source
        suffix = source.config.query_suffix
        whole = statement(source.relation, source.cursor, bounds, suffix)
        if self._reading is None:
            # Asked only where somebody may want to know: a table that is read in no time costs no question more.
            asked = self.long and source.paging in (Paging.NONE, Paging.KEY)
            self._expected = self._database.estimate(connection, source.relation.table, whole) if asked else None
        if source.paging is Paging.NONE:
            self._page = _Page(bounds, None)
            return whole
        self._page = _Page(bounds, self._pages.rows)
        ties = source.paging is Paging.TIES
        if ties and self._database.asks_page_ends:
            # Those of the last timestamp included, whoever writes between the two statements.
            return statement(source.relation, source.cursor, self._to_page_end(connection, bounds), suffix)
        return statement(source.relation, source.cursor, bounds, suffix, self._page.wanted, ties=ties)

    def _to_page_end(self, connection: Connection, bounds: Bounds) -> Bounds:
        query = page_end(self.source.relation, self.source.cursor, bounds, self._pages.rows)
        found = self._database.row(connection, query)
        assert self._codec is not None
        return bounds if found is None else replace(bounds, until=self._codec.resume(found[0]))

    def _execute_fast(self, connection: Connection, query: Query, fast: ServerJson) -> Stream | None:
        """None when the database cannot do it; the plain path then says why, or does it."""
        try:
            return fast.stream(connection, query)
        except connection.dialect.loaded_dbapi.Error as error:
            if self._database.error_class(error) not in (ErrorClass.OTHER, ErrorClass.MISSING_COLUMN):
                raise
            self._database.roll_back(connection)
            self._layout.fast = None
            return None

    def _verify(self, connection: Connection) -> bool:
        """Whether the columns are still those of the fast path, whose statement names them one by one.

        That statement holds the table's lock until its transaction ends, so both see the same columns.
        """
        if self._layout.signature_now(connection) == self._layout.signature:
            self._layout.verified = True
            return True
        self.close()
        self._look(connection)
        return False

    def _look(self, connection: Connection) -> None:
        self._rest = self._codec = None
        self._placed = False
        self._layout.look(connection)
        self._lay_out([column.name for column in self._layout.columns], None)

    def _lay_out(self, names: Sequence[str], fast: ServerJson | None) -> None:
        """The values that rows of the open result begin with."""
        layout, cursor = self._layout, self.source.cursor
        layout.lay_out(names, fast)
        stamps = [layout.place(name, "timestamp.column.name") for name in cursor.timestamps]
        identity = layout.place(cursor.incrementing, "incrementing.column.name") if cursor.incrementing else -1
        # A primary key may have gone; rows are then told apart by all that they hold.
        known = {*self.source.unique} <= {*names}
        unique = [layout.place(name, "") for name in self.source.unique] if known else []
        self.progress.lay_out(CursorCodec(stamps, identity, unique, self._codec))

    def _bounds(self, connection: Connection) -> Bounds | None:
        if not self.source.cursor.names:
            return self._start()
        return self.progress.begin(connection) if self._ready(connection) else None

    def _ready(self, connection: Connection) -> bool:
        """Whether the cursor's values can be told in order; False: there is no row."""
        cursor = self.source.cursor
        if cursor.timestamps and self._codec is None:
            relation = self.source.relation
            columns = [self._layout.column(name) for name in cursor.timestamps]
            expression = relation.coalesced(cursor.timestamps)
            self._codec = self._database.codec(connection, relation.clause(), expression, columns)
            if self._codec is None:
                return False
        if not self._placed:
            self._lay_out(self._layout.names, self._layout.result_fast)
            self.progress.restart()
            self._placed = True
        return True

    def _fetch(self, connection: Connection, result: Stream, page: _Page) -> list[Row]:
        wanted = self.source.config.batch_rows
        try:
            rows = [*self._kept, *result.fetchmany(wanted + 1 - len(self._kept))]
        except Exception as error:
            if self._layout.result_fast is not None and self._database.error_class(error) is ErrorClass.OTHER:
                self._database.roll_back(connection)
                raise DoubtfulRowsError from error
            found = self._database.unreadable(result.cursor)
            if found is None:
                raise
            raise self._layout.bad_value(self._layout.columns[found.column], found.row, found.reason) from error
        page.rows += len(rows) - len(self._kept)
        page.first = page.first or (rows[0] if rows else None)
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
            columns = self._layout.columns
            column = find_column([column.name for column in columns], self._layout.names[error.column])
            raise self._layout.bad_value(columns[column], error.row, error.reason) from error
        return self._positioned(batch)

    def _records(self, rows: Sequence[Row]) -> SourceBatch:
        batch = self._layout.records(rows)
        batch.source_partition = dict(self._partition)
        return batch
