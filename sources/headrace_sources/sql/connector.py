"""The SQL source connector: assigns tables to tasks and checks a configuration against the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from sqlalchemy import Connection

from headrace import (
    ConfigError,
    Finding,
    HeadraceError,
    ProducedTopic,
    SourceConnector,
    SourceOffset,
    SourcePartition,
    SystemChoices,
    TaskError,
)
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import JdbcSourceConfig, SqlSourceConfig
from headrace_sources.sql.cursor.lookback import lookback_for
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.inspection import index_findings, inspect_relation, parallel_findings, unread_rows
from headrace_sources.sql.reading.produced_topics import configured_topics, inspected_topic
from headrace_sources.sql.reading.stored_partitions import resolve_offset_changes, unusable_offsets
from headrace_sources.sql.rows.types import LOCALS
from headrace_sources.sql.tables.assignment import assigned_tables, assignment_text, contiguous_blocks, reassign
from headrace_sources.sql.tables.selection import list_tables, wanted_tables
from headrace_sources.sql.task import JdbcSourceTask, SqlSourceTask

_LOOKUP_STATEMENT_TIMEOUT = "5000"
_KEYS = {
    "sql.missing_database": "connection.url",
    "sql.unreachable": "connection.url",
    "sql.driver": "connection.url",
}


class SqlSourceConnector(SourceConnector):
    """Rows of tables, or of one query, to Kafka. One task reads several tables in turn; several tasks divide them."""

    config_model: ClassVar[type[SqlSourceConfig]] = SqlSourceConfig
    task_class: ClassVar[type[SqlSourceTask]] = SqlSourceTask
    lookup_keys = ("connection.url", "connection.", "catalog.pattern", "schema.pattern", "table.types")

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """Assign tables in contiguous blocks of about equal size; a query has one task."""
        config = self.config_model.parse(properties)
        if config.query:
            return [dict(properties)]
        return [
            dict(properties) | {"tables": assignment_text(block)}
            for block in contiguous_blocks(_tables(config), max_tasks)
        ]

    def preview_properties(self, properties: Mapping[str, str]) -> Mapping[str, str]:
        """Leave out the comparison of keys, which writes a file."""
        if self.config_model.parse(properties).delete_detection != "reconcile":
            return properties
        return {name: value for name, value in properties.items() if not name.startswith("delete.")}

    def exactly_once_problem(self, properties: Mapping[str, str]) -> str | None:
        try:
            config = self.config_model.parse(properties)
        except ConfigError:
            return None  # reported by itself
        if config.mode == "bulk":
            return "mode=bulk reads all rows again and again"
        if config.delete_detection == "reconcile":
            return "delete.detection=reconcile sends deletions again after a restart"
        return None

    def watch_interval(self, properties: Mapping[str, str]) -> float | None:
        """Return how often the list of tables is read again; None for a query."""
        config = self.config_model.parse(properties)
        return None if config.query or not config.table_poll else config.table_poll / 1000

    def follow(
        self, properties: Mapping[str, str], max_tasks: int, present: Sequence[Mapping[str, str]]
    ) -> list[dict[str, str]]:
        """Assign the current tables; tasks with the same tables as before do not change."""
        present_tables = [assigned_tables(self.config_model.parse(own)) for own in present]
        tables = _tables(self.config_model.parse(properties))
        return [
            dict(properties) | {"tables": assignment_text(block)}
            for block in reassign(present_tables, tables, max_tasks)
        ]

    def offset_changes(
        self, properties: Mapping[str, str], changes: Sequence[tuple[SourcePartition, SourceOffset | None]]
    ) -> list[tuple[SourcePartition, SourceOffset | None]]:
        """Ask the database for the tables; partitions that begin with the name of the database are accepted."""
        config = self.config_model.parse(properties)
        session = Session(config)
        try:
            tables: Sequence[TableName | None] = [None]
            if not config.query:
                with session.reading("the list of tables") as connection:
                    tables = wanted_tables(connection, session.dialect, config)
            catalog, database = session.dialect.catalog, session.url.database or ""
        finally:
            session.release()
        return resolve_offset_changes(changes, tables, config.mode, catalog, database)

    def unusable_offsets(
        self, properties: Mapping[str, str], stored: Sequence[tuple[SourcePartition, SourceOffset]]
    ) -> Sequence[tuple[SourcePartition, str]]:
        """Compare the forms of partitions and offsets; whether the tables exist, only the database knows."""
        config = self.config_model.parse(properties)
        return unusable_offsets(stored, config.mode, reads_query=bool(config.query))

    def check(self, properties: Mapping[str, str]) -> Iterable[Finding]:
        """Connect, and check that everything exists, can be read and is recommended."""
        try:
            config = self.config_model.parse(properties)
            session = Session(config)
        except HeadraceError as error:
            return _findings(error)
        try:
            return list(_check(session, config))
        except HeadraceError as error:
            return _findings(error, session.login)
        finally:
            session.release()

    def look_up(self, properties: Mapping[str, str]) -> SystemChoices:
        """Return the tables, as Kafka Connect's JDBC source does: by their bare names where these are unique."""
        required = {"mode": "bulk", "topic.prefix": "-", "table.whitelist": "-"}
        other = {**required, "statement.timeout.ms": _LOOKUP_STATEMENT_TIMEOUT}
        try:
            config = self.config_model.parse({**properties, **other})
            session = Session(config)
        except HeadraceError:
            return SystemChoices()  # the validation reports what is wrong with these keys
        try:
            with session.reading("the list of tables") as connection:
                tables = [item.table for item in list_tables(connection, session.dialect, config)]
        except HeadraceError as error:
            return SystemChoices({}, _findings(error, session.login))
        finally:
            session.release()
        count = Counter(table.name for table in tables)
        names = [table.name if count[table.name] == 1 else str(table) for table in tables]
        return SystemChoices({"table.whitelist": names, "table.blacklist": names})

    def produced_topics(self, properties: Mapping[str, str], *, connect: bool) -> Sequence[ProducedTopic]:
        """Return the topics of the tables, or of the query. A table that cannot be read is left out."""
        config = self.config_model.parse(properties)
        return _inspected_topics(config) if connect else list(configured_topics(config))


