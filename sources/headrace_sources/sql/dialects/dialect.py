"""What holds for every database that SQLAlchemy knows; the place to look for what a kind of database may change."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
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
        """The fully qualified name, as it stands in source partitions."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


ANYONE = ("*",)
"""For :attr:`OpenTransaction.heir_of`: of whichever transaction has disappeared."""


class OpenTransaction(NamedTuple):
    """A transaction that has begun and not ended, of anybody but the one who asks.

    ``name`` is unique for its life. ``began``: it takes no timestamp earlier than this. None = nobody tells.
    ``line`` and ``heir_of``: see :class:`headrace_sources.sql.cursor.watermark.Transaction`.
    """

    name: str
    who: str
    """For people: ``process 4711 (user app, application 'batch')``."""
    began: datetime | None = None
    age: float | None = None
    """Seconds, by the database's clock."""
    line: str = ""
    heir_of: tuple[str, ...] = ()


class Listed(NamedTuple):
    """A table in the database's catalog."""

    table: TableName
    kind: str
    """``TABLE``, ``VIEW``, ``MATERIALIZED VIEW``, ``PARTITIONED TABLE``, ``PARTITION`` (of one), ``FOREIGN TABLE``."""


class ErrorClass(enum.Enum):
    """What an error of the driver means."""

    LOST = "the connection is gone"
    BUSY = "the same statement may succeed later"
    AUTHENTICATION = "user or password are wrong"
    MISSING_DATABASE = "there is no such database"
    MISSING_TABLE = "there is no such table"
    MISSING_COLUMN = "there is no such column"
    FORBIDDEN = "the user may not read this"
    OTHER = "somebody must change something"


