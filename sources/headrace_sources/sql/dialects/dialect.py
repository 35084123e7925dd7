"""The dialect of any database that SQLAlchemy knows: facts as class attributes, overridden for each database."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import URL, ColumnElement, Connection, FromClause, Select, func, inspect, select, types
from sqlalchemy import text as text_of

from headrace import JsonForm
from headrace_sources.sql.rows.row_schema import RowSchema
from headrace_sources.sql.rows.server_json import Query, ServerJson, Stream
from headrace_sources.sql.rows.timestamps import LocalCodec, MomentCodec, TimestampCodec, resolution_of
from headrace_sources.sql.rows.types import LOCALS, WIDE, Column, Kind, Normaliser, TypeMapping


class TableName(NamedTuple):
    """``schema`` is None in databases without schemas."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        """Return the qualified name, as in source partitions."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


ANYONE = ("*",)
"""For :attr:`OpenTransaction.continues`: of any transaction that has disappeared."""


class OpenTransaction(NamedTuple):
    """A transaction of another session that has begun and not ended.

    ``name`` is unique while it is open. ``began``: it takes no timestamp earlier than this; None = unknown.
    ``lineage`` and ``continues``: see :class:`headrace_sources.sql.cursor.watermark.Transaction`.
    """

    name: str
    who: str
    """For messages: ``process 4711 (user app, application 'batch')``."""
    began: datetime | None = None
    age: float | None = None
    """Seconds, by the database's clock."""
    lineage: str = ""
    continues: tuple[str, ...] = ()


class Listed(NamedTuple):
    """A table in the database's catalog."""

    table: TableName
    kind: str
    """``TABLE``, ``VIEW``, ``MATERIALIZED VIEW``, ``PARTITIONED TABLE``, ``PARTITION`` (of one), ``FOREIGN TABLE``."""


class ErrorClass(enum.Enum):
    """What a driver's error means; the value describes it."""

    LOST = "the connection is lost"
    BUSY = "the same statement may succeed later"
    AUTHENTICATION = "user or password is wrong"
    MISSING_DATABASE = "there is no such database"
    MISSING_TABLE = "there is no such table"
    MISSING_COLUMN = "there is no such column"
    FORBIDDEN = "the user may not read this"
    ENCODING = "a text is not in the encoding of the connection"
    OTHER = "any other error"


class Unreadable(NamedTuple):
    """A value that the driver cannot load."""

    column: int
    row: Sequence[str | None]
    """As text."""
    reason: str


