"""PostgreSQL through psycopg 3: types by their OIDs, everything Connect cannot express as PostgreSQL's own text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import tzinfo
from functools import cache
from typing import Any, cast

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format
from psycopg.types.string import TextLoader
from sqlalchemy import URL, BigInteger, ColumnElement, Connection, Select, Text, TextClause, func, text
from sqlalchemy import cast as cast_to
from sqlalchemy.dialects.postgresql import BIT

from headrace import ConfigError, JsonForm, RetriableError
from headrace_sources.sql.configuration.syntax import find_zone
from headrace_sources.sql.dialects import postgres_explain, postgres_json
from headrace_sources.sql.dialects.dialect import (
    ANYONE,
    Dialect,
    ErrorClass,
    OpenTransaction,
    TableName,
    Unreadable,
    run_raw,
)
from headrace_sources.sql.dialects.read_ahead import ReadAhead
from headrace_sources.sql.rows.ledger_keys import HASH_DIGITS, SEPARATOR
from headrace_sources.sql.rows.row_schema import RowSchema
from headrace_sources.sql.rows.server_json import Piece, Query, ServerJson, Stream, plan
from headrace_sources.sql.rows.types import INTEGERS, Column, Kind, Normaliser, TypeMapping

# https://www.postgresql.org/docs/current/catalog-pg-type.html; OIDs of built-in types never change.
_KINDS: Mapping[int, Kind] = {
    16: Kind.BOOLEAN,
    17: Kind.BYTES,
    20: Kind.INT64,
    21: Kind.INT16,
    23: Kind.INT32,
    26: Kind.INT64,  # oid
    700: Kind.FLOAT32,
    701: Kind.FLOAT64,
    1082: Kind.DATE,
    1083: Kind.TIME,
    1114: Kind.LOCAL,
    1184: Kind.MOMENT,
    1700: Kind.DECIMAL,
}
_NUMERIC = 1700
# Settings of a role or database do not change what is read: times with a zone arrive in UTC, in the one format that
# psycopg reads without guessing, floats with all their digits. The server ends a transaction that is idle for five
# minutes (Kafka is unavailable, the task is paused), because an open one stops VACUUM; the task reads the page again.
_SESSION = """
    SET TIME ZONE 'UTC'; SET DateStyle TO ISO; SET IntervalStyle TO postgres; SET extra_float_digits TO 3;
    SET bytea_output TO hex; SET idle_in_transaction_session_timeout TO 300000
"""
_HASHED = INTEGERS | {Kind.TEXT, Kind.DATE, Kind.BYTES}
"""Of keys whose text is the same here and in Python."""
_LIMITED = frozenset({1082, 1083, 1114, 1184})  # PostgreSQL's range is wider than Python's

# Own questions to the catalog, not SQLAlchemy's: those answer in arrays, which arrive as text here.
_TABLE = "c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :name"
_REQUIRED = f"""
    SELECT a.attname FROM pg_attribute a
    WHERE a.attrelid = (SELECT c.oid FROM pg_class {_TABLE}) AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
"""
_PRIMARY_KEY = f"""
    SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = (SELECT c.oid FROM pg_class {_TABLE}) AND i.indisprimary
    ORDER BY array_position(i.indkey::int2[], a.attnum)
"""
# A partitioned table's key holds for all its partitions; a table's key does not hold for tables that inherit from it.
_INHERITING = f"""
    SELECT i.inhrelid::regclass::text FROM pg_inherits i
    WHERE i.inhparent = (SELECT c.oid FROM pg_class {_TABLE} AND c.relkind = 'r') ORDER BY 1
"""
_ROW_SECURITY = f"SELECT row_security_active(c.oid) FROM pg_class {_TABLE}"
_INDEX_HEADS = f"""
    SELECT pg_get_indexdef(i.indexrelid, 1, true) FROM pg_index i
    WHERE i.indrelid = (SELECT c.oid FROM pg_class {_TABLE}) AND i.indisvalid AND i.indpred IS NULL
"""
# Of a partitioned table the statistics of all its partitions together count.
_HISTOGRAM = """
    SELECT value FROM pg_stats, unnest(histogram_bounds::text::text[]) WITH ORDINALITY AS bounds (value, place)
    WHERE schemaname = :schema AND tablename = :name AND attname = :column AND inherited = (
        SELECT bool_or(inherited) FROM pg_stats
        WHERE schemaname = :schema AND tablename = :name AND attname = :column
    ) ORDER BY place
