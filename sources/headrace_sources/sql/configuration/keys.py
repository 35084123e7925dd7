"""Keys of the SQL source: the JDBC source connector's, and our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from headrace import LOWER, UPPER, CommaList, ConfigModel, Duration, IntervalOrCron, Secret, key, prefix_key

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
PkMode = Annotated[Literal["auto", "none", "primary_key", "fields"], LOWER]
PK_MODE_DOC = (
    "The records' key (headrace's own; the JVM's JDBC source writes none). `auto`: the columns in `pk.fields`, else "
    "the table's primary key, else no key. `none`: no key. `primary_key`: the table's primary key; an error if "
    "there is none. `fields`: the columns in `pk.fields`. One column: its value is the key; several: a struct of "
    "them. Rows of one key stay in order in one Kafka partition."
)
Isolation = Annotated[
    Literal["DEFAULT", "READ_UNCOMMITTED", "READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE", "SQL_SERVER_SNAPSHOT"],
    UPPER,
]

_DATABASE, _TABLES, _MODE, RECORDS, _POLLING = "Database", "Tables", "Mode", "Records", "Polling"
_DELETES, _LOAD = "Deletes", "Load on the database"


class SqlSourceKeys(ConfigModel):
    """The keys by group, in the order of the reference documentation."""

    url: str = key(
        "connection.url",
        doc="URL of the database: an SQLAlchemy URL (`postgresql+psycopg://user:password@host:5432/database`, "
        "`sqlite:////path/to/file.db`, `mysql+pymysql://user:password@host/database`) or a JDBC URL "
        "(`jdbc:postgresql://host:5432/database`, `jdbc:mariadb://host/database`). PostgreSQL, MariaDB and SQLite are "
        "tested; others need their SQLAlchemy driver.",
        importance="high",
        group=_DATABASE,
        repr=False,  # it may hold a password
    )
    user: str | None = key(
        "connection.user",
        default=None,
        doc="Database user; takes precedence over the URL.",
        importance="high",
        group=_DATABASE,
    )
    password: Secret | None = key(
        "connection.password",
        default=None,
        doc="Password; takes precedence over the URL. Use a placeholder: `${env:DATABASE_PASSWORD}`.",
        importance="high",
        group=_DATABASE,
    )
    attempts: int | None = key(
        "connection.attempts",
        default=None,
        ge=1,
        doc="Consecutive failed attempts to connect until the task fails. Not set = no limit, the reason is in the "
        "task's status (Kafka Connect's JDBC source: 3).",
        importance="low",
        group=_DATABASE,
    )
    backoff: Duration | None = key(
        "connection.backoff.ms",
        default=None,
        ge=0,
        doc="Wait between two attempts to connect. Not set = a growing wait of 0.1 to 30 seconds "
        "(Kafka Connect's JDBC source: 10000).",
        importance="low",
        group=_DATABASE,
    )
    parameters: dict[str, str] = prefix_key(
        "connection.",
        doc="Every other key with this prefix is passed to the driver without the prefix, like parameters in the "
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
        group=_TABLES,
    )
    blacklist: CommaList = key(
        "table.blacklist",
        default="",
        doc="Read all tables except these. Has no effect together with `table.whitelist`.",
        group=_TABLES,
    )
    include: CommaList = key(
        "table.include.list",
        default="",
        doc="Tables to read, as regular expressions between commas; each must match a whole name with its schema: "
        "`public\\.orders_.*`. Not together with `table.whitelist` or `table.blacklist`.",
        importance="high",
        group=_TABLES,
    )
    exclude: CommaList = key(
        "table.exclude.list",
        default="",
        doc="Tables to leave out of those in `table.include.list`, as regular expressions of the same kind.",
        group=_TABLES,
    )
    table_poll: Duration = key(
        "table.poll.interval.ms",
        default=60_000,
        ge=0,
        doc="How often the list of tables is read while the connector runs. Only tasks whose tables change are "
        "restarted. 0 = never.",
        importance="low",
        group=_TABLES,
    )
    catalog_pattern: str | None = key(
        "catalog.pattern",
        default=None,
        doc="Consider only tables of this database (SQL LIKE pattern). With MySQL and MariaDB, where databases are "
        "schemas, it is the same as `schema.pattern`; elsewhere only the connection's own database can be read, "
        "and another name is an error.",
        importance="low",
        group=_TABLES,
    )
    schema_pattern: str | None = key(
        "schema.pattern",
        default=None,
        doc="Consider only tables of schemas that match this SQL LIKE pattern (`%` any text, `_` any character). "
        "Not set = all schemas except those of the database system.",
        group=_TABLES,
    )
    table_types: CommaList = key(
        "table.types",
        default="TABLE",
        doc="Kinds of tables to consider: `TABLE`, `VIEW`, `MATERIALIZED VIEW`, `PARTITIONED TABLE` "
        "(a partitioned table is always considered as a `TABLE`, too).",
        importance="low",
        group=_TABLES,
    )

    mode: Mode = key(
        "mode",
        doc="How new rows are found. `bulk`: the whole table each time. `incrementing`: rows whose id is greater than "
        "the last one; updates are not seen. `timestamp`: rows whose timestamp is later than the last one; new and "
        "changed rows. `timestamp+incrementing`: both, the safest mode: the id orders rows of equal timestamp.",
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
    incrementing_mapping: CommaList = key(
        "incrementing.column.mapping",
        default="",
        doc="The incrementing columns of tables that differ: `regular expression:column` between commas, as in "
        "`public\\.orders:order_id,public\\.lines:line_id`. An expression must match a whole name with its schema, and "
        "no table may match two. Tables that match none have `incrementing.column.name`.",
        importance="low",
        group=_MODE,
    )
    timestamps: CommaList = key(
        "timestamp.column.name",
        default="",
        doc="Column that every insert and update sets to the current time. Several: the first that is not NULL counts "
        "(COALESCE), which needs an index on just that expression.",
        group=_MODE,
    )
    timestamps_mapping: CommaList = key(
        "timestamp.columns.mapping",
        default="",
        doc="The timestamp columns of tables that differ: `regular expression:[column|column]` between commas, as in "
        "`public\\.orders:[updated|created]`. Matched as in `incrementing.column.mapping`. Tables that match none have "
        "`timestamp.column.name`.",
        importance="low",
        group=_MODE,
    )
    timestamp_initial: int | None = key(
        "timestamp.initial",
        default=None,
        ge=-1,
        doc="Where to start if no offset is stored: after this time (epoch milliseconds); -1 = now, by the database's "
        "clock. Not set = the first row. No effect once an offset is stored.",
        importance="low",
        group=_MODE,
    )
    timestamp_delay: Duration = key(
        "timestamp.delay.interval.ms",
        default=0,
        ge=0,
        doc="Rows younger than this, by the database's clock, are left for a later poll. Needed only where there is no "
        "gap-free cursor (`cursor.gap.free`): set it to more than the duration of the longest writing transaction, "
        "because rows that are committed later than this are lost.",
        importance="low",
        group=_MODE,
    )
    gap_free: Annotated[Literal["auto", "on", "off"], LOWER] = key(
        "cursor.gap.free",
        default="auto",
        doc="Whether rows that are committed late, before rows that were already read, are read, too. The stored "
        "position then waits for transactions that are open (the rows do not), and rows that were read before are "
        "not sent again. `auto`: if the database can list its open transactions or `cursor.overlap` is set, else "
        "`off` with a warning. `on`: as `auto`, but an error instead of the warning. `off`: as Kafka Connect's "
        "JDBC source, which loses such rows. See docs/gap-free-cursor.md.",
        importance="high",
        group=_MODE,
    )
    overlap: str | None = key(
        "cursor.overlap",
        default=None,
        doc="How far each poll goes back behind what it has read: a duration (`5m`) in the modes with a timestamp, a "
        "number of ids (`1000`) in mode incrementing. Rows that were sent are not sent again. For databases that "
        "cannot list their open transactions (set it to more than the duration of the longest one), for clocks "
        "that differ, and for ids that are assigned in blocks. Not set = `2s` or 0 where the database lists them, "
        "else none.",
        group=_MODE,
    )
    memory_rows: int = key(
        "cursor.memory.rows",
        default=100_000,
        ge=1_000,
        doc="Maximum number of sent rows that the task remembers, so that it does not send them again when it goes "
        "back (about 400 bytes each). Rows beyond this limit may be sent twice; they are never lost.",
        importance="low",
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
    query_text: str = key(
        "query",
        default="",
        doc="Read this SELECT instead of tables. With a mode other than `bulk` it is wrapped, `SELECT * FROM (query) "
        "WHERE …`, so it may have joins and a WHERE of its own, and the cursor columns must be columns of its "
        "result. It must be one SELECT (or WITH … SELECT), and then without LIMIT, because rows after the limit "
        "would never be read.",
        group=_MODE,
    )
    query_masked: Secret | None = key(
        "query.masked",
        default=None,
        doc="The same as `query`, for a text that must stay secret: it is hidden in responses, logs and messages.",
        importance="low",
        group=_MODE,
    )
    query_suffix: str = key(
        "query.suffix",
        default="",
        doc="Text to append to every generated statement (`FOR READ ONLY`). No LIMIT with mode `timestamp`: rows of "
        "equal timestamp after the limit would be lost.",
        importance="low",
        group=_MODE,
    )

    topic_prefix: str = key(
        "topic.prefix",
        default="",
        doc="Topic = this prefix + the bare table name (see `topic.name.format`). With `query`: the whole topic name.",
        importance="high",
        group=RECORDS,
    )
    topic_format: str = key(
        "topic.name.format",
        default="${table}",
        doc="Topic name of a table after `topic.prefix` (headrace's own): text that contains `${table}` and may "
        "contain `${schema}`. `${schema}.${table}` separates tables of equal name in two schemas.",
        importance="low",
        group=RECORDS,
    )
    pk_mode: PkMode = key("pk.mode", default="auto", doc=PK_MODE_DOC, importance="high", group=RECORDS)
    pk_fields: CommaList = key(
        "pk.fields",
        default="",
        doc="Columns of the key (headrace's own), with `pk.mode` `fields` or `auto`.",
        group=RECORDS,
    )
    numeric_mapping: NumericMapping | None = key(
        "numeric.mapping",
        default=None,
        doc="Type of NUMERIC and DECIMAL columns with a declared precision. `none`: Decimal. `precision_only`: an "
        "integer when there are no decimals and at most 18 digits, else Decimal. `best_fit`: also FLOAT64 with "
        "decimals and at most 18 digits. `best_fit_eager_double`: FLOAT64 with decimals and any number of digits. "
        "Columns without declared precision have no fixed scale, which Decimal requires: they are exact text, or "
        "FLOAT64 with one of the best fits. Not given = `none`.",
        group=RECORDS,
    )
    numeric_precision_mapping: bool = key(
        "numeric.precision.mapping",
        default=False,
        doc="Deprecated: `true` means `numeric.mapping=precision_only` when that is not given.",
        importance="low",
        group=RECORDS,
    )
    granularity: Granularity = key(
        "timestamp.granularity",
        default="connect_logical",
        doc="Type of timestamps, cursor columns included. `connect_logical`: Connect's Timestamp, milliseconds. "
        "`micros_long`, `nanos_long`: INT64 since the epoch. `micros_string`, `nanos_string`: the same number as "
        "text. `micros_iso_datetime_string`, `nanos_iso_datetime_string`: `2024-05-01T12:00:00.123456`, in "
        "`db.timezone`, without a zone.",
        group=RECORDS,
    )
    temporal_mode: Annotated[Literal["fail", "null", "text"], LOWER] | None = key(
        "temporal.out.of.range",
        default=None,
        doc="What to do with dates and times that Connect has no value for (headrace's own): `infinity` and years BC "
        "or after 9999 of PostgreSQL, `0000-00-00` of MySQL, times of 24 hours and more. `fail`: the task stops "
        "and names the row. `null`: they are null. `text`: all dates and times are text, in the form of the "
        "database. Not given = `fail`, or `null` if the URL has `zeroDateTimeBehavior=convertToNull`.",
        importance="low",
        group=RECORDS,
    )
    not_finite: Annotated[Literal["fail", "null", "text"], LOWER] = key(
        "float.not.finite",
        default="fail",
        doc="What to do with `NaN` and infinity in columns of type FLOAT32 or FLOAT64 (headrace's own): JSON has no "
        "such numbers. `fail`: the task stops and names the row. `null`: they are null. `text`: all values of such "
        "columns are text, with `NaN`, `Infinity` and `-Infinity` by name.",
        importance="low",
        group=RECORDS,
    )
    timezone: str = key(
        "db.timezone",
        default="UTC",
        doc="Zone of timestamps that the database stores without one, and of timestamps that are written as ISO text.",
        group=RECORDS,
    )

    poll_interval: IntervalOrCron = key(
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
        doc="Maximum number of rows in a batch and in a fetch from the database. Results are streamed; about this many "
        "rows are in memory.",
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

    delete_detection: Annotated[Literal["none", "soft", "reconcile"], LOWER] = key(
        "delete.detection",
        default="none",
        doc="How deleted rows become tombstones (records with a key and no value, by which sinks delete). `soft`: the "
        "application marks them in `delete.soft.column`. `reconcile`: the table's keys are compared with those "
        "that were sent, on a schedule. Both need a record key. See docs/deletes.md.",
        importance="high",
        group=_DELETES,
    )
    soft_column: str = key(
        "delete.soft.column",
        default="",
        doc="With `delete.detection=soft`: the row counts as deleted when this column is true, a number other than 0, "
        "a moment, or a text other than `false`, `f`, `no`, `n`, `0` and the empty one. For any other rule write a "
        "`query` with an expression: `SELECT *, status = 'gone' AS deleted FROM …`.",
        group=_DELETES,
    )
    reconcile_schedule: str = key(
        "delete.reconcile.schedule",
        default="1h",
        doc="With `delete.detection=reconcile`: the pause between two comparisons, or a cron expression of five "
        "fields, in UTC.",
        group=_DELETES,
    )
    max_fraction: float = key(
        "delete.max.fraction",
        default=0.2,
        ge=0.0,
        le=1.0,
        doc="If a comparison finds more than this fraction of the keys missing (and more than 10 keys), nothing is "
        "deleted: the status shows this, and rows are still sent. A table that was emptied by mistake does not "
        "empty the index. 1 = no limit.",
        group=_DELETES,
    )
    ledger_directory: str = key(
        "delete.ledger.directory",
        default="ledgers",
        doc="With `delete.detection=reconcile`: folder for the keys that were sent, one file for each table, 20 to 60 "
        "bytes per key. Keep it with the worker's positions. A missing file is created again from the table; rows "
        "that were deleted before are not detected.",
        group=_DELETES,
        file=True,
    )

    max_queries: int = key(
        "connection.max.queries",
        default=8,
        ge=1,
        doc="Maximum number of concurrent queries of this process in the database, over all connectors and tasks that "
        "read it. Further queries wait, and the status says so.",
        group=_LOAD,
    )
    target_time: Duration = key(
        "query.target.ms",
        default=1_000,
        ge=10,
        doc="How long a query should keep the database busy. Large tables are read in pages, each a short transaction; "
        "the page size is adapted to this time, between `batch.max.rows` and 64 times that. Between two pages the task "
        "reads other tables.",
        group=_LOAD,
    )
    parallelism: int = key(
        "snapshot.parallelism",
        default=1,
        ge=1,
        le=64,
        doc="Number of connections that read a large table from its beginning: the first time, and in mode `bulk` each "
        "time. The table is divided into ranges of its primary key. The last record of each key is still the "
        "newest, and a restart continues within each range. `connection.max.queries` limits them, "
        "too. For tables of PostgreSQL and MariaDB with a primary key (MariaDB: of whole numbers) that is the record "
        "key or part of it, without `timestamp.initial`; others are read by one connection, and `headrace check` says "
        "so.",
        group=_LOAD,
    )
    statement_timeout: Duration = key(
        "statement.timeout.ms",
        default=0,
        ge=0,
        doc="Timeout of a statement (PostgreSQL, MariaDB, MySQL). The status shows it, and the statement "
        "is retried. 0 = the setting of the database or the user.",
        importance="low",
        group=_LOAD,
    )
    read_only: bool = key(
        "transaction.read.only",
        default=True,
        doc="Whether reading transactions are declared read-only (PostgreSQL, MariaDB, MySQL). `false` is for queries "
        "that call functions which write, and for `FOR UPDATE`.",
        importance="low",
        group=_LOAD,
    )
    max_lag: Duration | None = key(
        "replica.max.lag.ms",
        default=None,
        ge=0,
        doc="For a replica (PostgreSQL): wait, with a status reason, while its lag is greater than this. Not set "
        "= the lag is not read.",
        group=_LOAD,
    )

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "dialect.name": "connection.url determines the kind of database",
        "table.monitoring.startup.polling.limit.ms": "tables are listed when the connector starts",
        "max.buffer.size": "at most one batch is buffered; the worker's source.buffer.bytes limits unacknowledged data",
        "poll.linger.ms": "a poll returns the available rows at once",
        "query.retry.attempts": "transient failures are retried without limit, others fail at once",
        "date.calendar.system": "dates are always proleptic Gregorian",
        "tables.fetched": "it is internal to Kafka Connect's JDBC source",
    }
