"""The configuration of the SQL source: the JDBC source connector's keys, and two of ours for record keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import TypeAdapter, ValidationError

from headrace import LOWER, UPPER, CommaList, ConfigModel, Duration, Finding, Secret, family, key
from headrace_sources.sql.urls import connection_url
from headrace_sources.sql.zones import find_zone, nearest_zones

Mode = Annotated[Literal["bulk", "incrementing", "timestamp", "timestamp+incrementing"], LOWER]
NumericMapping = Annotated[Literal["none", "precision_only", "best_fit", "best_fit_eager_double"], LOWER]
Granularity = Annotated[
    Literal[
        "connect_logical",
        "micros_long",
        "micros_string",
        "micros_iso_datetime_string",
        "nanos_long",
        "nanos_string",
        "nanos_iso_datetime_string",
    ],
    LOWER,
]
Isolation = Annotated[
    Literal["DEFAULT", "READ_UNCOMMITTED", "READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE", "SQL_SERVER_SNAPSHOT"],
    UPPER,
]

_DATABASE, _MODE, _RECORDS, _POLLING = "Database", "Mode", "Records", "Polling"
_DURATION: TypeAdapter[int] = TypeAdapter(Duration)
_TOPIC = re.compile(r"[a-zA-Z0-9._-]*")

# Keys of the JVM's connector whose effect cannot be left out without harm: what to write instead.
_INSTEAD = {
    "table.include.list": "name the tables in table.whitelist",
    "table.exclude.list": "name the tables to leave out in table.blacklist",
    "timestamp.columns.mapping": "use timestamp.column.name; make a connector for each group that differs",
    "incrementing.column.mapping": "use incrementing.column.name; make a connector for each group that differs",
    "query.masked": "use query, with a placeholder such as ${env:NAME} for what must not be seen",
    "incrementing.initial": "leave it out: the first read begins with the smallest value, negative ones included",
    "jdbc.credentials.provider.class": "use connection.user and connection.password with placeholders: ${env:NAME}",
}


class SqlSourceConfig(ConfigModel):
    """Keys of the SQL source connector."""

    url: str = key(
        "connection.url",
        doc="Where the database is: an SQLAlchemy URL (`postgresql+psycopg://user:password@host:5432/database`, "
        "`sqlite:////path/to/file.db`) or a JDBC URL of PostgreSQL or SQLite (`jdbc:postgresql://host:5432/database`, "
        "`jdbc:sqlite:/path/to/file.db`). PostgreSQL and SQLite are tested; others need their SQLAlchemy driver.",
        importance="high",
        group=_DATABASE,
        repr=False,  # it may hold a password
    )
    user: str | None = key(
        "connection.user",
        default=None,
        doc="Database user; wins over one in the URL.",
        importance="high",
        group=_DATABASE,
    )
    password: Secret | None = key(
        "connection.password",
        default=None,
        doc="Password; wins over one in the URL. Best written as a placeholder: `${env:DATABASE_PASSWORD}`.",
        importance="high",
        group=_DATABASE,
    )
    attempts: int | None = key(
        "connection.attempts",
        default=None,
        ge=1,
        doc="Tries in a row to connect before the task fails. Not given = for ever, with the reason shown in the "
        "task's status (Kafka Connect's JDBC source: 3).",
        importance="low",
        group=_DATABASE,
    )
    backoff: Duration | None = key(
        "connection.backoff.ms",
        default=None,
        ge=0,
        doc="Wait between two tries to connect. Not given = a growing wait of 0.1 to 30 seconds "
        "(Kafka Connect's JDBC source: 10000).",
        importance="low",
        group=_DATABASE,
    )
    parameters: dict[str, str] = family(
        "connection.",
        doc="Every other key with this prefix is passed to the database driver without it, like parameters in the "
        "URL: `connection.sslmode: require`, `connection.connect_timeout: 5`.",
        group=_DATABASE,
    )
    isolation: Isolation = key(
        "transaction.isolation.mode",
        default="DEFAULT",
        doc="Isolation level of the reading transactions; `DEFAULT` = the database's.",
        importance="low",
        group=_DATABASE,
    )
    quoting: Annotated[Literal["always", "never"], LOWER] = key(
        "quote.sql.identifiers",
        default="always",
        doc="Whether names of tables and columns are quoted in statements. With `never` the database folds them to its "
        "own case, and `table.whitelist` is compared without regard to case.",
        group=_DATABASE,
    )

    whitelist: CommaList = key(
        "table.whitelist",
        default="",
        doc="Tables to read: bare names (`offers`) or with the schema (`public.offers`), exact.",
        importance="high",
        group=_DATABASE,
    )
    blacklist: CommaList = key(
        "table.blacklist",
        default="",
        doc="Read every table but these. Together with `table.whitelist`: refused.",
        group=_DATABASE,
    )
    schema_pattern: str | None = key(
        "schema.pattern",
        default=None,
        doc="Consider only tables of schemas that match this SQL LIKE pattern (`%` any text, `_` any character). "
        "Not given = all schemas but the database's own.",
        group=_DATABASE,
    )
    table_types: CommaList = key(
        "table.types",
        default="TABLE",
        doc="Kinds of tables to consider: `TABLE`, `VIEW`, `MATERIALIZED VIEW`, `PARTITIONED TABLE` "
        "(a partitioned table is always considered as a `TABLE`, too).",
        importance="low",
        group=_DATABASE,
    )

    mode: Mode = key(
        "mode",
        doc="How new rows are found. `bulk`: the whole table each time. `incrementing`: rows whose id is greater than "
        "the last one; updates are not seen. `timestamp`: rows whose timestamp is later than the last one; new and "
        "changed rows. `timestamp+incrementing`: both, the surest: the id orders rows of equal timestamp.",
        importance="high",
        group=_MODE,
    )
    incrementing: str = key(
        "incrementing.column.name",
        default="",
        doc="Column whose value grows with each new row and is never NULL. Empty = the table's primary key when that "
        "is one integer column.",
        group=_MODE,
    )
    timestamps: CommaList = key(
        "timestamp.column.name",
        default="",
        doc="Column that every insert and update sets to the present time. Several: the first that is not NULL "
        "counts (COALESCE), which needs an index on just that expression.",
        group=_MODE,
    )
    timestamp_initial: int | None = key(
        "timestamp.initial",
        default=None,
        ge=-1,
        doc="Where to begin when no offset is stored: later than this moment (epoch milliseconds); -1 = now, by the "
        "database's clock. Not given = the first row. Without effect once an offset is stored.",
        importance="low",
        group=_MODE,
    )
    timestamp_delay: Duration = key(
        "timestamp.delay.interval.ms",
        default=0,
        ge=0,
        doc="Rows younger than this, by the database's clock, are left for a later poll. A transaction that takes its "
        "timestamp early and commits late is otherwise passed over: make it longer than your longest writing "
        "transaction.",
        importance="high",
        group=_MODE,
    )
    validate_non_null: bool = key(
        "validate.non.null",
        default=True,
        doc="Refuse an incrementing column, or timestamp columns all of which, can be NULL: rows where the cursor is "
        "NULL are never read. `false` = accept it; a warning is logged when there are such rows.",
        importance="low",
        group=_MODE,
    )
    query: str = key(
        "query",
        default="",
        doc="Read this SELECT instead of tables. With a mode other than `bulk` it is wrapped, "
        "`SELECT * FROM (query) WHERE …`, so it may have joins and a WHERE of its own, and the cursor columns must be "
        "columns of its result. Do not use LIMIT in it: rows would be lost.",
        group=_MODE,
    )
    query_suffix: str = key(
        "query.suffix",
        default="",
        doc="Text to append to every generated statement (`FOR READ ONLY`). Do not use LIMIT: rows would be lost.",
        importance="low",
        group=_MODE,
    )

    topic_prefix: str = key(
        "topic.prefix",
        default="",
        doc="Topic = this prefix + the bare table name. With `query`: the whole topic name.",
        importance="high",
        group=_RECORDS,
    )
    pk_mode: Annotated[Literal["none", "primary_key", "fields"], LOWER] = key(
        "pk.mode",
        default="none",
        doc="The records' key (headrace's own; the JDBC source writes none). `none`: no key. `primary_key`: the "
        "table's primary key. `fields`: the columns in `pk.fields`. One column: its value is the key; several: a "
        "struct of them. Rows of one key stay in order in one Kafka partition.",
        importance="high",
        group=_RECORDS,
    )
    pk_fields: CommaList = key(
        "pk.fields",
        default="",
        doc="Columns of the key with `pk.mode=fields` (headrace's own); needed with `query`.",
        group=_RECORDS,
    )
    numeric_mapping: NumericMapping | None = key(
        "numeric.mapping",
        default=None,
        doc="How NUMERIC and DECIMAL columns of known precision arrive. `none`: Decimal. `precision_only`: an integer "
        "when there are no decimals and at most 18 digits, else Decimal. `best_fit`: also FLOAT64 with decimals and "
        "at most 18 digits. `best_fit_eager_double`: FLOAT64 with decimals whatever the digits. Columns without "
        "declared precision have no fixed scale, which Decimal needs: they arrive as exact text, or as FLOAT64 with "
        "one of the best fits. Not given = `none`.",
        group=_RECORDS,
    )
    numeric_precision_mapping: bool = key(
        "numeric.precision.mapping",
        default=False,
        doc="Old name: `true` means `numeric.mapping=precision_only` when that is not given.",
        importance="low",
        group=_RECORDS,
    )
    granularity: Granularity = key(
        "timestamp.granularity",
        default="connect_logical",
        doc="How timestamps arrive, cursor columns included. `connect_logical`: Connect's Timestamp, milliseconds. "
        "`micros_long`, `nanos_long`: INT64 since the epoch. `micros_string`, `nanos_string`: the same number as text. "
        "`micros_iso_datetime_string`, `nanos_iso_datetime_string`: `2024-05-01T12:00:00.123456`, in `db.timezone`, "
        "without a zone.",
        group=_RECORDS,
    )
    timezone: str = key(
        "db.timezone",
        default="UTC",
        doc="Zone of timestamps that the database stores without one, and of timestamps that are written as ISO text.",
        group=_RECORDS,
    )

    poll_interval: str = key(
        "poll.interval.ms",
        default="5000",
        doc="Pause between two polls of a table, from the end of one to the start of the next: milliseconds, `30s`, "
        "`5m`; or a cron expression of five fields, in UTC: `0 3 * * *`.",
        importance="high",
        group=_POLLING,
    )
    batch_rows: int = key(
        "batch.max.rows",
        default=1000,
        ge=1,
        doc="Most rows of a batch, and how many are fetched from the database at a time. A result is streamed; about "
        "this many rows of it are in memory.",
        importance="low",
        group=_POLLING,
    )
    tables: str | None = key(
        "tables",
        default=None,
        doc="Internal: the tables of one task, which the connector writes into the tasks' configurations.",
        importance="low",
        group=_POLLING,
    )

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "catalog.pattern": "the database is the one in connection.url",
        "dialect.name": "the kind of database follows from connection.url",
        "table.poll.interval.ms": "tables are listed when the connector starts; restart it to read new ones",
        "table.monitoring.startup.polling.limit.ms": "tables are listed when the connector starts",
        "max.buffer.size": "no rows are buffered beyond a batch; source.buffer.bytes of the worker bounds what is sent",
        "poll.linger.ms": "a poll returns what is there",
        "query.retry.attempts": "what may heal is tried again for ever, shown in the status; the rest fails at once",
        "date.calendar.system": "dates are always proleptic Gregorian",
        "tables.fetched": "it is internal to Kafka Connect's JDBC source",
    }

    @classmethod
    def validate_properties(cls, properties: Mapping[str, str]) -> tuple[Self | None, list[Finding]]:
        """As every model; what the JVM's connector knows and this one does not gets a hint what to write instead."""
        model, findings = super().validate_properties(properties)
        return model, [
            Finding(item.code, item.message, item.key, _INSTEAD[item.key]) if item.key in _INSTEAD else item
            for item in findings
        ]

    def problems(self) -> Iterable[Finding]:
        """Rules over several keys."""
        yield from connection_url(self.url, self.user, None, self.parameters)[1]
        yield from self._source_problems()
        yield from self._mode_problems()
        yield from self._record_problems()
        if not is_duration(self.poll_interval) and len(self.poll_interval.split()) != 5:
            text = f"Invalid value {self.poll_interval} for configuration poll.interval.ms: neither duration nor cron"
            yield Finding("config.invalid_value", text, "poll.interval.ms", "write 5000, 30s, or '0 3 * * *'")

    def _source_problems(self) -> Iterable[Finding]:
        if self.query:
            for name, value in (("table.whitelist", self.whitelist), ("table.blacklist", self.blacklist)):
                if value:
                    text = f"query and {name} exclude each other"
                    yield Finding("sql.query_and_tables", text, name, f"remove {name}, or query")
            if not re.match(r"\s*\(?\s*(select|with)\b", self.query, re.IGNORECASE):
                yield Finding("sql.not_a_select", "query must be a SELECT", "query", "only reading is possible")
            elif ";" in self.query.rstrip().rstrip(";"):
                yield Finding("sql.not_a_select", "query must be a single SELECT", "query", "remove the semicolon")
        elif self.whitelist and self.blacklist:
            text = "table.whitelist and table.blacklist exclude each other"
            yield Finding("sql.two_table_lists", text, "table.blacklist", "remove one of them")
        elif not self.whitelist and not self.blacklist and self.tables is None:
            text = "nothing says what to read"
            yield Finding("sql.no_tables", text, "table.whitelist", "name tables in table.whitelist, or write a query")

    def _mode_problems(self) -> Iterable[Finding]:
        if "timestamp" in self.mode and not self.timestamps:
            text = f"mode {self.mode} needs timestamp.column.name"
            yield Finding("config.missing_key", text, "timestamp.column.name", "name the column that updates move")
        if "incrementing" in self.mode and not self.incrementing and self.query:
            text = f"mode {self.mode} with a query needs incrementing.column.name"
            yield Finding("config.missing_key", text, "incrementing.column.name", "name a column of the query's result")
        if find_zone(self.timezone) is None:
            text = f"Invalid value {self.timezone} for configuration db.timezone: no such time zone"
            yield Finding("config.invalid_value", text, "db.timezone", nearest_zones(self.timezone))

    def _record_problems(self) -> Iterable[Finding]:
        if len(self.topic_prefix) > 249 or not _TOPIC.fullmatch(self.topic_prefix):
            text = f"Invalid value {self.topic_prefix} for configuration topic.prefix: it is not part of a topic's name"
            yield Finding(
                "config.invalid_value", text, "topic.prefix", "at most 249 of: letters, digits, '.', '_', '-'"
            )
        if self.query and not self.topic_prefix:
            text = "with a query topic.prefix is the whole topic name and must not be empty"
            yield Finding("config.missing_key", text, "topic.prefix", "write the topic's name")
        if self.pk_mode == "fields" and not self.pk_fields:
            yield Finding("config.missing_key", "pk.mode fields needs pk.fields", "pk.fields", "name the key's columns")
        if self.pk_mode == "primary_key" and self.query:
            text = "a query has no primary key"
            yield Finding("sql.no_primary_key", text, "pk.mode", "use pk.mode fields and name columns in pk.fields")
        if self.pk_mode != "fields" and self.pk_fields:
            text = f"pk.fields has no effect with pk.mode {self.pk_mode}"
            yield Finding("config.no_effect", text, "pk.fields", "set pk.mode to fields", severity="warning")

    @property
    def numeric(self) -> str:
        """The numeric mapping that counts."""
        return self.numeric_mapping or ("precision_only" if self.numeric_precision_mapping else "none")


def is_duration(text: str) -> bool:
    """Whether it is a pause (``5000``, ``30s``), not a cron expression."""
    try:
        _DURATION.validate_python(text)
    except ValidationError:
        return False
    return True
