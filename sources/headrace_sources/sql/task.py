"""The SQL source's task: connects, inspects its tables, and leaves polling to the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import ClassVar

from sqlalchemy import URL

from headrace import RetriableError, Schedule, SourceBatch, SourceContext, SourceTask, Wait
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.access.statement_canceller import StatementCanceller
from headrace_sources.sql.access.statement_watch import StatementWatch
from headrace_sources.sql.configuration.config import JdbcSourceConfig, SqlSourceConfig, is_duration
from headrace_sources.sql.configuration.syntax import find_zone
from headrace_sources.sql.cursor.lookback import lookback_for
from headrace_sources.sql.cursor.position import StoredPosition, stored_catalogs, stored_positions
from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshots
from headrace_sources.sql.deletes.comparison import KeyComparison
from headrace_sources.sql.deletes.reconciler import DeleteReconciler
from headrace_sources.sql.dialects import Dialect, dialect_for
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reader_factory import ReaderFactory
from headrace_sources.sql.reading.chunk_plan import stored_chunk_plans
from headrace_sources.sql.reading.reader import ReadNext
from headrace_sources.sql.rows.timestamps import from_json
from headrace_sources.sql.rows.types import TypeMapping
from headrace_sources.sql.scheduler import ScheduledTable, Scheduler
from headrace_sources.sql.status_reporter import StatusReporter
from headrace_sources.sql.tables.assignment import assigned_tables
from headrace_sources.sql.tables.selection import wanted_tables
from headrace_sources.sql.tuning import Tuning


class SqlSourceTask(SourceTask):
    """Reads the tables that the connector assigned to it, or the query."""

    key_hint = "set pk.mode to primary_key, or to fields with pk.fields"
    config_model: ClassVar[type[SqlSourceConfig]] = SqlSourceConfig
    tuning: ClassVar[Tuning] = Tuning()
    """A subclass may replace it."""

    def __init__(self) -> None:
        self._sessions: tuple[Session, ...] = ()
        self._canceller: StatementCanceller | None = None
        self._watch: StatementWatch | None = None
        self._reconciler: DeleteReconciler | None = None
        self._scheduler: Scheduler | None = None

    @staticmethod
    def make_dialect(url: URL, zone: tzinfo, granularity: str, temporal: str) -> Dialect:
        """Return the dialect of a session. A subclass may replace it."""
        return dialect_for(url, zone, granularity, temporal)

    @property
    def tables(self) -> Sequence[ScheduledTable]:
        """The tables in the order of their assignment."""
        return self._scheduler.tables if self._scheduler is not None else ()

    @property
    def comparisons(self) -> Sequence[KeyComparison]:
        """The comparisons of keys for deleted rows; empty unless ``delete.detection`` is ``reconcile``."""
        return self._reconciler.comparisons if self._reconciler is not None else ()

    def start(self, context: SourceContext) -> None:
        """Connect, inspect every table, and read the stored positions."""
        self._context = context
        config = self.config_model.parse(context.properties)
        schedule = context.schedule(config.poll_interval)
        self.stop()  # an earlier attempt may have failed half way
        sessions = [Session(config, context.config_origin, str(context.task), self.make_dialect) for _ in range(2)]
        primary, secondary = self._sessions = (sessions[0], sessions[1])
        self._canceller = StatementCanceller(context.stop_event, primary, secondary)
        self._canceller.start()
        status = StatusReporter(context)
        self._watch = StatementWatch(self._sessions, status.reasons, context.log, self.tuning.slow_statement)
        self._watch.start()
        self._wait_for_permit(primary, status)
        if config.delete_detection == "reconcile":
            self._reconciler = DeleteReconciler(config, context, primary, status.reasons, self.tuning)
        factory, tables = self._make_factory(config, primary)
        targets, errors = factory.inspect_all(tables)
        readers = {table: factory.reader(target) for table, target in targets.items()}
        scheduled = [ScheduledTable(table, readers.get(table), _first_due(config, schedule)) for table in tables]
        for table in scheduled:
            if table.reader is not None and table.reader.next is ReadNext.AT_ONCE:
                table.due = datetime.now(UTC)  # it was interrupted
        scheduler = Scheduler(context, factory, scheduled, schedule, (primary, secondary), self._reconciler, status)
        self._scheduler = scheduler
        for table in scheduled:
            if table.name in errors and not scheduler.quarantine(table, errors[table.name]):
                raise errors[table.name]

    def _wait_for_permit(self, session: Session, status: StatusReporter) -> None:
        throttled = session.throttled()
        while throttled is not None:
            status.throttled(throttled)
            if self._context.stop_event.wait(throttled.seconds):
                raise RetriableError("the task was stopped while it waited for a permit to query", code="sql.stopped")
            throttled = session.throttled()
        status.throttled(None)

    def _make_factory(
        self, config: SqlSourceConfig, session: Session
    ) -> tuple[ReaderFactory, Sequence[TableName | None]]:
        dialect = session.dialect
        tables: Sequence[TableName | None] = [None]
        with session.reading("the database") as connection:
            if not config.query:
                tables = assigned_tables(config) or wanted_tables(connection, dialect, config)
            now = dialect.now(connection)
            lookback, findings = lookback_for(connection, dialect, config, self.tuning)
            lookback = replace(lookback, settled=self._context.exactly_once)
        session.close_transaction()
        zone = find_zone(config.timezone)
        assert zone is not None, "the configuration was validated"
        stored = self._context.offset_reader, tables, config.mode, dialect.catalog, session.url.database or ""
        factory = ReaderFactory(
            config=config,
            context=self._context,
            session=session,
            reconciler=self._reconciler,
            mapping=TypeMapping(config.numeric, config.granularity, zone, config.temporal == "text", config.not_finite),
            lookback=lookback,
            positions=stored_positions(*stored),
            catalogs=stored_catalogs(*stored),
            chunk_plans=stored_chunk_plans(self._context.offset_reader, tables),
            initial=_initial_position(config, now),
            transaction_snapshots=TransactionSnapshots(dialect),
            make_dialect=self.make_dialect,
            tuning=self.tuning,
        )
        factory.report(findings)
        return factory, tables

    def poll(self) -> SourceBatch | Wait:
        """Return one batch of the table that is due."""
        assert self._scheduler is not None
        return Wait(0.0) if self._context.stop_event.is_set() else self._scheduler.poll()

    def acknowledged(self, batch: SourceBatch) -> None:
        """Note that ``batch`` is in Kafka."""
        if self._scheduler is not None:
            self._scheduler.acknowledged(batch)

    def stop(self) -> None:
        """Close the connections. May be called at any time."""
        canceller, self._canceller = self._canceller, None
        if canceller is not None:
            canceller.end()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.close()
        sessions, self._sessions = self._sessions, ()
        for session in sessions:
            session.release()
        reconciler, self._reconciler = self._reconciler, None
        if reconciler is not None:
            reconciler.close()


class JdbcSourceTask(SqlSourceTask):
    """The task with the defaults of the JVM's JDBC source."""

    config_model = JdbcSourceConfig


def _first_due(config: SqlSourceConfig, schedule: Schedule) -> datetime:
    """Return when tables are first due: at once, or at the next time of a cron expression."""
    now = datetime.now(UTC)
    return now if is_duration(config.poll_interval) else schedule.next_after(now)


def _initial_position(config: SqlSourceConfig, now: datetime) -> StoredPosition | None:
    if config.timestamp_initial is None or "timestamp" not in config.mode:
        return None
    return StoredPosition(now if config.timestamp_initial == -1 else from_json(config.timestamp_initial, None))
