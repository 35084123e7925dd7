"""What a task knows of one relation before it reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sqlalchemy import Connection

from headrace import JsonForm
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.cursor.lookback import Lookback
from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshots
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.reading.paging import Paging
from headrace_sources.sql.rows.types import Column, TypeMapping
from headrace_sources.sql.tables.queries import Cursor, Relation, probe
from headrace_sources.sql.tables.selection import topic_of


class KeyRecorder(Protocol):
    """Takes the keys of what is about to be sent."""

    def add(self, keys: list[tuple[Any, ...]], /) -> None:
        """They are sent after this."""
        ...


@dataclass(frozen=True)
class Source:
    """What is read, and how."""

    relation: Relation
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
    """Columns that no two rows have equal; empty = nobody knows."""
    reach: Lookback = field(default_factory=Lookback)
    paging: Paging = Paging.NONE
    sightings: TransactionSnapshots | None = None
    """Of the database's open transactions, shared with other tables."""
    ledger: KeyRecorder | None = None
    """Takes the keys of what is sent."""
    catalog: str = ""
    """Stands before the table in its partition, see :func:`partition_of`."""

    @property
    def topic(self) -> str:
        """Where the records go."""
        return topic_of(self.config, self.relation.table)


def describe(connection: Connection, database: Database, relation: Relation) -> tuple[Column, ...]:
    """The columns that a reading of ``relation`` has now; a primary key's are not nullable."""
    result = connection.execute(probe(relation))
    columns = database.columns(connection, relation.table, relation.query, result.cursor)
    result.close()
    primary_key = database.primary_key(connection, relation.table) if relation.table else ()
    return tuple(replace(column, nullable=False) if column.name in primary_key else column for column in columns)
