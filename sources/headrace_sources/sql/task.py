"""The SQL source's task: which table is due, and a batch of it.

A table's turn is one page of it, read to its end on the task's connection; then the table goes first that has been due
for the longest time, so that a large table holds up the others for no longer than a page takes. What cannot be read in
pages is read aside, on a second connection, and what several connections read at a time by a crew: a turn of those is
one batch. ``tasks.max`` is what reads several tables at once. Between turns no transaction is open but theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from headrace import (
    ConfigError,
    Finding,
    HeadraceError,
    RetriableError,
    Schedule,
    SourceBatch,
    SourceContext,
    SourceTask,
    Wait,
)
from headrace_sources.sql.access.driver_errors import TABLE_ERROR_CODES
from headrace_sources.sql.access.reasons import Reasons
from headrace_sources.sql.access.session import THROTTLE_SUBJECTS, Session, Throttled
from headrace_sources.sql.access.statement_canceller import StatementCanceller
from headrace_sources.sql.configuration.config import JdbcSourceConfig, SqlSourceConfig, is_duration
from headrace_sources.sql.configuration.syntax import find_zone
from headrace_sources.sql.cursor.lookback import lookback_for
from headrace_sources.sql.cursor.offsets import Position, stored_positions
from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshots
from headrace_sources.sql.deletes.reconciler import DeleteReconciler
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reader_factory import ReaderFactory
from headrace_sources.sql.reading.chunk_plan import Chunk
from headrace_sources.sql.reading.inspection import ReadTarget
from headrace_sources.sql.reading.paging import Paging
from headrace_sources.sql.reading.read_spec import Source
from headrace_sources.sql.reading.reader_pool import ReaderPool, Within
from headrace_sources.sql.reading.strategy import Reader, stored_chunk_plans
from headrace_sources.sql.rows.timestamps import from_json
from headrace_sources.sql.rows.types import TypeMapping
from headrace_sources.sql.tables.selection import wanted_tables

_ADMISSION = 0.05
"""Seconds between two looks whether the database may be asked, before the task has started."""
_GATHER = 0.05
"""Seconds that a poll waits for a batch that others are reading."""
_SOON = timedelta(milliseconds=100)
_ASIDE = timedelta(seconds=30)
"""At most, until a table that cannot be read is tried again; the first times sooner."""
_KEEP_OPEN = 60.0
"""Seconds: a connection that is not needed for longer is closed."""


@dataclass
class ScheduledTable:
    """A table and when it is due. ``reader`` None: it could not be read when the task started."""

    table: TableName | None
    reader: Reader | None
    due: datetime
    trouble: HeadraceError | None = None
    """Why it is left out for now."""
    tries: int = 0
    """Since then."""

    @property
    def lengthy(self) -> bool:
        """Whether others would wait for its end, were it read on the connection that they need."""
        reader = self.reader
        return reader is not None and reader.source.paging is Paging.NONE and (reader.long or reader.open)

    @property
    def by_crew(self) -> bool:
        """Whether others read it now."""
        return self.reader is not None and self.reader.snapshot is not None


class SqlSourceTask(SourceTask):
    """Reads the tables that the connector gave it, or the query."""

    config_model: ClassVar[type[SqlSourceConfig]] = SqlSourceConfig

    def __init__(self) -> None:
        self._session: Session | None = None
        self._second: Session | None = None  # where there are others to be held up
        self._canceller: StatementCanceller | None = None
        self._turns: list[ScheduledTable] = []
        self._current: ScheduledTable | None = None  # its result is open on the first connection
        self._beside: ScheduledTable | None = None  # its result is open on the second one
        self._sweeps: DeleteReconciler | None = None

    def start(self, context: SourceContext) -> None:
        """Connect, look at every table, find the stored positions."""
        self._context = context
        self._reasons = Reasons(context.set_status_reason)
        self._config = config = self.config_model.parse(context.properties)
        schedule = context.schedule(config.poll_interval)
        self.stop()  # an earlier try may have got half way
        self._session = session = Session(config, context.config_origin, str(context.task))
        self._second = Session(config, context.config_origin, str(context.task))
        self._canceller = StatementCanceller(context.stop_event, session, self._second)
        self._canceller.start()
        while self._explained(session.throttled()):
            if context.stop_event.wait(_ADMISSION):
                raise RetriableError("told to stop while others asked the database", code="sql.stopped")
        tables: Sequence[TableName | None] = [None]
        with session.reading("the database") as connection:
            if not config.query:
                tables = task_tables(config) or wanted_tables(connection, session.database, config)
            now = session.database.now(connection)
            reach, gaps = lookback_for(connection, session.database, config)
            self._judge(gaps)
        session.close_transaction()
        zone = find_zone(config.timezone)
        assert zone is not None, "the configuration was validated"
        self._sweeps = DeleteReconciler(config, context, session, self._reasons)
        self._factory = ReaderFactory(
            config,
            context,
            session,
            self._sweeps,
            TypeMapping(config.numeric, config.granularity, zone, config.temporal == "text", config.not_finite),
            reach,
            stored_positions(context.offset_reader, tables, config.mode, session.database.catalog),
            stored_chunk_plans(context.offset_reader, tables),
            self._start_readers,
            _initial(config, now),
            TransactionSnapshots(session.database),
        )
        self._schedule: Schedule = schedule
        # A cron expression means its moments; a pause means the pause between two polls, so the first is due at once.
        first = datetime.now(UTC) if is_duration(config.poll_interval) else schedule.next_after(datetime.now(UTC))
        targets, troubles = self._look(tables)
        readers = {table: self._factory.reader(target) for table, target in targets.items()}
        self._turns = [ScheduledTable(table, readers.get(table), first) for table in tables]
        for turn in self._turns:
            if turn.reader is not None and turn.reader.more:
                turn.due = datetime.now(UTC)  # it was interrupted
        for turn in self._turns:
            if turn.table in troubles and not self._set_aside(turn, troubles[turn.table]):
                raise troubles[turn.table]

    def _look(
        self, tables: Sequence[TableName | None]
    ) -> tuple[dict[TableName | None, ReadTarget], dict[TableName | None, HeadraceError]]:
        """The tables that can be read, and what is the trouble with others. Raises ConfigError with all mistakes.

        A table that only a pattern brought here (somebody has just created it, perhaps) stops no others by being odd.
        """
        named = self._config.query or self._config.whitelist
        targets: dict[TableName | None, ReadTarget] = {}
        troubles: dict[TableName | None, HeadraceError] = {}
        findings: list[Finding] = []
        for table in tables:
            try:
                target, found = self._factory.look(table)
            except HeadraceError as error:
                if error.code not in TABLE_ERROR_CODES:
                    raise
                troubles[table] = error
                continue
            if target is not None:
                targets[table] = target
            elif not named:
                errors = [self._located(finding) for finding in found if finding.severity == "error"]
                troubles[table] = ConfigError(findings=errors)
            findings += found
        if named or not targets:
            self._judge(findings)
        self._judge([finding for finding in findings if finding.severity == "warning"])
        return targets, troubles

    def _judge(self, findings: Sequence[Finding]) -> None:
        """Log what is unwise, raise what is wrong."""
        for finding in findings:
            if finding.severity == "warning":
                self._context.log.warning("unwise", code=finding.code, reason=finding.message, hint=finding.hint)
        if errors := [self._located(finding) for finding in findings if finding.severity == "error"]:
            raise ConfigError(findings=errors)

    def _located(self, finding: Finding) -> Finding:
        where = f"{finding.hint} ({self._context.config_origin(finding.key)})"
        return Finding(finding.code, finding.message, finding.key, where)

    def _start_readers(self, source: Source, chunks: Sequence[Chunk], within: Within, threads: int) -> ReaderPool:
        where, task = self._context.config_origin, self._context.task
        sessions = [Session(self._config, where, f"{task}/{number}") for number in range(1, threads + 1)]
        return ReaderPool(source, chunks, sessions, within)

    def poll(self) -> SourceBatch | Wait:
        """Return one batch of the scheduled table."""
        assert self._sweeps is not None
        if self._context.stop_event.is_set():
            return Wait(0.0)
        turn = self._next()
        busy = self._current is not None or next(self._underway(), None) is not None
        if not busy:
            # Never beside an open result: what is gone now may still be in it, and would follow its own tombstone.
            rows_wait = turn.due <= datetime.now(UTC)
            step = self._sweeps.step(rows_wait, lambda: self._hold_back(self._first))
            if step is not None:
                return step
        due = min(filter(None, (turn.due, self._sweeps.due)))
        if not busy and (wait := (due - datetime.now(UTC)).total_seconds()) > 0:
            if wait > _KEEP_OPEN:
                self._release()
            return Wait(wait)
        if turn.by_crew:
            return self._gather(turn)
        session = self._session_of(turn)
        if turn.reader is not None and turn.reader.open:
            session.acquire_permit()  # it is still asking
        elif pause := self._hold_back(session):
            # Whoever is admitted goes on, or nobody would ever leave.
            other = next(self._underway(), None)
            if other is None:
                return Wait(pause)
            if other.by_crew:
                return self._gather(other)
            turn, session = other, self._session_of(other)
            session.acquire_permit()
        return self._read(turn, session)

    def _next(self) -> ScheduledTable:
        """Whose turn it is. The second connection has room for one."""
        if self._current is not None:
            return self._current
        taken = self._beside
        fit = (turn for turn in self._turns if taken is None or turn is taken or not self._goes_beside(turn))
        return min(fit, key=lambda turn: turn.due)

    def _underway(self) -> Iterator[ScheduledTable]:
        """Turns that need no admission to go on, but for the one on the first connection."""
        if self._beside is not None:
            yield self._beside
        yield from (turn for turn in self._turns if turn.by_crew and turn.trouble is None)

    def _goes_beside(self, turn: ScheduledTable) -> bool:
        return len(self._turns) > 1 and turn.lengthy

    @property
    def _first(self) -> Session:
        assert self._session is not None
        return self._session

    def _session_of(self, turn: ScheduledTable) -> Session:
        assert self._second is not None
        if turn is not self._current and (turn is self._beside or self._goes_beside(turn)):
            return self._second
        return self._first

    def _gather(self, turn: ScheduledTable) -> SourceBatch | Wait:
        """A batch that a crew has read."""
        reader = turn.reader
        assert reader is not None
        assert reader.snapshot is not None
        snapshot = reader.snapshot
        try:
            batch = reader.gather(_GATHER)
        except HeadraceError as error:
            if self._passes(turn, error):
                return Wait(0.0)
            raise
        self._read_again(turn)
        waiting = snapshot.waiting if batch is None else None
        self._reasons.set(f"crew of {reader.source.relation}", waiting.reason if waiting else None)
        self._end_of(turn, reader)
        return batch if batch is not None else Wait(0.0)

    def _read(self, turn: ScheduledTable, session: Session) -> SourceBatch | Wait:
        try:
            reader = turn.reader = turn.reader or self._open(turn.table)
            with session.reading(str(reader.source.relation)) as connection:
                batch = reader.read(connection)
        except BaseException as error:
            if turn.reader is not None:
                session.give_up(turn.reader.close)
            self._put_down(session)
            if isinstance(error, HeadraceError) and self._passes(turn, error):
                return Wait(0.0)
            raise
        self._put_down(session)
        self._read_again(turn)
        self._tell_alone(reader)
        if reader.open and session is self._first:
            self._current = turn
        elif reader.open:
            self._beside, turn.due = turn, datetime.now(UTC)
        else:
            session.close_transaction()
            self._reasons.set(f"watermark of {reader.source.relation}", reader.progress.waits_for())
            self._context.lag(str(turn.table or "query"), *reader.progress.lag())
            self._reasons.set(f"numbers of {reader.source.relation}", reader.progress.numbering.reason)
        self._end_of(turn, reader)
        return batch if batch is not None else Wait(0.0)

    def _read_again(self, turn: ScheduledTable) -> None:
        if turn.trouble is not None:
            turn.trouble, turn.tries = None, 0
            self._reasons.set(("aside", turn.table), None)
            self._context.log.info("table is read again", table=str(turn.table))

    def _passes(self, turn: ScheduledTable, error: HeadraceError) -> bool:
        """Whether the task goes on as if there were no ``error``: it is told to stop, or the table is left out."""
        if self._context.stop_event.is_set() and isinstance(error, RetriableError):
            return True  # the statement was cancelled because of it
        return self._set_aside(turn, error)

    def _put_down(self, session: Session) -> None:
        """What was open on ``session`` is dealt with."""
        if session is self._first:
            self._current = None
        else:
            self._beside = None

    def _end_of(self, turn: ScheduledTable, reader: Reader) -> None:
        """When it goes on, and how far long readings are."""
        if not reader.open:
            now = datetime.now(UTC)
            if reader.more:
                turn.due = now
            else:
                turn.due = now + _SOON if reader.soon else self._schedule.next_after(now)
        over = not reader.open and not reader.more
        if reader.told is not None or over:
            self._reasons.set(f"reading {reader.source.relation}", reader.told)
        if reader.told is not None or not reader.open:
            self._context.remaining(sum(other.reader.remaining for other in self._turns if other.reader is not None))

    def _tell_alone(self, reader: Reader) -> None:
        subject, reason = ("alone", str(reader.source.relation)), reader.alone
        if reason is not None and not self._reasons.has(subject):
            self._context.log.warning("read by one connection", code="sql.one_reader", reason=reason)
        self._reasons.set(subject, reason)

    def _open(self, table: TableName | None) -> Reader:
        target, findings = self._factory.look(table)
        self._judge(findings)
        assert target is not None, "without a target there is an error among the findings"
        return self._factory.reader(target)

    def _set_aside(self, turn: ScheduledTable, error: HeadraceError) -> bool:
        """Go on with the other tables, where ``error`` is about this one alone; False when there are no others."""
        late = turn.reader is None and isinstance(error, ConfigError)  # a mistake that could not be seen before
        others = any(other is not turn and other.trouble is None for other in self._turns)
        if not others or not (late or error.code in TABLE_ERROR_CODES):
            return False
        if turn.trouble is None:
            self._context.log.error("table is left out", table=str(turn.table), code=error.code, reason=str(error))
        turn.trouble = error
        turn.due = datetime.now(UTC) + min(_ASIDE, timedelta(seconds=2**turn.tries))
        turn.tries = min(turn.tries + 1, 10)
        text = f"table {turn.table} is left out until it can be read, the others are read: {error}"
        self._reasons.set(("aside", turn.table), text)
        return True

    def _explained(self, throttled: Throttled | None) -> Throttled | None:
        for subject in THROTTLE_SUBJECTS:
            applies = throttled is not None and throttled.subject == subject
            self._reasons.set(subject, throttled.reason if throttled is not None and applies else None)
        return throttled

    def _hold_back(self, session: Session) -> float:
        """Seconds to spare the database, before a table's turn; the status says why."""
        throttled = self._explained(session.throttled_for_rows())
        return throttled.seconds if throttled is not None else 0.0

    def acknowledged(self, batch: SourceBatch) -> None:
        """Tombstones that are in Kafka are known to be, and a table's first reading is over when all of it is there."""
        if self._sweeps is not None:
            self._sweeps.acknowledged(batch)
        if batch.more_offsets:
            for turn in self._turns:
                if turn.reader is not None:
                    turn.reader.acknowledged(batch)

    def _release(self) -> None:
        for session in (self._session, self._second):
            if session is not None:
                session.release()

    def stop(self) -> None:
        """Close the connections. May be called at any time."""
        canceller, self._canceller = self._canceller, None
        if canceller is not None:
            canceller.end()
        for turn in self._turns:
            if turn.reader is not None:
                turn.reader.stop()
                self._first.give_up(turn.reader.close)
        self._release()
        self._session = self._second = None
        sweeps, self._sweeps = self._sweeps, None
        if sweeps is not None:
            sweeps.close()
        self._turns, self._current, self._beside = [], None, None


class JdbcSourceTask(SqlSourceTask):
    """With the defaults of the JVM's JDBC source."""

    config_model = JdbcSourceConfig


def task_tables(config: SqlSourceConfig) -> list[TableName]:
    """Tables as the connector wrote them into the task's configuration; empty when it did not."""
    return [TableName(*pair) for pair in json.loads(config.tables)] if config.tables else []


def written_tables(tables: list[TableName]) -> str:
    """The other way round."""
    return json.dumps([list(table) for table in tables])


def _initial(config: SqlSourceConfig, now: datetime) -> Position | None:
    if config.timestamp_initial is None or "timestamp" not in config.mode:
        return None
    return Position(now if config.timestamp_initial == -1 else from_json(config.timestamp_initial, None))