class Dialect:
    """What differs between databases. Methods that take a connection run one or two statements on it."""

    system_schemas: frozenset[str] = frozenset({"information_schema", "performance_schema", "mysql", "sys"})

    catalog = ""
    """What JDBC calls the database, where the JVM's connector writes it before the table in its offsets."""

    catalog_is_schema = False
    """Whether what JDBC calls a catalog is what SQLAlchemy calls a schema."""

    timestamps_by_value = False
    """Whether a cursor column may have any type, because only its values show whether they are timestamps."""

    commits_in_order = False
    """Whether writers run one after the other, so that no row commits behind rows that were read."""

    compares_rows = False
    """Whether an index on several columns is used for ``(a, b) > (1, 2)``."""

    snapshot_ttl = 0.0
    """Seconds for which the tables of a task share the result of :meth:`open_transactions`, where it is expensive."""

    asks_page_ends = False
    """Whether pages that end with all rows of a timestamp are made by querying for that timestamp first."""

    reads_in_parallel = False
    """Whether several connections can read one table at a time without blocking each other."""

    text_type = "VARCHAR(4000)"
    """The type in ``CAST(column AS …)`` that turns a value into text."""

    session_statements: Sequence[str] = ()
    """Run on each new connection."""

    read_only_statement = ""
    """Declares the session's transactions read-only; empty = the database has no such statement."""

    timeout_statement = ""
    """Limits the session's statements to ``{ms}`` milliseconds; empty = the database has no such statement."""

    application_parameter = ""
    """The driver's parameter for the name that administrators see; empty = the driver has none."""

    cancel_method = ""
    """Of the driver's connection: cancels the running statement from another thread; empty = the driver has none."""

    user_statement = "SELECT CURRENT_USER"
    """Returns the session's user as GRANT expects it."""

    clock_statement = ""
    """Returns the time in UTC; empty = CURRENT_TIMESTAMP is read, which is in ``db.timezone`` unless it has a zone."""

    lag_statement = ""
    """Returns the seconds by which a replica is behind, NULL on a primary; empty = unknown."""

    tables_statement = ""
    """Returns schema, name and kind of each table; empty = SQLAlchemy's inspector is used."""

    primary_key_statement = ""
    """Returns the columns of the primary key of ``:schema.:name``; empty = SQLAlchemy's inspector is used."""

    inheriting_statement = ""
    """Returns the tables that inherit from ``:schema.:name``; empty = the database has no inheritance."""

    row_security_statement = ""
    """Returns whether policies hide rows of ``:schema.:name`` from the user; empty = the database has none."""

    index_template = "CREATE INDEX {name} ON {table} ({expressions})"

    engine_options: Mapping[str, Any] = {}
    """Arguments for SQLAlchemy's engine."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        """Of timestamps that are stored without a zone."""

    def connect_args(self, url: URL) -> dict[str, Any]:
        """Return arguments for the driver. Raise InfrastructureError if it is clear that connecting will fail."""
        return {}

    def driver_arguments(self, url: URL, application: str) -> dict[str, Any]:
        """Return :meth:`connect_args` and the application's name, unless the user has set one in ``url``."""
        parameter = self.application_parameter
        named = {parameter: application} if parameter and parameter not in url.query else {}
        return {**self.connect_args(url), **named}

    def prepare(self, dbapi_connection: Any, *, read_only: bool = False, timeout_ms: int = 0) -> None:
        """Set up a new session. ``timeout_ms``: limit of a statement, 0 = the database's own."""
        statements = [*self.session_statements]
        if read_only and self.read_only_statement:
            statements.append(self.read_only_statement)
        if timeout_ms and self.timeout_statement:
            statements.append(self.timeout_statement.format(ms=timeout_ms))
        if statements:
            with closing(dbapi_connection.cursor()) as cursor:
                for statement in statements:
                    cursor.execute(statement)
            dbapi_connection.commit()

    def lag(self, connection: Connection) -> float | None:
        """Return the seconds by which this replica is behind its primary; None if it is no replica, or unknown."""
        found = connection.execute(text_of(self.lag_statement)).scalar_one() if self.lag_statement else None
        return None if found is None else float(found)

    def cancel(self, dbapi_connection: Any) -> None:
        """Cancel the running statement, where the driver can; called on another thread."""
        if self.cancel_method:
            getattr(dbapi_connection, self.cancel_method)()

    def waits_for(self, dbapi_connection: Any, url: URL, *, discreet: bool = False) -> str | None:
        """Return what the running statement of a connection waits for, asked on a connection of its own; None =
        unknown. ``discreet``: without texts of statements. Called on another thread; raises the driver's errors."""
        return None

    def error_class(self, error: Exception) -> ErrorClass:
        """Return what a driver's error means. SQLAlchemy has recognised lost connections before."""
        return ErrorClass.OTHER

    def grantee(self, connection: Connection) -> str:
        """Return the session's user as GRANT expects it."""
        return str(connection.execute(text_of(self.user_statement)).scalar_one())

    def grant_statement(self, error: Exception, table: str, grantee: str) -> str:
        """Return the statement that grants what the driver's ``error`` says is forbidden."""
        return f"GRANT SELECT ON {table} TO {grantee}"

    def now(self, connection: Connection) -> datetime:
        """Return the database's time, in UTC."""
        query = text_of(self.clock_statement) if self.clock_statement else select(func.current_timestamp())
        found = connection.execute(query).scalar_one()
        value: datetime = datetime.fromisoformat(found) if isinstance(found, str) else found
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC if self.clock_statement else self.zone)
        return value.astimezone(UTC)

    def hidden_transactions_reason(self, connection: Connection) -> str | None:
        """Return why this session cannot list all open transactions of the database; None = it can."""
        return f"headrace does not know how to list open transactions of {connection.dialect.name}"

    def open_transactions(self, connection: Connection) -> Sequence[OpenTransaction]:
        """Return all open transactions but this session's own, if :meth:`hidden_transactions_reason` returns None.

        A transaction that is not in the result and commits after this call has begun after it. Raise RetriableError.
        """
        raise NotImplementedError(self.hidden_transactions_reason(connection))

    def warnings(self, connection: Connection) -> Sequence[str]:
        """Return warnings about the session's settings for a cursor column without a zone."""
        return ()

    def create_index(self, table: str, name: str, expressions: Sequence[str]) -> str:
        """Return the statement that creates an index; all names are quoted."""
        return self.index_template.format(name=name, table=table, expressions=", ".join(expressions))

    def stream(self, connection: Connection, query: Query) -> Stream:
        """Run ``query`` and stream its rows, where the driver can."""
        result = connection.execution_options(stream_results=True).execute(query)
        return Stream(result.cursor, result.fetchmany, result.close)

    def row(self, connection: Connection, query: Query) -> Sequence[Any] | None:
        """Return the row of a ``query`` that has at most one, its values as :meth:`stream` returns them."""
        stream = self.stream(connection, query)
        try:
            found = stream.fetchmany(2)  # to the result's end, or the connection would have to be discarded
        finally:
            stream.close()
        return found[0] if found else None

    def abandon(self, connection: Connection) -> None:
        """Discard an unread result, where ending the transaction would read it to its end."""

    def key_hash(
        self, columns: Sequence[Column], expressions: Sequence[ColumnElement[Any]]
    ) -> ColumnElement[int] | None:
        """Return :func:`headrace_sources.sql.rows.ledger_keys.key_hash` as SQL; None where the database cannot.

        A wrong hash costs speed only: keys whose hashes differ are compared by value.
        """
        return None

    def has_ties(self, connection: Connection) -> bool:
        """Return whether the server knows ``FETCH FIRST … ROWS WITH TIES``."""
        return False

    def pages_by(self, columns: Sequence[Column]) -> bool:
        """Return whether tables can be paged by a key of these columns.

        A key that the driver returned, sent back, must find the rows behind it in the database's sort order.
        """
        return False

    def histogram(self, connection: Connection, table: TableName, column: str) -> Sequence[str]:
        """Return values that divide the column into parts of about equal size, ascending, as text; empty = unknown."""
        return ()

    def estimate(self, connection: Connection, table: TableName | None, query: Query) -> int | None:
        """Return the planner's estimate of the rows of ``query``; None = the database has none."""
        return None

    def sort_hint(self, connection: Connection, query: Select[Any]) -> str | None:
        """Return what to do so that ``query`` needs no sort; None = it needs none, or unknown. Ends the transaction."""
        return None

    def roll_back(self, connection: Connection) -> None:
        """Roll back a transaction in which a statement of the driver has failed."""
        connection.rollback()
        connection.connection.rollback()

    def list_tables(self, connection: Connection, kinds: Collection[str]) -> list[Listed]:
        """Return tables of these kinds, and perhaps of others, in all schemas but the system's."""
        if self.tables_statement:
            rows = connection.execute(text_of(self.tables_statement))
            return [Listed(TableName(schema, name), kind) for schema, name, kind in rows]
        inspector = inspect(connection)
        found: list[Listed] = []
        for schema in inspector.get_schema_names():
            if schema in self.system_schemas:
                continue
            if "TABLE" in kinds:
                found += [Listed(TableName(schema, name), "TABLE") for name in inspector.get_table_names(schema)]
            if "VIEW" in kinds:
                found += [Listed(TableName(schema, name), "VIEW") for name in inspector.get_view_names(schema)]
        return found

    def primary_key(self, connection: Connection, table: TableName) -> tuple[str, ...]:
        """Return the column names in order; empty = the table has no primary key."""
        if self.primary_key_statement:
            return tuple(connection.execute(text_of(self.primary_key_statement), table._asdict()).scalars())
        return tuple(inspect(connection).get_pk_constraint(table.name, table.schema)["constrained_columns"])

    def inheriting(self, connection: Connection, table: TableName) -> tuple[str, ...]:
        """Return the tables whose rows are read with those of ``table``, although its primary key ignores them."""
        if not self.inheriting_statement:
            return ()
        return tuple(connection.execute(text_of(self.inheriting_statement), table._asdict()).scalars())

    def hides_rows(self, connection: Connection, table: TableName) -> bool:
        """Return whether policies decide which rows of ``table`` the user sees."""
        statement = self.row_security_statement
        return bool(statement and connection.execute(text_of(statement), table._asdict()).scalar())

    def index_heads(self, connection: Connection, table: TableName) -> list[str]:
        """Return the first column or expression of each index as SQL text, quoted and spaced in any way."""
        inspector = inspect(connection)
        heads = list(self.primary_key(connection, table)[:1])
        heads += [
            str(unique["column_names"][0]) for unique in inspector.get_unique_constraints(table.name, table.schema)
        ]
        for index in inspector.get_indexes(table.name, table.schema):
            heads.append(str((index.get("expressions") or index["column_names"])[0]))
        return heads

    def columns(self, connection: Connection, table: TableName | None, query: str, result: Any) -> tuple[Column, ...]:
        """Return the columns of ``result``, the driver's cursor over all of ``table`` or, if None, ``query``."""
        names = [column[0] for column in result.description]
        if table is None:
            return tuple(Column(name, Kind.UNKNOWN) for name in names)
        known = {
            item["name"]: column_of(item["name"], item["type"], bool(item.get("nullable", True)))
            for item in inspect(connection).get_columns(table.name, table.schema)
        }
        return tuple(known.get(name, Column(name, Kind.UNKNOWN)) for name in names)

    def signature(self, result: Any) -> object:
        """Return a value that is equal as long as a result's columns are the same."""
        return tuple(column[0] for column in result.description)

    def normaliser(self, column: Column) -> Normaliser | None:
        """Return the function from driver values to values of the column's kind; None = they are the same."""
        return decimals(column.scale) if column.kind is Kind.DECIMAL else _NORMALISERS.get(column.kind)

    def codec(
        self,
        connection: Connection,
        relation: FromClause,
        expression: ColumnElement[Any],
        columns: Sequence[Column],
    ) -> TimestampCodec | None:
        """Return the codec of the cursor ``expression`` over ``columns``; None = no value to decide it by."""
        resolution = max((resolution_of(column.precision) for column in columns), default=timedelta(microseconds=1))
        if not any(column.kind in LOCALS for column in columns):
            return MomentCodec(resolution)
        return LocalCodec(self.zone, resolution)

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
        """Return the fast path for ``row_schema``, see :mod:`headrace_sources.sql.rows.server_json`; None = none.

        ``signature`` is that of the plain path's result.
        """
        return None

    def unreadable(self, result: Any) -> Unreadable | None:
        """Return the value that the driver failed to read; None = unknown."""
        return None


