"""A task's connection to the database: opened when rows are due, closed when none are due for longer."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from headrace import ConfigError, HeadraceError, InfrastructureError, RetriableError
from headrace_sources.sql.access import driver_errors
from headrace_sources.sql.access.driver_errors import KeyOrigin, unknown_origin
from headrace_sources.sql.access.query_semaphore import query_semaphore_of
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.configuration.syntax import find_zone
from headrace_sources.sql.configuration.urls import connection_url
from headrace_sources.sql.dialects import Dialect, MakeDialect, dialect_for
from headrace_sources.sql.dialects.dialect import ErrorClass

_ISOLATION = {"SQL_SERVER_SNAPSHOT": "SNAPSHOT"}
_PERMIT_RETRY = 0.05
"""Seconds until a session that has no permit tries to acquire one again."""
_LAG_RETRY = 1.0
"""Seconds until the lag of a replica is measured again."""


class Throttled(NamedTuple):
    """Why a session must not query the database now, and after how many seconds to try again."""

    seconds: float
    subject: str
    reason: str


class Activity(NamedTuple):
    """The current query of a session. ``since`` is monotonic."""

    doing: str
    since: float


THROTTLE_SUBJECTS = ("query permit", "replica lag")
"""Every ``subject`` of :class:`Throttled`."""


class Session:
    """Used from one thread; :meth:`cancel` may be called from another.

    Every error that leaves this class is one of headrace's.
    """

    def __init__(
        self,
        config: SqlSourceConfig,
        config_origin: KeyOrigin = unknown_origin,
        name: str = "",
        make_dialect: MakeDialect = dialect_for,
    ) -> None:
        """``name``: of the task, for the database. Raises ConfigError and InfrastructureError; does not connect."""
        self._config = config
        self._name = f"headrace:{name}" if name else "headrace"
        self._config_origin = config_origin
        self.url = _url(config)
        self.dialect = self._find_dialect(make_dialect)
        self._semaphore = query_semaphore_of(self.url)
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._failures = 0
        self.activity: Activity | None = None
        """The current activity. Read by other threads."""
        self.last_duration = 0.0
        """Seconds that the last activity took."""
        self._lock = threading.Lock()  # guards what cancel() uses
        self._running: Any = None

    def _find_dialect(self, make_dialect: MakeDialect) -> Dialect:
        zone = find_zone(self._config.timezone)
        assert zone is not None, "the configuration was validated"
        try:
            return make_dialect(self.url, zone, self._config.granularity, self._config.temporal)
        except (ImportError, NoSuchModuleError) as error:
            raise driver_errors.missing_driver_error(error, self.url, self._config_origin) from error

    @property
    def address(self) -> str:
        """Host and port, or the file, for messages."""
        return f"{self.url.host}:{self.url.port}" if self.url.port else str(self.url.host or self.url.database)

    @property
    def login(self) -> str:
        """The configuration key that holds the password, or should hold it."""
        in_url = self.url.password is not None and self._config.password is None
        return "connection.url" if in_url else "connection.password"

    def acquire_permit(self) -> bool:
        """Return whether a query may run now (connection.max.queries). The permit lasts until the transaction ends."""
        return self._semaphore.acquire(self, self._config.max_queries)

    def throttled(self) -> Throttled | None:
        """Acquire a permit to query; return why there is none."""
        if self.acquire_permit():
            return None
        limit = f"{self._config.max_queries} ({self._config_origin('connection.max.queries')})"
        reason = f"waiting until other queries of the database end: connection.max.queries is {limit}"
        return Throttled(_PERMIT_RETRY, "query permit", reason)

    def throttled_for_rows(self) -> Throttled | None:
        """Acquire a permit to read rows; return why there is none: also a replica that lags too far behind."""
        throttled = self.throttled()
        if throttled is not None or self._config.max_lag is None:
            return throttled
        with self.reading("the replica's lag") as connection:
            lag = self.dialect.lag(connection)
        if lag is None or lag * 1000 <= self._config.max_lag:
            return None
        self.close_transaction()
        limit = f"{self._config.max_lag} ({self._config_origin('replica.max.lag.ms')})"
        reason = f"the replica is {lag:.1f} s behind its primary: replica.max.lag.ms is {limit}"
        return Throttled(_LAG_RETRY, "replica lag", reason)

    def connection(self) -> Connection:
        """Return the open connection, or open one. Raise InfrastructureError, ConfigError and RetriableError."""
        if self._connection is None:
            engine = self._engine or self._make_engine()
            try:
                connection = engine.connect()
            except DBAPIError as error:
                fault = driver_errors.connection_error(
                    error, self._error_class(error), self.url, self._config_origin, self.login
                )
                raise self._refused(fault) from error
            except ArgumentError as error:  # an isolation level that this database does not have
                key = "transaction.isolation.mode"
                raise ConfigError(str(error), code="config.invalid_value", hint=self._config_origin(key)) from error
            self._failures = 0
            self._connection = connection
            with self._lock:
                self._running = connection.connection.dbapi_connection
        return self._connection

    def close_transaction(self) -> None:
        """End the transaction and release the permit; the connection stays open in the pool."""
        connection, self._connection = self._connection, None
        with self._lock:
            self._running = None
        try:
            if connection is not None:
                with self._active("ends a transaction"):
                    self._end(connection)
        finally:
            self._semaphore.release(self)  # not before: otherwise one query too many could run

    def _end(self, connection: Connection) -> None:
        try:
            self.dialect.abandon(connection)
            connection.close()
        except self._errors():
            # The rollback of a reading transaction failed because the connection is dead: there is nothing to undo.
            if not connection.closed:
                connection.invalidate()
                connection.close()

    def release(self) -> None:
        """End the transaction and close the connection. The next use opens a new one."""
        self.close_transaction()
        if self._engine is not None:
            self._engine.dispose()

    def give_up(self, close: Callable[[], None]) -> None:
        """Run ``close``; ignore the errors of a broken connection, on which nothing is left to close."""
        with suppress(*self._errors()):
            close()

    def cancel(self) -> None:
        """Cancel the running statement. Called from another thread."""
        with self._lock:
            if self._running is not None:
                # The statement may have ended by now, or its connection broken: then there is nothing to cancel.
                with suppress(*self._errors()):
                    self.dialect.cancel(self._running)

    def diagnose(self) -> str | None:
        """Ask the database, on another connection, what the running statement waits for; None = unknown.

        Called from another thread.
        """
        with self._lock:
            running = self._running
        if running is None:
            return None  # it is connecting: the driver's timeout ends that
        try:
            return self.dialect.waits_for(running, self.url, discreet=self._config.query_masked is not None)
        except self._errors() as error:
            return f"another connection is not answered either: {driver_errors.driver_message(error, self.url)}"

    @contextmanager
    def _active(self, doing: str) -> Iterator[None]:
        outer, began = self.activity, time.monotonic()
        if outer is None:
            self.activity = Activity(doing, began)
        try:
            yield
        finally:
            if outer is None:
                self.last_duration = time.monotonic() - began
                self.activity = None

    @contextmanager
    def reading(self, subject: str) -> Iterator[Connection]:
        """Yield a connection to read ``subject``. Driver errors end the transaction and are raised as headrace's."""
        with self._active(f"reads {subject}"), self._reading(subject) as connection:
            yield connection

    @contextmanager
    def _reading(self, subject: str) -> Iterator[Connection]:
        connection = self.connection()
        try:
            yield connection
        except self._errors() as error:
            error_class = self._error_class(error)
            if error_class is ErrorClass.LOST and not connection.invalidated:
                self.dialect.abandon(connection)
                connection.invalidate()
            self.close_transaction()
            discreet = self._config.query_masked is not None
            grant = self._grant_statement(error, subject) if error_class is ErrorClass.FORBIDDEN else ""
            raise driver_errors.statement_error(
                error,
                error_class,
                self.url,
                subject,
                self._config_origin,
                discreet=discreet,
                grant=grant,
                column_keys=self._column_keys(),
            ) from error
        except BaseException:
            self.close_transaction()
            raise

    def _column_keys(self) -> list[str]:
        """Return the keys in which the user names columns, of those that the configuration uses."""
        config = self._config
        found = ["timestamp.column.name"] if "timestamp" in config.mode else []
        found += ["incrementing.column.name"] if "incrementing" in config.mode else []
        found += ["pk.fields"] if config.pk_fields else []
        if config.query or not found:
            found.append("query.masked" if config.query_masked else "query" if config.query else "table.whitelist")
        return found

    def _grant_statement(self, error: Exception, subject: str) -> str:
        """Return the GRANT statement that this session's user needs."""
        connection = self.connection()
        quote = connection.dialect.identifier_preparer.quote
        named = re.search(r"table (?:(.+)\.)?(.+)", subject)
        table = ".".join(map(quote, filter(None, named.groups()))) if named else "the tables of the query"
        grantee = self.url.username or "the user"
        with suppress(*self._errors()):
            grantee = self.dialect.grantee(connection)
        self.close_transaction()
        original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        return self.dialect.grant_statement(original, table, grantee)

    def _make_engine(self) -> Engine:
        level = self._config.isolation
        options: dict[str, Any] = dict(self.dialect.engine_options)
        if level != "DEFAULT":
            options["isolation_level"] = _ISOLATION.get(level, level.replace("_", " "))
        try:
            self._engine = create_engine(
                self.url,
                connect_args=self.dialect.driver_arguments(self.url, self._name),
                pool_size=1,
                max_overflow=0,
                pool_pre_ping=True,  # replaces a connection that died between two polls
                **options,
            )
        except (ImportError, NoSuchModuleError) as error:
            raise driver_errors.missing_driver_error(error, self.url, self._config_origin) from error
        # First, because SQLAlchemy queries a new connection, too, and fails where text has no encoding.
        event.listen(self._engine, "connect", lambda raw, _: self._prepare(raw), insert=True)
        return self._engine

    def _prepare(self, dbapi_connection: Any) -> None:
        self.dialect.prepare(
            dbapi_connection, read_only=self._config.read_only, timeout_ms=self._config.statement_timeout
        )

    def _errors(self) -> tuple[type[Exception], ...]:
        """Return the error types of the driver and of SQLAlchemy."""
        driver: type[Exception] | None = self._engine.dialect.loaded_dbapi.Error if self._engine is not None else None
        return (SQLAlchemyError, driver) if driver is not None else (SQLAlchemyError,)

    def _error_class(self, error: Exception) -> ErrorClass:
        if isinstance(error, DBAPIError):
            if error.connection_invalidated:
                return ErrorClass.LOST
            if not isinstance(error.orig, Exception):
                return ErrorClass.OTHER
            error = error.orig
        error_class = self.dialect.error_class(error)
        if error_class is ErrorClass.OTHER and self._engine is not None and self._running is not None:
            gone = self._engine.dialect.is_disconnect(error, self._running, None)  # type: ignore[arg-type]
            return ErrorClass.LOST if gone else ErrorClass.OTHER
        return error_class

    def _refused(self, error: HeadraceError) -> HeadraceError:
        """Apply connection.attempts and connection.backoff.ms to a failed attempt to connect."""
        self._failures += 1
        if not isinstance(error, RetriableError):
            return error
        if self._config.attempts is not None and self._failures >= self._config.attempts:
            hint = f"connection.attempts is {self._config.attempts} ({self._config_origin('connection.attempts')})"
            return InfrastructureError(error.message, code=error.code, hint=hint)
        if self._config.backoff is not None:
            error.delay = self._config.backoff / 1000
        return error


def _url(config: SqlSourceConfig) -> URL:
    password = config.password.get_secret_value() if config.password else None
    url, findings = connection_url(config.url, config.user, password, config.parameters)
    errors = [finding for finding in findings if finding.severity == "error"]
    if url is None or errors:
        raise ConfigError(findings=errors)
    return url
