"""One relation, read on one connection: by the cursor, by the primary key, or all rows at once.

A result is streamed: the driver returns ``batch.max.rows`` rows at a time, and one row more is kept back, because only
the next row tells whether a batch ends between two rows of equal timestamp. What is read, which rows of it are new and
which position goes with a batch is decided in ``cursor/table_cursor.py``; rows become records in ``row_converter.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from headrace import ConfigError, SourceBatch, TaskError
from headrace_sources.sql.cursor.position import BadCursorError, CursorCodec, Row, StoredPosition, partition_of
from headrace_sources.sql.cursor.table_cursor import TableCursor
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.dialects.dialect import ErrorClass
from headrace_sources.sql.reading.read_progress import ReadProgress, share_of
from headrace_sources.sql.reading.read_spec import Paging, ReadSpec
from headrace_sources.sql.reading.reader import ReadNext, ReadStatus
from headrace_sources.sql.reading.row_converter import RowConverter
from headrace_sources.sql.rows.row_schema import find_column
from headrace_sources.sql.rows.server_json import DoubtfulRowsError, Query, ServerJson, Stream
from headrace_sources.sql.rows.timestamps import TimestampCodec, from_json
from headrace_sources.sql.tables.queries import Bounds, page_end, statement

_GROWTH = 64
"""A page has at most so many times the least number of rows."""


@dataclass
class PageSize:
    """Rows of a page, adapted so that a page keeps the database busy for ``target`` seconds."""

    least: int
    target: float
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = self.least

    def took(self, rows: int, seconds: float) -> None:
        """Adapt to a page of ``rows`` that took so long. Only a full page says something of the next."""
        if rows < self.rows:
            return
        wanted = rows * self.target / max(seconds, 1e-6)
        # In steps, because one measurement may be an exception.
        self.rows = round(min(max(wanted, self.rows / 4, self.least), self.rows * 2, self.least * _GROWTH))


@dataclass
class _Page:
    """What one statement reads: a part of a table, or all rows (``wanted`` None)."""

    bounds: Bounds
    wanted: int | None
    rows: int = 0
    first: Row | None = None
    last: Row | None = None
    seconds: float = 0.0  # that the database was busy with it


class TableReader:
    """Reads one relation, one result after the other.

    ``connection`` is the same for all calls while a result is open. ``start``: for a relation without a cursor, the
    bounds with which a reading by the primary key begins.
    """

    parallel = None

    def __init__(
        self,
        spec: ReadSpec,
        dialect: Dialect,
        position: StoredPosition | None = None,
        start: Callable[[], Bounds] | None = None,
    ) -> None:
        self.spec = spec
        self._dialect = dialect
        self._start = start or (lambda: Bounds(key=spec.unique, row_values=dialect.compares_rows))
        initial = spec.config.timestamp_initial
        self.cursor = TableCursor(
            spec.relation,
            spec.cursor,
            dialect,
            spec.lookback,
            position or StoredPosition(),
            timedelta(milliseconds=spec.config.timestamp_delay),
            configured=position is not None
            and initial not in (None, -1)
            and position == StoredPosition(from_json(initial, None)),
            transaction_snapshots=spec.transaction_snapshots,
            tuning=spec.tuning,
        )
        self._cursor_names = spec.cursor.names
        self._columns_gone: str | None = None
        self._cursor_ready = False  # the cursor knows the columns
        self._partition = partition_of(spec.relation.table, spec.config.mode, spec.catalog)
        self._converter = RowConverter(spec, dialect)
        self._codec: TimestampCodec | None = None
        self._fast_paused = False  # the fast path is not used until the result has ended
        self._result: Stream | None = None
        self._page_size = PageSize(spec.config.batch_rows, spec.config.target_time / 1000)
        self._page: _Page | None = None  # what the open result reads
        self._rest: Bounds | None = None  # what the current reading has still to read; None = it has ended
        self._progress: ReadProgress | None = None  # of a reading that did not end with its first page
        self._first: Bounds | None = None  # what was left of that reading after its first row
        self._expected: int | None = None  # rows of the open result, as the database estimates them
        self._slow = True  # the last reading took longer than a query should; unknown before the first one
        self.reached: tuple[Any, ...] = ()
        """Values of the primary key in the last row that :meth:`read` returned; only where pages follow it."""
        self._kept: list[Row] = []  # the row that was fetched and not yet returned

    @property
    def next(self) -> ReadNext:
        """See :class:`RelationReader`."""
        if self._result is not None:
            return ReadNext.SAME_CONNECTION
        if self._rest is not None:
            return ReadNext.AT_ONCE
        return ReadNext.SOON if self.cursor.waiting_for_transactions else ReadNext.WHEN_DUE

    @property
    def needs_own_connection(self) -> bool:
        """See :class:`RelationReader`."""
        return self.spec.paging is Paging.NONE and (self._slow or self._result is not None)

    def close(self) -> None:
        """See :class:`RelationReader`."""
        result, self._result = self._result, None
        if result is not None:
            result.close()
        self._kept = []
        self._page = self._rest = None

    def snapshot_start(self, connection: Connection, rows: int) -> tuple[Bounds, StoredPosition] | None:
        """See :meth:`TableCursor.snapshot_start`. No result may be open."""
        return self.cursor.snapshot_start(connection, rows) if self._prepared(connection) else None

    def all_rows(self, connection: Connection) -> Bounds | None:
        """See :meth:`TableCursor.all_rows`; None when there is certainly no row."""
        return self.cursor.all_rows(connection) if self._prepared(connection) else None

    def read(self, connection: Connection) -> SourceBatch | None:
        """See :class:`RelationReader`. With the last batch of a result the result is closed."""
        while True:
            began = time.monotonic()
            if self._result is None:
                self._result = self._execute(connection)
            if self._result is None or self._page is None:
                return None if self.cursor.waiting_for_transactions else self._ended(None)
            page, by_key = self._page, self.spec.paging is Paging.KEY
            try:
                rows = self._fetch(connection, self._result, page)
                page.seconds += time.monotonic() - began + self._result.prefetch_seconds()
                if rows and not self._converter.verified and not self._verify(connection):
                    continue
                batch = self._batch(rows) if rows else None
            except DoubtfulRowsError:
                # Nothing has moved: the plain path begins with these rows.
                self.close()
                self._rest = page.bounds if by_key else None
                self._fast_paused = True
                continue
            if rows and by_key:
                self.reached = tuple(rows[-1][self._converter.index(name, "mode")] for name in self.spec.unique)
                page.bounds = page.bounds.after_key_values(self.reached)
            if rows and page.wanted is None:
                page.last = rows[-1]
                self._note_progress(page, len(rows))
            if self._kept:
                return batch
            rest = self._page_ended(page, rows)
            self.close()
            self._fast_paused = False
            if rest is None:
                return self._ended(batch)
            self._rest = rest
            return batch

    def _page_ended(self, page: _Page, rows: Sequence[Row]) -> Bounds | None:
        """Return what is to be read after a page that ends with ``rows``; None when it was the last."""
        if page.wanted is None or page.rows < page.wanted:
            return None
        self._page_size.took(page.rows, page.seconds)
        self._note_progress(page, page.rows)
        return page.bounds if self.spec.paging is Paging.KEY else self.cursor.rest(page.bounds, rows[-1])

    def _note_progress(self, page: _Page, rows: int) -> None:
        if self._progress is None:
            self._progress = ReadProgress(str(self.spec.relation))
            self._first = self._rest_after(page.bounds, page.first)
        self._progress.rows += rows

    def _rest_after(self, bounds: Bounds, row: Row | None) -> Bounds | None:
        if not self._cursor_names or row is None:
            return None
        try:
            return self.cursor.rest(bounds, row)
        except BadCursorError:  # of a row that is none of those to be sent
            return None

    def status(self) -> ReadStatus:
        """See :class:`RelationReader`."""
        cursor, progress = self.cursor, self._progress
        gone, self._columns_gone = self._columns_gone, None  # an event, reported once
        status = ReadStatus(
            blocked=cursor.blocked_reason(), sequence=cursor.sequence_check.reason, columns_gone=gone, lag=cursor.lag()
        )
        if progress is None:
            return status
        share = self._share(progress)
        told = progress.describe(share) if progress.seconds >= self.spec.tuning.status_interval else None
        return status._replace(progress=told, remaining=progress.remaining(share))

    def _share(self, progress: ReadProgress) -> float | None:
        """Return about which part of the current reading is done; None = unknown."""
        if not self._cursor_names:
            return None if not self._expected else min(progress.rows / self._expected, 0.99)
        page = self._page
        rest = self._rest if page is None else self._rest_after(page.bounds, page.last)
        if self._first is None or rest is None:
            return None
        if self.spec.cursor.timestamps:
            return share_of(self._first.after, rest.after, rest.before)
        return share_of(self._first.after_id, rest.after_id, rest.up_to_id)

    def _ended(self, batch: SourceBatch | None) -> SourceBatch | None:
        """Return the last batch of a reading, with the position after all of it."""
        progress, self._progress = self._progress, None
        self._slow = progress is not None and progress.seconds > self._page_size.target
        self.cursor.finished()
        if batch is None and self.cursor.moved:
            batch = SourceBatch(self.spec.topic, [], source_partition=dict(self._partition))
        return self._positioned(batch)

    def _positioned(self, batch: SourceBatch | None) -> SourceBatch | None:
        if batch is not None and self._cursor_names:
            batch.source_offset = self.cursor.position_for_batch().to_json() or None
            batch.unfinished = self.cursor.unfinished
        return batch

    def _execute(self, connection: Connection) -> Stream | None:
        """Run the next statement; return None when there is certainly nothing to read."""
        converter = self._converter
        if not converter.columns:
            self._describe(connection)
        for _ in range(3):
            if not converter.planned:
                converter.plan(connection)
            bounds = self._rest or self._bounds(connection)
            if bounds is None:
                return None
            query = self._statement(connection, bounds)
            if converter.fast is not None and not self._fast_paused:
                result = self._execute_fast(connection, query, converter.fast)
                if result is None:
                    continue
                self._use_columns(converter.fast.names, converter.fast)
                return result
            result = self._dialect.stream(connection, query)
            signature = self._dialect.signature(result.cursor)
            if converter.signature in (None, signature):
                converter.signature = signature
                self._use_columns([column.name for column in converter.columns], None)
                return result
            # The table was changed: describe it again, then read it as it is now.
            result.close()
            self._describe(connection)
        raise TaskError(
            f"the columns of {self.spec.relation} change faster than they can be read",
            code="sql.columns_changing",
            hint="restart the task when the table's columns no longer change",
        )

    def _statement(self, connection: Connection, bounds: Bounds) -> Query:
        spec = self.spec
        suffix = spec.config.query_suffix
        whole = statement(spec.relation, spec.cursor, bounds, suffix)
        if self._progress is None:
            # Asked only where the answer may be shown: a table that is read in no time costs no more statements.
            asked = self._slow and spec.paging in (Paging.NONE, Paging.KEY)
            self._expected = self._dialect.estimate(connection, spec.relation.table, whole) if asked else None
        if spec.paging is Paging.NONE:
            self._page = _Page(bounds, None)
            return whole
        self._page = _Page(bounds, self._page_size.rows)
        ties = spec.paging is Paging.TIES
        if ties and self._dialect.asks_page_ends:
            # Rows of the last timestamp are included, even if one is written between the two statements.
            return statement(spec.relation, spec.cursor, self._to_page_end(connection, bounds), suffix)
        return statement(spec.relation, spec.cursor, bounds, suffix, self._page.wanted, ties=ties)

    def _to_page_end(self, connection: Connection, bounds: Bounds) -> Bounds:
        query = page_end(self.spec.relation, self.spec.cursor, bounds, self._page_size.rows)
        found = self._dialect.row(connection, query)
        if found is None:
            return bounds
        if self._codec is None:
            return replace(bounds, up_to_id=int(found[0]))
        return replace(bounds, until=self._codec.resume(found[0]))

    def _execute_fast(self, connection: Connection, query: Query, fast: ServerJson) -> Stream | None:
        """Run ``query`` on the fast path; return None when the database cannot, and leave it to the plain path."""
        try:
            return fast.stream(connection, query)
        except connection.dialect.loaded_dbapi.Error as error:
            if self._dialect.error_class(error) not in (ErrorClass.OTHER, ErrorClass.MISSING_COLUMN):
                raise
            self._dialect.roll_back(connection)
            self._converter.fast = None
            return None

    def _verify(self, connection: Connection) -> bool:
        """Return whether the columns are still those of the fast path, whose statement names them one by one.

        That statement holds the table's lock until its transaction ends, so both see the same columns.
        """
        if self._converter.signature_now(connection) == self._converter.signature:
            self._converter.verified = True
            return True
        self.close()
        self._describe(connection)
        return False

    def _describe(self, connection: Connection) -> None:
        self._rest = self._codec = None
        self._cursor_ready = False
        before = [column.name for column in self._converter.columns]
        try:
            self._converter.describe(connection)
            names = [column.name for column in self._converter.columns]
            self._use_columns(names, None)
            if gone := [name for name in before if name not in names]:
                added = ", ".join(name for name in names if name not in before)
                self._columns_gone = f"{', '.join(gone)} of {self.spec.relation}{f' (new: {added})' if added else ''}"
        except ConfigError:
            self._converter.columns = ()  # the next attempt describes again: the column may have its name back
            raise

    def _use_columns(self, names: Sequence[str], fast: ServerJson | None) -> None:
        """Expect rows of the open result to begin with the values of these columns."""
        converter, cursor = self._converter, self.spec.cursor
        converter.use_columns(names, fast)
        timestamps = [converter.index(name, "timestamp.column.name") for name in cursor.timestamps]
        identity = converter.index(cursor.incrementing, "incrementing.column.name") if cursor.incrementing else -1
        # A primary key may have been dropped; rows are then told apart by all their values.
        known = {*self.spec.unique} <= {*names}
        unique = [converter.index(name, "") for name in self.spec.unique] if known else []
        self.cursor.use(CursorCodec(timestamps, identity, unique, self._codec))

    def _bounds(self, connection: Connection) -> Bounds | None:
        if not self._cursor_names:
            return self._start()
        return self.cursor.begin(connection) if self._prepared(connection) else None

    def _prepared(self, connection: Connection) -> bool:
        """Prepare the cursor for the columns. Return False when there is no row to read."""
        if not self._converter.columns:
            self._describe(connection)
        cursor = self.spec.cursor
        if cursor.timestamps and self._codec is None:
            relation = self.spec.relation
            columns = [self._converter.column(name) for name in cursor.timestamps]
            expression = relation.coalesced(cursor.timestamps)
            self._codec = self._dialect.codec(connection, relation.clause(), expression, columns)
            if self._codec is None:
                return False
        if not self._cursor_ready:
            self._use_columns(self._converter.names, self._converter.result_fast)
            self.cursor.restart()
            self._cursor_ready = True
        return True

    def _fetch(self, connection: Connection, result: Stream, page: _Page) -> list[Row]:
        wanted = self.spec.config.batch_rows
        try:
            rows = [*self._kept, *result.fetchmany(wanted + 1 - len(self._kept))]
        except Exception as error:
            if self._converter.result_fast is not None and self._dialect.error_class(error) is ErrorClass.OTHER:
                self._dialect.roll_back(connection)
                raise DoubtfulRowsError from error
            found = self._dialect.unreadable(result.cursor)
            if found is None:
                raise
            columns = self._converter.columns
            raise self._converter.bad_value(columns[found.column], found.row, found.reason) from error
        page.rows += len(rows) - len(self._kept)
        page.first = page.first or (rows[0] if rows else None)
        self._kept = [rows.pop()] if len(rows) > wanted else []
        return rows

    def _batch(self, rows: list[Row]) -> SourceBatch | None:
        """Return the rows that were not sent before, with the position after all ``rows``; None when there are none."""
        if not self._cursor_names:
            return self._records(rows)
        try:
            new = self.cursor.take(rows, self._kept[0] if self._kept else None)
            batch = self._records(new) if new else None
            if batch is not None:
                batch.changed = self.cursor.changed(new[-1])
            self.cursor.confirm()
        except BadCursorError as error:
            columns = self._converter.columns
            column = find_column([column.name for column in columns], self._converter.names[error.column])
            raise self._converter.bad_value(columns[column], error.row, error.reason) from error
        return self._positioned(batch)

    def _records(self, rows: Sequence[Row]) -> SourceBatch:
        batch = self._converter.records(rows)
        batch.source_partition = dict(self._partition)
        return batch