"""

_TABLES = r"""
    SELECT n.nspname, c.relname, CASE WHEN c.relispartition THEN 'PARTITION' ELSE CASE c.relkind
        WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'p' THEN 'PARTITIONED TABLE'
        WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND c.relpersistence <> 't'
        AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
"""

# An idle primary sends nothing to replay: a replica that has replayed everything it received is not behind.
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
_LAG = """
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END
"""


# Every transaction holds a lock on its virtual id from its start, also before its first write, and every user can see
# these locks. pg_stat_activity shows the start to users with pg_read_all_stats. It is queried *first*: the start of a
# process that begins its next transaction in between is then too early, which is harmless; too late would lose rows.
# In pg_locks a prepared transaction has no process; locks are listed before what they turn into.
# https://www.postgresql.org/docs/current/view-pg-locks.html
_OPEN = """
    SELECT pid, datname = current_database(), usename::text, application_name, xact_start,
        extract(epoch FROM clock_timestamp() - xact_start)::float8
    FROM pg_stat_activity WHERE pid <> pg_backend_pid();
    SELECT coalesce(virtualxid, 'xid ' || transactionid::text), pid, pg_is_in_recovery()
    FROM pg_locks WHERE granted AND (locktype = 'virtualxid' AND mode = 'ExclusiveLock' AND pid <> pg_backend_pid()
        OR locktype = 'transactionid' AND pid IS NULL)
    UNION ALL SELECT NULL, NULL, pg_is_in_recovery()
"""
_REPLICA = "it is a read replica, which does not know the transactions that are open on its primary"

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_STATES: Mapping[str, ErrorClass] = {
    "28P01": ErrorClass.AUTHENTICATION,
    "28000": ErrorClass.AUTHENTICATION,
    "3D000": ErrorClass.MISSING_DATABASE,
    "42P01": ErrorClass.MISSING_TABLE,
    "42703": ErrorClass.MISSING_COLUMN,
    "42501": ErrorClass.FORBIDDEN,
    "22021": ErrorClass.ENCODING,  # bytes that are not in the client's encoding
    "22P05": ErrorClass.ENCODING,  # a character that it lacks
    "55P03": ErrorClass.BUSY,  # a lock was not acquired in time
    "57014": ErrorClass.BUSY,  # cancelled, statement_timeout
    "25P03": ErrorClass.LOST,  # idle_in_transaction_session_timeout
    "25P04": ErrorClass.LOST,  # transaction_timeout
}
_CLASSES: Mapping[str, ErrorClass] = {
    "08": ErrorClass.LOST,
    "57": ErrorClass.LOST,  # shut down by an administrator, starting up
    "40": ErrorClass.BUSY,  # serialization failure, deadlock, conflict with recovery on a standby
    "53": ErrorClass.BUSY,  # too many connections, disk or memory full
}
# A failed connection carries no code, only libpq's text with the server's.
_CONNECTING = (
    (
        re.compile(r"password authentication failed|no password supplied|no pg_hba\.conf entry"),
        ErrorClass.AUTHENTICATION,
    ),
    (re.compile(r'role ".*" does not exist'), ErrorClass.AUTHENTICATION),
    (re.compile(r'database ".*" does not exist'), ErrorClass.MISSING_DATABASE),
)


_DIAGNOSIS_TIMEOUT = 2  # seconds; the user waits for the answer
# Who holds the lock that a process waits for; the one whose transaction began first.
# https://www.postgresql.org/docs/current/functions-info.html (pg_blocking_pids)
_WAITS_FOR = """
    SELECT mine.state, mine.wait_event_type, mine.wait_event, holder.pid, holder.usename::text, holder.application_name,
        extract(epoch FROM clock_timestamp() - holder.xact_start)::float8,
        left(regexp_replace(holder.query, '\\s+', ' ', 'g'), 120)
    FROM pg_stat_activity AS mine
    LEFT JOIN pg_stat_activity AS holder ON holder.pid = ANY(pg_blocking_pids(mine.pid))
    WHERE mine.pid = %s ORDER BY holder.xact_start LIMIT 1
