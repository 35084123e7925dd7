"""Looks at the tables of a task, one by one, and makes their readers: when the task starts, and again later for those
that could not be read then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import Finding, SourceContext
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.cursor.lookback import Lookback
from headrace_sources.sql.cursor.offsets import Position
from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshots
from headrace_sources.sql.deletes.reconciler import DeleteReconciler
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.chunk_plan import Chunk, from_json
from headrace_sources.sql.reading.inspection import ReadTarget, inspect_relation, one_reader, paging_of, unread_rows
from headrace_sources.sql.reading.read_spec import Source
from headrace_sources.sql.reading.reader_pool import ReaderPool, Within
from headrace_sources.sql.reading.snapshot import Parallelism
from headrace_sources.sql.reading.strategy import Reader, reader_for
from headrace_sources.sql.rows.types import TypeMapping


@dataclass(frozen=True)
class ReaderFactory:
    """What all tables of a task share. ``stored``: their positions; ``initial`` counts where there is none. ``grids``:
    what is stored of readings by the primary key."""

    config: SqlSourceConfig
    context: SourceContext
    session: Session
    sweeps: DeleteReconciler
    mapping: TypeMapping
    reach: Lookback
    stored: dict[TableName | None, Position | None]
    grids: Mapping[TableName, Mapping[str, Any] | None]
    start_readers: Callable[[Source, Sequence[Chunk], Within, int], ReaderPool]
    initial: Position | None
    sightings: TransactionSnapshots

    def look(self, table: TableName | None) -> tuple[ReadTarget | None, Sequence[Finding]]:
        """What is there; no target where the findings have an error. Raises what the session raises."""
        with self.session.reading(f"table {table}" if table else "the query") as connection:
            target, findings = inspect_relation(connection, self.session.database, self.config, table)
            if target is not None:
                findings = [*findings, *unread_rows(connection, target)]
        return target, findings

    def reader(self, target: ReadTarget) -> Reader:
        """Of a table that was looked at; it begins at the stored position. Raises InfrastructureError."""
        session, table = self.session, target.relation.table
        position = self.stored[table]
        with session.reading(str(target.relation)) as connection:
            paging = paging_of(connection, session.database, self.config, target)
            alone = self.config.parallelism == 1 or one_reader(connection, session.database, self.config, target)
        # The first reading begins a transaction of its own: in this one it would be now for ever (PostgreSQL's now()).
        session.close_transaction()
        grid = from_json(self.grids[table], target.primary_key, self.config.mode) if table is not None else None
        source = Source(
            target.relation,
            target.cursor,
            target.keys,
            target.identity,
            self.config,
            self.mapping,
            self.context.json_form,
            target.primary_key or target.keys,
            self.reach,
            paging,
            self.sightings,
            self.sweeps.open_ledger(target, self.mapping, position is not None or grid is not None),
            session.database.catalog,
        )
        crews = Parallelism(1 if alone else self.config.parallelism, self.start_readers)
        return reader_for(source, session.database, position, grid, self.initial, crews)
