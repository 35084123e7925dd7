"""What a reader reads, and how: one relation with its schema in the database and the options that apply to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from sqlalchemy import Connection

from headrace import JsonForm
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.cursor.lookback import Lookback
from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshots
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.rows.types import Column, TypeMapping
from headrace_sources.sql.tables.queries import Cursor, Relation, probe
from headrace_sources.sql.tuning import Tuning


class Paging(Enum):
    """How a table is divided into pages, each read by one statement."""

    NONE = "one statement reads all rows"
    ROWS = "a number of rows, of which no two have the same cursor"
    KEY = "a number of rows in the order of the primary key; there is no cursor"
    TIES = "a number of rows, and all that have the cursor of the last one"


class KeyRecorder(Protocol):
    """Records keys before they are sent: the ledger of the delete reconciler, or a list that becomes part of it."""

    def add(self, keys: list[tuple[Any, ...]], /) -> None:
        """Record ``keys``."""
        ...


@dataclass(frozen=True)
class ReadSpec:
    """What is read, and how."""

    relation: Relation
    topic: str
    cursor: Cursor
    keys: tuple[str, ...]
    """Columns of the record key; empty = no key."""
    identity: tuple[str, ...]
    """Columns that name a row in messages."""
    config: SqlSourceConfig
    mapping: TypeMapping
    json_form: JsonForm | None = None
    """The form in which rows may come as JSON."""
    unique: tuple[str, ...] = ()
    """Columns in which no two rows are equal; empty = unknown."""
    lookback: Lookback = field(default_factory=Lookback)
    paging: Paging = Paging.NONE
    transaction_snapshots: TransactionSnapshots | None = None
    """Of the database's open transactions, shared with other tables."""
    ledger: KeyRecorder | None = None
    """Records the keys that are sent."""
    catalog: str = ""
    """Comes before the table in its partition, see :func:`partition_of`."""
    tuning: Tuning = field(default_factory=Tuning)


def describe(connection: Connection, dialect: Dialect, relation: Relation) -> tuple[Column, ...]:
    """Return the columns of ``relation`` as they are now. Those of a primary key are not nullable."""
    result = connection.execute(probe(relation))
    columns = dialect.columns(connection, relation.table, relation.query, result.cursor)
    result.close()
    primary_key = dialect.primary_key(connection, relation.table) if relation.table else ()
    return tuple(replace(column, nullable=False) if column.name in primary_key else column for column in columns)