def run_raw(connection: Connection, cursor: Any, query: Query, wrap: Callable[[str], str] | None = None) -> Stream:
    """Run ``query`` on a cursor of the driver, without SQLAlchemy's rows, which take most of a fetch's time.

    ``wrap`` turns the compiled statement into the one that runs.
    """
    compiled = query.compile(dialect=connection.dialect)
    parameters: Any = compiled.params
    if compiled.positional:
        parameters = [compiled.params[name] for name in compiled.positiontup or ()]
    with ExitStack() as failed:
        failed.callback(cursor.close)
        cursor.execute(wrap(compiled.string) if wrap else compiled.string, parameters)
        failed.pop_all()
    return Stream(cursor, cursor.fetchmany, cursor.close)


def column_of(name: str, type_: types.TypeEngine[Any], nullable: bool) -> Column:
    """Return a column by its SQLAlchemy type."""
    if isinstance(type_, types.Numeric) and not isinstance(type_, types.Float):
        return Column(name, Kind.DECIMAL, nullable, type_.precision, type_.scale if type_.scale is not None else None)
    if isinstance(type_, types.DateTime):
        # MySQL's DATETIME has whole seconds unless it says otherwise (fsp).
        digits = (getattr(type_, "fsp", None) or 0) if hasattr(type_, "fsp") else None
        return Column(name, Kind.MOMENT if type_.timezone else Kind.LOCAL, nullable, digits)
    return Column(name, next((kind for cls, kind in _KINDS if isinstance(type_, cls)), Kind.TEXT), nullable)