"""


class _ServerCursor(psycopg.ServerCursor[Any]):
    def close(self) -> None:
        try:
            super().close()
        finally:
            # If the CLOSE failed (the connection broke, it was cancelled), the end of the transaction closes the
            # server's cursor.
            psycopg.Cursor.close(self)


class PostgreSql(Dialect):
    """PostgreSQL and what speaks its protocol."""

    compares_rows = True
    reads_in_parallel = True
    text_type = "text"
    session_statements = (_SESSION,)
    read_only_statement = "SET default_transaction_read_only TO on"
    timeout_statement = "SET statement_timeout TO {ms}"
    application_parameter = "application_name"
    user_statement = "SELECT quote_ident(current_user)"
    lag_statement = _LAG
    tables_statement = _TABLES
    primary_key_statement = _PRIMARY_KEY
    inheriting_statement = _INHERITING
    row_security_statement = _ROW_SECURITY
    index_template = "CREATE INDEX CONCURRENTLY {name} ON {table} ({expressions})"  # writers are not blocked
    engine_options: Mapping[str, Any] = {"use_native_hstore": False}  # it would arrive as a dictionary

    def __init__(self, zone: tzinfo, *, iso: bool, temporal: str = "fail") -> None:
        """``iso``: timestamps become ISO text in UTC, which is close to PostgreSQL's own text. ``temporal``: what to do
        with values that Python lacks, such as ``infinity``."""
        super().__init__(zone)
        self._kinds = dict(_KINDS)
        if temporal == "text" or (iso and temporal != "null"):
            self._kinds |= {1114: Kind.LOCAL_TEXT, 1184: Kind.MOMENT_TEXT}
        if temporal == "text":
            self._kinds |= {1082: Kind.TEXT, 1083: Kind.TEXT}
        self._as_null = temporal == "null"
        self._server_zone = "UTC"

    def connect_args(self, url: URL) -> dict[str, Any]:
        wanted: dict[str, Any] = {"context": _adapters()}
        if "connect_timeout" not in url.query:
            wanted["connect_timeout"] = 10  # seconds; a poll must not hang as long as TCP would
        return wanted

    def prepare(self, dbapi_connection: Any, *, read_only: bool = False, timeout_ms: int = 0) -> None:
        if dbapi_connection.info.encoding == "ascii":
            raise ConfigError(
                f"the database '{dbapi_connection.info.dbname}' stores text without an encoding (SQL_ASCII)",
                code="sql.encoding",
                hint="set connection.client_encoding to the encoding in which its text is written: UTF8, LATIN1, …",
            )
        self._server_zone = dbapi_connection.info.parameter_status("TimeZone") or "UTC"
        super().prepare(dbapi_connection, read_only=read_only, timeout_ms=timeout_ms)

    def cancel(self, dbapi_connection: Any) -> None:
        dbapi_connection.cancel_safe(timeout=5.0)

    def waits_for(self, dbapi_connection: Any, url: URL, *, discreet: bool = False) -> str | None:
        arguments, keywords = url.get_dialect()().create_connect_args(url)
        limits = {"connect_timeout": _DIAGNOSIS_TIMEOUT, "options": f"-c statement_timeout={_DIAGNOSIS_TIMEOUT}s"}
        with psycopg.connect(*arguments, **{**keywords, **limits}, autocommit=True) as other:
            found = other.execute(_WAITS_FOR, [dbapi_connection.info.backend_pid]).fetchone()
        if found is None:
            return "it has ended the connection"
        state, kind, event, holder, user, application, age, query = found
        if holder is None:
            if state != "active":
                return "it has sent its response, which has not arrived: the network may be slow"
            return f"it is executing the statement{f' (wait event {kind} {event})' if kind else ''}"
        opened = f", transaction open for {age:.0f} s" if age is not None else ""
        text = f"it waits for a lock that process {holder} (user {user}, application '{application}'{opened}) holds"
        statement = f"; last statement: {query}" if query and not discreet else ""
        return f"{text}{statement} → end that transaction, or run: SELECT pg_terminate_backend({holder})"

    def _cancel_quietly(self, raw: psycopg.Connection) -> None:
        with suppress(psycopg.Error):  # it has ended, or the connection broke
            self.cancel(raw)

    def error_class(self, error: Exception) -> ErrorClass:
        state = getattr(error, "sqlstate", None)
        if state:
            return _STATES.get(state) or _CLASSES.get(state[:2], ErrorClass.OTHER)
        found = next((error_class for pattern, error_class in _CONNECTING if pattern.search(str(error))), None)
        if found is not None:
            return found
        return (
            ErrorClass.LOST
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
            else ErrorClass.OTHER
        )

    def grant_statement(self, error: Exception, table: str, grantee: str) -> str:
        schema = re.match(r"permission denied for schema (\S+)", str(error))
        return (
            f"GRANT USAGE ON SCHEMA {schema[1]} TO {grantee}"
            if schema
            else super().grant_statement(error, table, grantee)
        )

    def hidden_transactions_reason(self, connection: Connection) -> str | None:
        return _REPLICA if connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one() else None

    def open_transactions(self, connection: Connection) -> Sequence[OpenTransaction]:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        with raw.cursor() as cursor:
            cursor.execute(_OPEN)  # two statements in one round trip
            processes = {row[0]: row[1:] for row in cursor.fetchall()}
            cursor.nextset()
            locks = cursor.fetchall()
        found = []
        for name, process, replica in locks:
            if replica:
                raise RetriableError(f"the database has changed: {_REPLICA}", code="sql.replica")
            if name is None:
                continue
            if process is None:
                found.append(OpenTransaction(name, f"the prepared transaction {name}", continues=ANYONE))
                continue
            here, user, application, began, age = processes.get(process, (None, None, "", None, None))
            if here is not False:  # None: a process that has just started
                who = f"process {process} (user {user}, application '{application}')"
                found.append(OpenTransaction(name, who, began, age))
        return found

    def warnings(self, connection: Connection) -> Sequence[str]:
        if find_zone(self._server_zone) == self.zone:
            return ()
        return (f"the server's time zone is {self._server_zone}, db.timezone is {self.zone}",)

    def stream(self, connection: Connection, query: Select[Any] | TextClause) -> Stream:
        return self._stream(connection, query)

    def _stream(self, connection: Connection, query: Query, wrap: Callable[[str], str] | None = None) -> Stream:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        cursor = _ServerCursor(raw, "headrace")
        for oid, kind in self._kinds.items():
            if oid in _LIMITED and kind in (Kind.LOCAL_TEXT, Kind.MOMENT_TEXT, Kind.TEXT):
                cursor.adapters.register_loader(oid, TextLoader)
            elif oid in _LIMITED and self._as_null:
                cursor.adapters.register_loader(oid, _null_loader(oid))
        stream = run_raw(connection, cursor, query, wrap)
        ahead = ReadAhead(stream.fetchmany, stream.close, lambda: self._cancel_quietly(raw))
        return Stream(cursor, ahead.fetchmany, ahead.close, ahead.prefetch_seconds)

    def key_hash(
        self, columns: Sequence[Column], expressions: Sequence[ColumnElement[Any]]
    ) -> ColumnElement[int] | None:
        if not {column.kind for column in columns} <= _HASHED:
            return None
        texts = [
            func.encode(expression, "hex") if column.kind is Kind.BYTES else cast_to(expression, Text)
            for column, expression in zip(columns, expressions, strict=True)
        ]
        digits = func.substr(func.md5(func.concat_ws(SEPARATOR, *texts)), 1, HASH_DIGITS)
        return cast_to(cast_to(func.concat("x", digits), BIT(4 * HASH_DIGITS)), BigInteger)

    def has_ties(self, connection: Connection) -> bool:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        return raw.info.server_version >= 130000

    def sort_hint(self, connection: Connection, query: Select[Any]) -> str | None:
        return postgres_explain.sort_hint(connection, query)

    def estimate(self, connection: Connection, table: TableName | None, query: Query) -> int | None:
        return postgres_explain.estimate(connection, query)

    def pages_by(self, columns: Sequence[Column]) -> bool:
        # A real does not equal the number that its text is parsed as.
        return not any(column.kind in (Kind.FLOAT32, Kind.FLOAT64) for column in columns)

    def histogram(self, connection: Connection, table: TableName, column: str) -> Sequence[str]:
        found = connection.execute(text(_HISTOGRAM), {**table._asdict(), "column": column})
        return [value for value in found.scalars() if value is not None]

    def index_heads(self, connection: Connection, table: TableName) -> list[str]:
        return list(connection.execute(text(_INDEX_HEADS), table._asdict()).scalars())

    def columns(self, connection: Connection, table: TableName | None, query: str, result: Any) -> tuple[Column, ...]:
        facts = [self._facts(result.pgresult, place) for place in range(len(result.description))]
        names = [column.name for column in result.description]
        required = set(connection.execute(text(_REQUIRED), table._asdict()).scalars()) if table else set()
        return tuple(
            Column(name, kind, name not in required, *digits)
            for name, (kind, *digits) in zip(names, facts, strict=True)
        )

    def _facts(self, answer: Any, place: int) -> tuple[Kind, int | None, int | None]:
        oid, modifier = answer.ftype(place), answer.fmod(place)
        kind = self._kinds.get(oid, Kind.TEXT)
        if modifier < 0:
            return kind, None, None
        if oid == _NUMERIC:
            # 16 bits precision, 11 bits scale with a sign, after 4 bytes of header (numeric.c).
            digits = modifier - 4
            return kind, digits >> 16 & 0xFFFF, ((digits & 0x7FF) ^ 1024) - 1024
        return (kind, modifier, None) if oid in (1114, 1184) else (kind, None, None)

    def signature(self, result: Any) -> object:
        answer = result.pgresult
        return tuple((answer.fname(i), answer.ftype(i), answer.fmod(i)) for i in range(answer.nfields))

    def normaliser(self, column: Column) -> Normaliser | None:
        return None  # psycopg's loaders are set up to return values of the kinds

    def server_json(
        self,
        connection: Connection,
        row_schema: RowSchema,
        signature: object,
        mapping: TypeMapping,
        form: JsonForm,
        wanted: Sequence[str],
        keys: Sequence[str],
    ) -> ServerJson | None:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        if raw.info.parameter_status("server_encoding") == "SQL_ASCII" or raw.info.encoding != "utf-8":
            return None  # a text may be anything there
        oids = [oid for _, oid, _ in cast("tuple[tuple[str, int, int], ...]", signature)]
        written = postgres_json.server_columns(row_schema.columns, oids, mapping, form, raw.info.server_version)
        quote = connection.dialect.identifier_preparer.quote_identifier

        def stream(connection: Connection, query: Query, names: Sequence[str], pieces: Sequence[Piece]) -> Stream:
            return self._stream(connection, query, lambda sql: postgres_json.wrap(names, pieces, sql, quote))

        return plan(row_schema, written, wanted, keys, form, stream)

    def unreadable(self, result: Any) -> Unreadable | None:
        """psycopg refuses a whole fetch for one value that it cannot load; the raw values are still there."""
        answer = result.pgresult
        if answer is None:
            return None
        encoding = result.connection.info.encoding
        for row in range(answer.ntuples):
            values = [answer.get_value(row, place) for place in range(answer.nfields)]
            for place, raw in enumerate(values):
                if reason := _unreadable(raw, answer.ftype(place), encoding):
                    texts = [None if value is None else value.decode(encoding, "backslashreplace") for value in values]
                    return Unreadable(place, texts, reason)
        return None


def _unreadable(raw: bytes | None, oid: int, encoding: str) -> str:
    """Return why psycopg cannot load a value; empty = it can."""
    if raw is None:
        return ""
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        return f"its bytes are not {encoding}: {error.reason} at byte {error.start}"
    if oid == 1083:
        return f"{text} is out of range" if text.startswith("24") else ""
    if oid in _LIMITED and (re.match(r"\d{4}-", text) is None or text.endswith("BC")):
        return f"{text} is out of range"
    return ""


@cache
def _null_loader(oid: int) -> type[Loader]:
    """Return psycopg's loader, except that a value out of Python's range is None."""
    found = psycopg.adapters.get_loader(oid, Format.TEXT)
    assert found is not None
    original: Callable[[int, Any], Any] = found

    class NullLoader(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._original = original(oid, context)

        def load(self, data: Buffer) -> Any:
            try:
                return self._original.load(data)
            except psycopg.DataError:
                return None

    return NullLoader


@cache
def _adapters() -> AdaptersMap:
    """Return psycopg's adapters, except that every type outside of the table above is loaded as text."""
    adapters = AdaptersMap(psycopg.adapters)
    for info in psycopg.adapters.types:
        for oid in (info.oid, info.array_oid):
            if oid and oid not in _KINDS:
                adapters.register_loader(oid, TextLoader)
    return adapters