class Database:
    """Facts of one kind of database. Methods that take a connection run one statement or two on it."""

    system_schemas: frozenset[str] = frozenset({"information_schema", "performance_schema", "mysql", "sys"})

    timestamps_by_value = False
    """Whether a cursor column may be of any type, because only its values tell whether they are timestamps."""

    catalog_is_schema = False
    """Whether what JDBC calls a catalog is what SQLAlchemy calls a schema."""

    catalog = ""
    """What JDBC calls the database, where the JVM's connector has it before the table in its positions."""

    commits_in_order = False
    """Whether writers are served one after the other, so that nothing commits behind what was read."""

    compares_rows = False
    """Whether an index on several columns finds what is behind ``(a, b) > (1, 2)``."""

    snapshot_ttl = 0.0
    """Seconds for which the tables of a task share what :meth:`open_transactions` said, where it is dear to ask."""

    asks_page_ends = False
    """Whether pages that end with all rows of a timestamp are made by asking for that timestamp first."""

    reads_in_parallel = False
    """Whether several connections read one table at a time without holding each other up."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        """Of timestamps that are stored without a zone."""

    @property
    def engine_options(self) -> Mapping[str, Any]:
        """Arguments for SQLAlchemy's engine."""
        return {}

    def connect_args(self, url: URL) -> dict[str, Any]:
        """Arguments for the driver. Raises InfrastructureError for what can be seen without connecting."""
        return {}

    def prepare(self, dbapi_connection: Any) -> None:
        """Settings of a new session."""

    def introduce(self, url: URL, name: str) -> dict[str, Any]:
        """Arguments for the driver by which the database's administrator sees who asks; the user's own choice wins."""
        return {}

    def restrain(self, dbapi_connection: Any, *, read_only: bool, timeout_ms: int) -> None:
        """Bound what a new session may do, where the database can. ``timeout_ms``: of a statement, 0 = none of ours."""

    def lag(self, connection: Connection) -> float | None:
        """Seconds that this replica is behind its primary; None when it is none, or does not tell."""
        return None

    def cancel(self, dbapi_connection: Any) -> None:
        """End the running statement; called on another thread. Without effect where drivers cannot do it."""

    def error_class(self, error: Exception) -> ErrorClass:
        """What a driver's error means; a lost connection is recognised by SQLAlchemy before this is asked."""
        return ErrorClass.OTHER

    def grantee(self, connection: Connection) -> str:
        """The session's user, as GRANT wants it written."""
        return str(connection.execute(text_of("SELECT CURRENT_USER")).scalar_one())

    def remedy(self, error: Exception, table: str, grantee: str) -> str:
        """The statement by which an administrator allows what the driver's ``error`` says is forbidden."""
        return f"GRANT SELECT ON {table} TO {grantee}"

    def now(self, connection: Connection) -> datetime:
        """The database's clock. Without a zone it is taken to be in ``db.timezone``."""
        value: datetime = connection.execute(select(func.current_timestamp())).scalar_one()
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=self.zone).astimezone(UTC)

    def blindness(self, connection: Connection) -> str | None:
        """Why this session cannot name all transactions that are open in the database; None = it can."""
        return f"headrace does not know how to ask a database of kind {connection.dialect.name} what is open"

    def open_transactions(self, connection: Connection) -> Sequence[OpenTransaction]:
        """All of them, this session's own excepted; only asked when there is no :meth:`blindness`.

        Complete means: what is not named and commits after this call began after it. Raises RetriableError.
        """
        raise NotImplementedError(self.blindness(connection))

    def warnings(self, connection: Connection) -> Sequence[str]:
        """What is unwise about the session's settings when a cursor column has no zone."""
        return ()

    def create_index(self, table: str, name: str, expressions: Sequence[str]) -> str:
        """The statement that makes an index; all names quoted."""
        return f"CREATE INDEX {name} ON {table} ({', '.join(expressions)})"

    def stream(self, connection: Connection, query: Query) -> Stream:
        """Run ``query`` so that its rows come as they are asked for, where the driver can do that."""
        result = connection.execution_options(stream_results=True).execute(query)
        return Stream(result.cursor, result.fetchmany, result.close)

    def row(self, connection: Connection, query: Query) -> Sequence[Any] | None:
        """The one row that ``query`` has at most, its values as :meth:`stream` gives them."""
        stream = self.stream(connection, query)
        try:
            found = stream.fetchmany(2)  # read to its end, or the connection would have to be given up
        finally:
            stream.close()
        return found[0] if found else None

    def abandon(self, connection: Connection) -> None:
        """Give up a result that is still being read, where ending the transaction would read it to its end."""

    def key_hash(
        self, columns: Sequence[Column], expressions: Sequence[ColumnElement[Any]]
    ) -> ColumnElement[int] | None:
        """What :func:`headrace_sources.sql.rows.ledger_keys.key_hash` makes of a key; None where the database cannot.

        A wrong one costs speed, nothing else: keys whose hashes differ are compared themselves.
        """
        return None

    def has_ties(self, connection: Connection) -> bool:
        """Whether ``FETCH FIRST … ROWS WITH TIES`` is known."""
        return False

    def pages_by(self, columns: Sequence[Column]) -> bool:
        """Whether a key of these columns gives pages: what the driver gave, given back, finds the rows behind it in the
        order in which the database sorts."""
        return False

    def histogram(self, connection: Connection, table: TableName, column: str) -> Sequence[str]:
        """Values that divide the column's into parts of about equal size, ascending, as text that is compared with it;
        empty when the database does not know."""
        return ()

    def estimate(self, connection: Connection, table: TableName | None, query: Query) -> int | None:
        """About how many rows ``query`` gives, told without running it; None when the database does not tell."""
        return None

    def sort_hint(self, connection: Connection, query: Select[Any]) -> str | None:
        """What to do so that ``query`` needs no sort; None when it needs none, or the database does not tell.

        The transaction is ended.
        """
        return None

    def roll_back(self, connection: Connection) -> None:
        """Leave a transaction in which a statement of the driver's has failed."""
        connection.rollback()
        connection.connection.rollback()

    def list_tables(self, connection: Connection, kinds: Collection[str]) -> list[Listed]:
        """Tables of these kinds (others may be among them) in all schemas but the database's own."""
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
        """Column names, in order; empty when there is none."""
        return tuple(inspect(connection).get_pk_constraint(table.name, table.schema)["constrained_columns"])

    def index_heads(self, connection: Connection, table: TableName) -> list[str]:
        """The first column or expression of each index, as SQL text; how it is quoted and spaced does not matter."""
        inspector = inspect(connection)
        heads = list(self.primary_key(connection, table)[:1])
        heads += [
            str(unique["column_names"][0]) for unique in inspector.get_unique_constraints(table.name, table.schema)
        ]
        for index in inspector.get_indexes(table.name, table.schema):
            heads.append(str((index.get("expressions") or index["column_names"])[0]))
        return heads

    def columns(self, connection: Connection, table: TableName | None, query: str, result: Any) -> tuple[Column, ...]:
        """Columns of ``result`` (the driver's cursor) in order, which reads all of ``table`` or, if None, ``query``."""
        names = [column[0] for column in result.description]
        if table is None:
            return tuple(Column(name, Kind.UNKNOWN) for name in names)
        known = {
            item["name"]: column_of(item["name"], item["type"], bool(item.get("nullable", True)))
            for item in inspect(connection).get_columns(table.name, table.schema)
        }
        return tuple(known.get(name, Column(name, Kind.UNKNOWN)) for name in names)

    def signature(self, result: Any) -> object:
        """Equal as long as a result's columns are the same."""
        return tuple(column[0] for column in result.description)

    def normaliser(self, column: Column) -> Normaliser | None:
        """From the driver's values to what the column's kind promises; None when they are the same."""
        return decimals(column.scale) if column.kind is Kind.DECIMAL else _NORMALISERS.get(column.kind)

    def codec(
        self,
        connection: Connection,
        relation: FromClause,
        expression: ColumnElement[Any],
        columns: Sequence[Column],
    ) -> TimestampCodec | None:
        """For the cursor ``expression`` over ``columns``; None while there is nothing to tell it by, hence no row."""
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

    def unreadable(self, result: Any) -> tuple[int, list[str | None]] | None:
        """Place in its row of a value that the driver failed to read, and the row as text; None = it does not tell."""
        return None


def run_raw(connection: Connection, cursor: Any, query: Query, wrap: Callable[[str], str] | None = None) -> Stream:
    """Run ``query`` on a cursor of the driver's: no SQLAlchemy rows are made, which take most of a fetch's time.

    ``wrap`` makes the final statement out of the compiled one.
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
    """A column by its SQLAlchemy type."""
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
    """Any number to a Decimal, with exactly ``scale`` digits after the point where that is known."""
    quantum = None if scale is None else Decimal(1).scaleb(-scale)

    def convert(value: Any) -> Decimal:
        number = Decimal(repr(value) if isinstance(value, float) else value)
        return number if quantum is None or not number.is_finite() else number.quantize(quantum, context=WIDE)

    return convert


def text(value: object) -> str:
    """Whatever a driver gives, as text; structures as JSON."""
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