class JdbcSourceConnector(SqlSourceConnector):
    """The SQL source with the defaults of the JVM's JDBC source (no record keys)."""

    config_model = JdbcSourceConfig
    task_class = JdbcSourceTask
    aliases = ("io.confluent.connect.jdbc.JdbcSourceConnector", "io.aiven.connect.jdbc.JdbcSourceConnector")


def _tables(config: SqlSourceConfig) -> list[TableName]:
    session = Session(config)
    try:
        with session.reading("the list of tables") as connection:
            return wanted_tables(connection, session.dialect, config)
    finally:
        session.release()


def _inspected_topics(config: SqlSourceConfig) -> list[ProducedTopic]:
    found = []
    session = Session(config)
    try:
        tables: Sequence[TableName | None] = [None]
        if not config.query:
            with session.reading("the list of tables") as connection:
                tables = wanted_tables(connection, session.dialect, config)
        for table in tables:
            try:
                with session.reading(f"table {table}" if table else "the query") as connection:
                    target, _ = inspect_relation(connection, session.dialect, config, table)
            except (ConfigError, TaskError):
                continue  # `check` reports it
            if target is not None:
                found.append(inspected_topic(config, target))
    finally:
        session.release()
    return found


def _check(session: Session, config: SqlSourceConfig) -> Iterable[Finding]:
    dialect = session.dialect
    tables: Sequence[TableName | None] = [None]
    if not config.query:
        with session.reading("the list of tables") as connection:
            tables = wanted_tables(connection, dialect, config)
    with session.reading("the database") as connection:
        yield from lookback_for(connection, dialect, config, SqlSourceTask.tuning)[1]
    for table in tables:
        try:
            with session.reading(f"table {table}" if table else "the query") as connection:
                yield from _check_table(connection, dialect, config, table)
        except (ConfigError, TaskError) as error:  # of this table; the others are checked too
            yield from _findings(error)


def _check_table(
    connection: Connection, dialect: Dialect, config: SqlSourceConfig, table: TableName | None
) -> Iterable[Finding]:
    target, findings = inspect_relation(connection, dialect, config, table)
    yield from findings
    if target is None:
        return
    yield from unread_rows(connection, target)
    yield from index_findings(connection, dialect, target)
    yield from parallel_findings(connection, dialect, config, target)
    timestamps = [column for column in target.columns if column.name in target.cursor.timestamps]
    if any(column.kind in LOCALS for column in timestamps):
        hint = "set db.timezone to the zone that the column is written in, or use a type with a time zone"
        for text in dialect.warnings(connection):
            yield Finding("sql.time_zone", f"{text} ({target.relation})", "db.timezone", hint, None, "warning")


def _findings(error: HeadraceError, login: str = "connection.password") -> list[Finding]:
    if isinstance(error, ConfigError) and error.findings:
        return list(error.findings)
    return [error.finding(login if error.code == "sql.authentication" else _KEYS.get(error.code, ""))]
