"""Selects the table that a task reads next, and its connection; quarantines tables that cannot be read.

The table that has been due for the longest time comes first, and is read for one page, so that a large table delays the
others for no longer than a page takes. A result that cannot be read in pages has a secondary connection where there are
other tables, and what a reader pool reads ahead is taken batch by batch. Between two polls no transaction is open but
theirs. Several tables are read at the same time by several tasks (``tasks.max``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from headrace import (
    ConfigError,
    HeadraceError,
    RetriableError,
    RetryPolicy,
    Schedule,
    SourceBatch,
    SourceContext,
    Wait,
)
from headrace_sources.sql.access.driver_errors import TABLE_ERROR_CODES
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.clock import ClockWatch, describe_move
from headrace_sources.sql.deletes.reconciler import DeleteReconciler
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reader_factory import ReaderFactory
from headrace_sources.sql.reading.reader import ParallelRows, ReadNext, RelationReader
from headrace_sources.sql.status_reporter import StatusReporter

_TAKE_TIMEOUT = 0.05
"""Seconds that a poll waits for a batch of a reader pool."""
_WAITED_FOR = frozenset({"sql.forbidden", "sql.missing_table", "sql.missing_column"})
"""Codes of errors of a table that was read before."""
_SOON = timedelta(milliseconds=100)
_LONGEST_WAIT = 5.0
"""Seconds: a longer pause is divided, because the clock may be set meanwhile."""
_CLOCK_TOLD = 20.0
"""Seconds for which the status says that the clock was set."""
_KEEP_OPEN = 60.0
"""Seconds: connections that are not needed for longer are closed."""


@dataclass
class ScheduledTable:
    """A table (None = the query) and when it is due. ``reader`` is None where it could not be read at the start."""

    name: TableName | None
    reader: RelationReader | None
    due: datetime
    error: HeadraceError | None = None
    """Why it is quarantined."""
    waits: Iterator[float] = field(default_factory=lambda: iter(()))
    """Seconds until it is tried again."""

    @property
    def parallel(self) -> ParallelRows | None:
        """The rows that a reader pool reads ahead now."""
        parallel = self.reader.parallel if self.reader is not None else None
        return parallel if parallel is not None and not parallel.over else None


@dataclass
class _ConnectionSlot:
    """A connection of the task, and the table whose result is open on it."""

    session: Session
    table: ScheduledTable | None = None


class Scheduler:
    """Polls the tables of a task. Used from the task's thread."""

    def __init__(
        self,
        context: SourceContext,
        factory: ReaderFactory,
        tables: Sequence[ScheduledTable],
        schedule: Schedule,
        sessions: tuple[Session, Session],
        reconciler: DeleteReconciler | None,
        status: StatusReporter,
    ) -> None:
        """``sessions``: of the primary and the secondary connection."""
        self.tables = tables
        self._context = context
        self._factory = factory
        self._schedule = schedule
        self._primary, self._secondary = (_ConnectionSlot(session) for session in sessions)
        self._reconciler = reconciler
        self._status = status
        self._unreported: dict[TableName | None, RelationReader] = {}  # what was read since the last report
        self._report_due = 0.0
        self._throttled = False  # and the status says so
        self._now = factory.tuning.now
        self._clock = ClockWatch(self._now)
        self._clock_set: float | None = None  # monotonic; the status says so
        longest = factory.tuning.quarantine
        self._quarantine_policy = RetryPolicy(first=min(1.0, longest), longest=longest)

    def poll(self) -> SourceBatch | Wait:
        """Return one batch, or how long to wait for one.

        The status is reported when the task waits, and at intervals while it does not: never once a batch.
        """
        answer = self._poll()
        if isinstance(answer, Wait) or time.monotonic() >= self._report_due:
            self._report()
        return answer

    def _poll(self) -> SourceBatch | Wait:
        if (moved := self._clock.moved()) is not None:
            self._follow_clock(moved)
        table = self._next_table()
        if self._primary.table is None and next(self._in_progress(), None) is None:
            answer = self._between_results(table)
            if answer is not None:
                return answer
        if table.parallel is not None:
            return self._take(table, table.parallel)
        connection = self._connection_of(table)
        if connection.table is table:
            connection.session.acquire_permit()  # it is still querying
        elif pause := self._throttle(connection.session):
            # A table that holds a permit continues, because otherwise it would never release it.
            other = next(self._in_progress(), None)
            if other is None:
                return Wait(pause)
            if other.parallel is not None:
                return self._take(other, other.parallel)
            table, connection = other, self._connection_of(other)
            connection.session.acquire_permit()
        return self._read(table, connection)

    def _between_results(self, table: ScheduledTable) -> SourceBatch | Wait | None:
        """Compare keys, or wait until ``table`` is due; None = read it now.

        Keys are never compared while a result is open: a row that is gone now may still be in it, and would follow its
        own tombstone.
        """
        now = self._now()
        due = table.due
        if self._reconciler is not None:
            answer = self._reconciler.step(table.due <= now, lambda: self._throttle(self._primary.session))
            if answer is not None:
                return answer
            due = min(filter(None, (due, self._reconciler.due)))
        wait = (due - self._now()).total_seconds()
        if wait <= 0:
            return None
        if wait > _KEEP_OPEN:
            self._release()
        return Wait(min(wait, _LONGEST_WAIT))

    def _follow_clock(self, moved: timedelta) -> None:
        """Schedule again by a clock that was set: a table never waits longer than from now to its next time."""
        text = describe_move(moved)
        self._context.log.warning("the system clock was set", code="sql.clock", reason=text)
        self._status.reasons.set("clock", text)
        self._clock_set = time.monotonic()
        now = self._now()
        for table in self.tables:
            table.due = min(table.due, self._schedule.next_after(now))
        if self._reconciler is not None:
            self._reconciler.follow_clock(now)

    def _next_table(self) -> ScheduledTable:
        """Return the table to read. The secondary connection has room for one."""
        if self._primary.table is not None:
            return self._primary.table
        taken = self._secondary.table
        candidates = (t for t in self.tables if taken is None or t is taken or not self._needs_secondary(t))
        return min(candidates, key=lambda table: table.due)

    def _in_progress(self) -> Iterator[ScheduledTable]:
        """Yield tables that need no permit to go on, but for the one on the primary connection."""
        if self._secondary.table is not None:
            yield self._secondary.table
        yield from (table for table in self.tables if table.parallel is not None and table.error is None)

    def _needs_secondary(self, table: ScheduledTable) -> bool:
        return len(self.tables) > 1 and table.reader is not None and table.reader.needs_own_connection

    def _connection_of(self, table: ScheduledTable) -> _ConnectionSlot:
        if table is self._primary.table:
            return self._primary
        if table is self._secondary.table or self._needs_secondary(table):
            return self._secondary
        return self._primary

    def _take(self, table: ScheduledTable, parallel: ParallelRows) -> SourceBatch | Wait:
        """Take a batch that a reader pool has read."""
        reader = table.reader
        assert reader is not None
        try:
            batch = parallel.next_batch(_TAKE_TIMEOUT)
        except HeadraceError as error:
            if self._is_handled(table, error):
                return Wait(0.0)
            if (waited := self._waited_for(table, error)) is not None:
                raise waited from error
            raise
        throttled = parallel.throttled if batch is None else None
        self._status.reasons.set(("throttled readers", table.name), throttled.reason if throttled else None)
        self._after(table, reader)
        return batch if batch is not None else Wait(0.0)

    def _read(self, table: ScheduledTable, connection: _ConnectionSlot) -> SourceBatch | Wait:
        session = connection.session
        try:
            reader = table.reader = table.reader or self._factory.open(table.name)
            with session.reading(str(reader.spec.relation)) as opened:
                batch = reader.read(opened)
        except BaseException as error:
            if table.reader is not None:
                session.give_up(table.reader.close)
            connection.table = None
            if isinstance(error, HeadraceError):
                if self._is_handled(table, error):
                    return Wait(0.0)
                if (waited := self._waited_for(table, error)) is not None:
                    raise waited from error
            raise
        connection.table = table if reader.next is ReadNext.SAME_CONNECTION else None
        if connection.table is None:
            session.close_transaction()
        self._after(table, reader)
        return batch if batch is not None else Wait(0.0)

    def _after(self, table: ScheduledTable, reader: RelationReader) -> None:
        """Schedule the table again after a read that succeeded, and report."""
        if table.error is not None:
            table.error = None
            self._status.reasons.set(("quarantine", table.name), None)
            self._context.log.info("table is read again", table=str(table.name))
        following = reader.next
        if following is ReadNext.WHEN_DUE:
            table.due = self._schedule.next_after(self._now())
        elif following is ReadNext.SOON:
            table.due = self._now() + _SOON
        elif following is ReadNext.AT_ONCE or self._secondary.table is table:
            table.due = self._now()
        self._unreported[table.name] = reader

    def _report(self) -> None:
        for table, reader in self._unreported.items():
            self._status.report(table, reader)
        self._unreported.clear()
        if self._clock_set is not None and time.monotonic() - self._clock_set >= _CLOCK_TOLD:
            self._clock_set = None
            self._status.reasons.set("clock", None)
        self._report_due = time.monotonic() + self._factory.tuning.status_interval

    def _is_handled(self, table: ScheduledTable, error: HeadraceError) -> bool:
        """Return whether the task goes on after ``error``: it is told to stop, or the table is quarantined."""
        if self._context.stop_event.is_set() and isinstance(error, RetriableError):
            return True  # the statement was cancelled because of it
        return self.quarantine(table, error)

    def _waited_for(self, table: ScheduledTable, error: HeadraceError) -> RetriableError | None:
        """Return the error of the task's only table as one to retry, if it can be put right in the database."""
        if table.reader is None or error.code not in _WAITED_FOR:
            return None
        explained = self._factory.explain(table.name, error)
        return RetriableError(explained.message, code=explained.code, hint=explained.hint)

    def quarantine(self, table: ScheduledTable, error: HeadraceError) -> bool:
        """Go on with the other tables if ``error`` is about this one alone; return False if there are no others."""
        late = table.reader is None and isinstance(error, ConfigError)  # a mistake that could not be seen before
        others = any(other is not table and other.error is None for other in self.tables)
        if not others or not (late or error.code in TABLE_ERROR_CODES):
            return False
        error = self._factory.explain(table.name, error)
        if table.error is None:
            self._context.log.error("table is left out", table=str(table.name), code=error.code, reason=str(error))
            table.waits = self._quarantine_policy.waits()
        table.error = error
        table.due = self._now() + timedelta(seconds=next(table.waits))
        text = f"table {table.name} is left out until it can be read, the others are read: {error}"
        self._status.reasons.set(("quarantine", table.name), text)
        return True

    def _throttle(self, session: Session) -> float:
        """Return for how many seconds the database must not be queried; the status has the reason."""
        throttled = session.throttled_for_rows()
        if throttled is not None or self._throttled:
            self._status.throttled(throttled)
            self._throttled = throttled is not None
        return throttled.seconds if throttled is not None else 0.0

    def acknowledged(self, batch: SourceBatch) -> None:
        """Note that ``batch`` is in Kafka: tombstones, or the last batch of a snapshot."""
        if self._reconciler is not None:
            self._reconciler.acknowledged(batch)
        if batch.more_offsets:
            for table in self.tables:
                if table.reader is not None and table.reader.parallel is not None:
                    table.reader.parallel.acknowledged(batch)

    def _release(self) -> None:
        for connection in (self._primary, self._secondary):
            connection.session.release()

    def close(self) -> None:
        """Close the readers and their results. The sessions are the task's."""
        for table in self.tables:
            if table.reader is not None:
                self._primary.session.give_up(table.reader.close)
