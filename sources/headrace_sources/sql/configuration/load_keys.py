"""Keys that bound what the source asks of the database."""

from __future__ import annotations

from headrace import ConfigModel, Duration, KeyDefinition, key

_LOAD = "Load on the database"


class LoadKeys(ConfigModel):
    """Part of the SQL source's configuration; its keys come last."""

    max_queries: int = key(
        "connection.max.queries",
        default=8,
        ge=1,
        doc="Most queries that this process has running in the database at a time, over all connectors and tasks that "
        "read it; whoever finds so many running waits for his turn, and the status says so.",
        group=_LOAD,
    )
    target_time: Duration = key(
        "query.target.ms",
        default=1_000,
        ge=10,
        doc="How long a query should keep the database busy. Large tables are read in pages, each a short transaction; "
        "pages grow and shrink towards this time, between `batch.max.rows` and 64 times that. Between two pages other "
        "tables of the task have their turn.",
        group=_LOAD,
    )
    parallelism: int = key(
        "snapshot.parallelism",
        default=1,
        ge=1,
        le=64,
        doc="How many connections read a large table at a time when it is read from its beginning: the first time, and "
        "in mode `bulk` each time. The table is cut into ranges of its primary key; the last record of each key is "
        "still the newest, and a restart goes on in the middle of each range. `connection.max.queries` bounds them, "
        "too. For tables of PostgreSQL and MariaDB with a primary key (MariaDB: of whole numbers) that is the record "
        "key or part of it, without `timestamp.initial`; others are read by one connection, and `headrace check` says "
        "so.",
        group=_LOAD,
    )
    statement_timeout: Duration = key(
        "statement.timeout.ms",
        default=0,
        ge=0,
        doc="Longest time for one statement, after which the database is to give it up (PostgreSQL, MariaDB, MySQL). "
        "The status says so, and it is tried again. 0 = as the database or the user is set up.",
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
        doc="When reading from a replica (PostgreSQL): wait, and say so in the status, while it is further behind its "
        "primary than this. Not given = it is not asked.",
        group=_LOAD,
    )

    @classmethod
    def definitions(cls) -> tuple[KeyDefinition, ...]:
        """As every model's; these keys last."""
        found = super().definitions()
        mine = {item.alias for item in LoadKeys.model_fields.values()}
        return tuple(sorted(found, key=lambda item: item.name in mine))
