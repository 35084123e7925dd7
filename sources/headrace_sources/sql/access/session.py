"""The one connection of a task: opened when there is something to read, given back when there is not."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from headrace import ConfigError, HeadraceError, InfrastructureError, RetriableError
from headrace_sources.sql.access import faults
from headrace_sources.sql.access.budget import budget_of
from headrace_sources.sql.access.faults import Where, nowhere
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.configuration.urls import connection_url
from headrace_sources.sql.configuration.zones import find_zone
from headrace_sources.sql.dialects import Database, database_for
from headrace_sources.sql.dialects.generic import Verdict

_ISOLATION = {"SQL_SERVER_SNAPSHOT": "SNAPSHOT"}


class Session:
    """Used from one thread; :meth:`cancel` may be called from another.

    ``database`` holds the facts of this kind of database. All errors that leave this class are headrace's.
    """

    def __init__(self, config: SqlSourceConfig, where: Where = nowhere, name: str = "") -> None:
        """``name`` is who asks, shown to the database. Raises ConfigError and InfrastructureError; does not connect."""
        self._config = config
        self._name = f"headrace:{name}" if name else "headrace"
        self._where = where
        self.url = _url(config)
        self.database = self._find_database()
        self._budget = budget_of(self.url)
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._failures = 0
        self._lock = threading.Lock()  # guards what cancel() uses
        self._running: Any = None

    def _find_database(self) -> Database:
        zone = find_zone(self._config.timezone)
        assert zone is not None, "the configuration was validated"
        try:
            return database_for(self.url, zone, self._config.granularity, self._config.temporal)
        except (ImportError, NoSuchModuleError) as error:
            raise faults.missing_driver(error, self.url, self._where) from error

    @property
    def login(self) -> str:
        """The key in which the password is, or has to be written."""
        in_url = self.url.password is not None and self._config.password is None
        return "connection.url" if in_url else "connection.password"

    def admitted(self) -> bool:
        """Whether a query may be asked now (connection.max.queries); if so, until the transaction is closed."""
        return self._budget.admit(self, self._config.max_queries)

    def connection(self) -> Connection:
        """The open connection, or a new one. Raises InfrastructureError, ConfigError and RetriableError."""
        if self._connection is None:
            engine = self._engine or self._make_engine()
            try:
                connection = engine.connect()
            except DBAPIError as error:
                fault = faults.connecting(error, self._verdict(error), self.url, self._where, self.login)
                raise self._refused(fault) from error
            except ArgumentError as error:  # an isolation level that this database does not have
                key = "transaction.isolation.mode"
                raise ConfigError(str(error), code="config.invalid_value", hint=self._where(key)) from error
            self._failures = 0
            self._connection = connection
            with self._lock:
                self._running = connection.connection.dbapi_connection
        return self._connection

    def close_transaction(self) -> None:
        """Nothing stays open but the connection itself, which waits for the next use."""
        connection, self._connection = self._connection, None
        with self._lock:
            self._running = None
        try:
            if connection is not None:
                self._end(connection)
        finally:
            self._budget.leave(self)  # not before: whoever is admitted now would be one too many

    def _end(self, connection: Connection) -> None:
        try:
            self.database.abandon(connection)
            connection.close()
        except self._errors():
            # Rolling back a reading transaction on a dead connection: there is nothing to undo.
            if not connection.closed:
                connection.invalidate()
                connection.close()

    def release(self) -> None:
        """Close the connection, too. It is opened anew when it is needed."""
        self.close_transaction()
        if self._engine is not None:
            self._engine.dispose()

    def give_up(self, close: Callable[[], None]) -> None:
        """Close something that was opened on the connection; on a broken one there is nothing left to close."""
        with suppress(*self._errors()):
            close()

    def cancel(self) -> None:
        """End what the database is doing for this task, from another thread."""
        with self._lock:
            if self._running is not None:
                # The statement may end by itself, or its connection break, at this very moment: as good as cancelled.
                with suppress(*self._errors()):
                    self.database.cancel(self._running)

    @contextmanager
    def reading(self, subject: str) -> Iterator[Connection]:
        """A connection to read ``subject`` with; the driver's errors become ours and end the transaction."""
        connection = self.connection()
        try:
            yield connection
        except self._errors() as error:
            verdict = self._verdict(error)
            if verdict is Verdict.LOST and not connection.invalidated:
                self.database.abandon(connection)
                connection.invalidate()
            self.close_transaction()
            discreet = self._config.query_masked is not None
            remedy = self._remedy(error, subject) if verdict is Verdict.FORBIDDEN else ""
            raise faults.running(
                error, verdict, self.url, subject, self._where, discreet=discreet, remedy=remedy
            ) from error
        except BaseException:
            self.close_transaction()
            raise

    def _remedy(self, error: Exception, subject: str) -> str:
        """The GRANT that is missing, written out for this session's user."""
        connection = self.connection()
        quote = connection.dialect.identifier_preparer.quote
        named = re.search(r"table (?:(.+)\.)?(.+)", subject)
        table = ".".join(map(quote, filter(None, named.groups()))) if named else "the tables of the query"
        grantee = self.url.username or "the user"
        with suppress(*self._errors()):
            grantee = self.database.grantee(connection)
        self.close_transaction()
        original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        return self.database.remedy(original, table, grantee)

    def _make_engine(self) -> Engine:
        level = self._config.isolation
        options: dict[str, Any] = dict(self.database.engine_options)
        if level != "DEFAULT":
            options["isolation_level"] = _ISOLATION.get(level, level.replace("_", " "))
        try:
            self._engine = create_engine(
                self.url,
                connect_args={**self.database.connect_args(self.url), **self.database.introduce(self.url, self._name)},
                pool_size=1,
                max_overflow=0,
                pool_pre_ping=True,  # a connection that died between two polls is replaced without anybody noticing
                **options,
            )
        except (ImportError, NoSuchModuleError) as error:
            raise faults.missing_driver(error, self.url, self._where) from error
        event.listen(self._engine, "connect", lambda raw, _: self._prepare(raw))
        return self._engine

    def _prepare(self, dbapi_connection: Any) -> None:
        self.database.prepare(dbapi_connection)
        self.database.restrain(
            dbapi_connection, read_only=self._config.read_only, timeout_ms=self._config.statement_timeout
        )

    def _errors(self) -> tuple[type[Exception], ...]:
        """What a driver raises, and SQLAlchemy around it."""
        driver: type[Exception] | None = self._engine.dialect.loaded_dbapi.Error if self._engine is not None else None
        return (SQLAlchemyError, driver) if driver is not None else (SQLAlchemyError,)

    def _verdict(self, error: Exception) -> Verdict:
        if isinstance(error, DBAPIError):
            if error.connection_invalidated:
                return Verdict.LOST
            if not isinstance(error.orig, Exception):
                return Verdict.OTHER
            error = error.orig
        verdict = self.database.verdict(error)
        if verdict is Verdict.OTHER and self._engine is not None and self._running is not None:
            gone = self._engine.dialect.is_disconnect(error, self._running, None)  # type: ignore[arg-type]
            return Verdict.LOST if gone else Verdict.OTHER
        return verdict

    def _refused(self, error: HeadraceError) -> HeadraceError:
        """Count tries, as connection.attempts and connection.backoff.ms ask for."""
        self._failures += 1
        if not isinstance(error, RetriableError):
            return error
        if self._config.attempts is not None and self._failures >= self._config.attempts:
            hint = f"connection.attempts is {self._config.attempts} ({self._where('connection.attempts')})"
            return InfrastructureError(error.message, code=error.code, hint=hint)
        if self._config.backoff is not None:
            error.delay = self._config.backoff / 1000
        return error


def _url(config: SqlSourceConfig) -> URL:
    password = config.password.get_secret_value() if config.password else None
    url, findings = connection_url(config.url, config.user, password, config.parameters)
    if url is None or findings:
        raise ConfigError(findings=findings)
    return url
