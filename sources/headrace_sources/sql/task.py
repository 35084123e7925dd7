"""The SQL source's task: which table is due, and a batch of it.

A table's turn is one page of it, read to its end on the task's one connection; then the table goes first that has been
due for the longest time, so that a large table holds up the others for no longer than a page takes. ``tasks.max`` is
what reads several tables at once. Between turns no transaction is open.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
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
from headrace_sources.sql.catalog import Target
from headrace_sources.sql.config import JdbcSourceConfig, SqlSourceConfig
from headrace_sources.sql.config_rules import is_duration
from headrace_sources.sql.dialects.generic import TableName
from headrace_sources.sql.faults import OF_ONE_TABLE
from headrace_sources.sql.gap_free import reach_of
from headrace_sources.sql.offsets import Position, stored_positions
from headrace_sources.sql.openings import Openings
from headrace_sources.sql.reader import TableReader
from headrace_sources.sql.reasons import Reasons
from headrace_sources.sql.session import Session
from headrace_sources.sql.sweeps import Sweeps
from headrace_sources.sql.tables import wanted_tables
from headrace_sources.sql.timestamps import from_json
from headrace_sources.sql.types import TypeMapping
from headrace_sources.sql.zones import find_zone

_QUEUE = 0.05
"""Seconds between two looks whether the database may be asked."""
_LAG = 1.0
"""Seconds between two looks whether a replica has caught up."""
_SOON = timedelta(milliseconds=100)
_ASIDE = timedelta(seconds=30)
"""Until a table that cannot be read is tried again."""
_KEEP_OPEN = 60.0
"""Seconds: a connection that is not needed for longer is closed."""


@dataclass
class _Turn:
    """A table and when it is due. ``reader`` None: it could not be read when the task started."""

    table: TableName | None
    reader: TableReader | None
    due: datetime
    trouble: HeadraceError | None = None
    """Why it is left out for now."""


class SqlSourceTask(SourceTask):
    """Reads the tables that the connector gave it, or the query."""

    config_model: ClassVar[type[SqlSourceConfig]] = SqlSourceConfig

    def __init__(self) -> None:
        self._session: Session | None = None
        self._canceller: Canceller | None = None
        self._turns: list[_Turn] = []
        self._current: _Turn | None = None
        self._sweeps: Sweeps | None = None

    def start(self, context: SourceContext) -> None:
        """Connect, look at every table, find the stored positions."""
        self._context = context
        self._reasons = Reasons(context.explain)
        self._config = config = self.config_model.parse(context.properties)
        schedule = context.schedule(config.poll_interval)
        self.stop()  # an earlier try may have got half way
        self._session = session = Session(config, context.where, str(context.task))
        self._canceller = Canceller(context.stop_event, session)
        self._canceller.start()
        while not self._admitted(session):
            if context.stop_event.wait(_QUEUE):
                raise RetriableError("told to stop while others asked the database", code="sql.stopped")
        tables: Sequence[TableName | None] = [None]
        with session.reading("the database") as connection:
            if not config.query:
                tables = task_tables(config) or wanted_tables(connection, session.database, config)
            now = session.database.now(connection)
            reach, gaps = reach_of(connection, session.database, config)
            self._judge(gaps)
        session.close_transaction()
        zone = find_zone(config.timezone)
        assert zone is not None, "the configuration was validated"
        self._sweeps = Sweeps(config, context, session, self._reasons)
        self._openings = Openings(
            config,
            context,
            session,
            self._sweeps,
            TypeMapping(config.numeric, config.granularity, zone, config.temporal == "text"),
            reach,
            stored_positions(context.offset_reader, tables, config.mode),
            _initial(config, now),
        )
        self._schedule: Schedule = schedule
        # A cron expression means its moments; a pause means the pause between two polls, so the first is due at once.
        first = datetime.now(UTC) if is_duration(config.poll_interval) else schedule.next_after(datetime.now(UTC))
        targets, troubles = self._look(tables)
        readers = {table: self._openings.reader(target) for table, target in targets.items()}
        self._turns = [_Turn(table, readers.get(table), first) for table in tables]
        for turn in self._turns:
            if turn.table in troubles and not self._set_aside(turn, troubles[turn.table]):
                raise troubles[turn.table]

    def _look(
        self, tables: Sequence[TableName | None]
    ) -> tuple[dict[TableName | None, Target], dict[TableName | None, HeadraceError]]:
        """The tables that can be read, and what is the trouble with others. Raises ConfigError with all mistakes.

        A table that only a pattern brought here (somebody has just created it, perhaps) stops no others by being odd.
        """
        named = self._config.query or self._config.whitelist
        targets: dict[TableName | None, Target] = {}
        troubles: dict[TableName | None, HeadraceError] = {}
        findings: list[Finding] = []
        for table in tables:
            try:
                target, found = self._openings.look(table)
            except HeadraceError as error:
                if error.code not in OF_ONE_TABLE:
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
        where = f"{finding.hint} ({self._context.where(finding.key)})"
        return Finding(finding.code, finding.message, finding.key, where)

    def poll(self) -> SourceBatch | Wait:
        """One batch of the table whose turn it is. Raises RetriableError, ConfigError, EnvironmentFault, TaskError."""
        session = self._session
        assert session is not None
        assert self._sweeps is not None
        if self._context.stop_event.is_set():
            return Wait(0.0)
        turn = self._current or min(self._turns, key=lambda turn: turn.due)
        if self._current is None:
            # Never beside an open result: what is gone now may still be in it, and would follow its own tombstone.
            rows_wait = turn.due <= datetime.now(UTC)
            step = self._sweeps.step(rows_wait, lambda: self._hold_back(session))
            if step is not None:
                return step
        due = min(filter(None, (turn.due, self._sweeps.due)))
        if self._current is None and (wait := (due - datetime.now(UTC)).total_seconds()) > 0:
            if wait > _KEEP_OPEN:
                session.release()
            return Wait(wait)
        if self._current is not None:
            session.admitted()  # it is still asking
        elif pause := self._hold_back(session):
            return Wait(pause)
        try:
            reader = turn.reader = turn.reader or self._open(turn.table)
            with session.reading(str(reader.source.relation)) as connection:
                batch = reader.read(connection)
        except BaseException as error:
            if turn.reader is not None:
                session.give_up(turn.reader.close)
            self._current = None
            if self._context.stop_event.is_set() and isinstance(error, RetriableError):
                return Wait(0.0)  # the statement was cancelled because of it
            if isinstance(error, HeadraceError) and self._set_aside(turn, error):
                return Wait(0.0)
            raise
        if turn.trouble is not None:
            turn.trouble = None
            self._reasons.set(("aside", turn.table), None)
            self._context.log.info("table is read again", table=str(turn.table))
        if reader.open:
            self._current = turn
        else:
            self._current = None
            session.close_transaction()
            now = datetime.now(UTC)
            if reader.more:
                turn.due = now
            else:
                turn.due = now + _SOON if reader.soon else self._schedule.next_after(now)
            self._tell(reader)
            self._reasons.set(f"watermark of {reader.source.relation}", reader.progress.waits_for())
            self._reasons.set(f"numbers of {reader.source.relation}", reader.progress.numbering.reason)
        return batch if batch is not None else Wait(0.0)

    def _open(self, table: TableName | None) -> TableReader:
        target, findings = self._openings.look(table)
        self._judge(findings)
        assert target is not None, "without a target there is an error among the findings"
        return self._openings.reader(target)

    def _set_aside(self, turn: _Turn, error: HeadraceError) -> bool:
        """Go on with the other tables, where ``error`` is about this one alone; False when there are no others."""
        late = turn.reader is None and isinstance(error, ConfigError)  # a mistake that could not be seen before
        others = any(other is not turn and other.trouble is None for other in self._turns)
        if not others or not (late or error.code in OF_ONE_TABLE):
            return False
        if turn.trouble is None:
            self._context.log.error("table is left out", table=str(turn.table), code=error.code, reason=str(error))
        turn.trouble = error
        turn.due = datetime.now(UTC) + _ASIDE
        text = (
            f"table {turn.table} is left out, the others are read: {error} It is tried again every "
            f"{_ASIDE.total_seconds():g} s"
        )
        self._reasons.set(("aside", turn.table), text)
        return True

    def _tell(self, reader: TableReader) -> None:
        """How far long readings are."""
        if reader.told is not None or not reader.more:
            self._reasons.set(f"reading {reader.source.relation}", reader.told)
        self._context.remaining(sum(turn.reader.remaining for turn in self._turns if turn.reader is not None))

    def _admitted(self, session: Session) -> bool:
        admitted = session.admitted()
        limit = f"{self._config.max_queries} ({self._context.where('connection.max.queries')})"
        text = f"waiting until others have asked the database: connection.max.queries is {limit}"
        self._reasons.set("budget", None if admitted else text)
        return admitted

    def _hold_back(self, session: Session) -> float:
        """Seconds to spare the database, before a table's turn; the status says why."""
        if not self._admitted(session):
            return _QUEUE
        if self._config.max_lag is not None:
            with session.reading("the replica's lag") as connection:
                lag = session.database.lag(connection)
            if lag is not None and lag * 1000 > self._config.max_lag:
                session.close_transaction()
                limit = f"{self._config.max_lag} ({self._context.where('replica.max.lag.ms')})"
                text = f"the replica is {lag:.1f} s behind its primary: replica.max.lag.ms is {limit}"
                self._reasons.set("lag", text)
                return _LAG
        self._reasons.set("lag", None)
        return 0.0

    def acknowledged(self, batch: SourceBatch) -> None:
        """Tombstones that are in Kafka are known to be."""
        if self._sweeps is not None:
            self._sweeps.acknowledged(batch)

    def stop(self) -> None:
        """Close the connection. May be called at any time."""
        canceller, self._canceller = self._canceller, None
        if canceller is not None:
            canceller.end()
        session, self._session = self._session, None
        if session is not None:
            for turn in self._turns:
                if turn.reader is not None:
                    session.give_up(turn.reader.close)
            session.release()
        sweeps, self._sweeps = self._sweeps, None
        if sweeps is not None:
            sweeps.close()
        self._turns, self._current = [], None


class JdbcSourceTask(SqlSourceTask):
    """With the defaults of the JVM's JDBC source."""

    config_model = JdbcSourceConfig


class Canceller(threading.Thread):
    """Cancels the running statement when the task is told to stop: a sort of a large table may take minutes."""

    _LOOK = 0.5  # seconds; there is no waiting for two events at once

    def __init__(self, stop_event: threading.Event, session: Session) -> None:
        super().__init__(name=f"{threading.current_thread().name}-cancel", daemon=True)
        self._stop_event = stop_event
        self._session = session
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set() and not self._stop_event.wait(self._LOOK):
            pass
        # More than once: the statement may begin a moment after the task was told to stop.
        while not self._ended.is_set():
            self._session.cancel()
            self._ended.wait(self._LOOK)

    def end(self) -> None:
        """Nothing is to be cancelled any more."""
        self._ended.set()


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