_KINDS: Sequence[tuple[type[types.TypeEngine[Any]], Kind]] = (
    (types.Boolean, Kind.BOOLEAN),
    (types.SmallInteger, Kind.INT16),
    (types.BigInteger, Kind.INT64),
    (types.Integer, Kind.INT32),
    (types.REAL, Kind.FLOAT32),
    (types.Float, Kind.FLOAT64),
    (types.Date, Kind.DATE),
    (types.Time, Kind.TIME),
    (types.LargeBinary, Kind.BYTES),
    (types.BINARY, Kind.BYTES),
    (types.VARBINARY, Kind.BYTES),
    (types.NullType, Kind.UNKNOWN),
)


def decimals(scale: int | None) -> Normaliser:
    """Return a function from numbers to Decimals, with ``scale`` digits after the point if it is known."""
    quantum = None if scale is None else Decimal(1).scaleb(-scale)

    def convert(value: Any) -> Decimal:
        number = Decimal(repr(value) if isinstance(value, float) else value)
        return number if quantum is None or not number.is_finite() else number.quantize(quantum, context=WIDE)

    return convert


def text(value: object) -> str:
    """Return a driver's value as text, structures as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


_NORMALISERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: bool,
    Kind.FLOAT32: float,
    Kind.FLOAT64: float,
    Kind.BYTES: bytes,
    Kind.TEXT: text,
}
