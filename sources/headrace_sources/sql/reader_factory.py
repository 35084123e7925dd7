"""Inspects the tables of a task and creates their readers: when the task starts, and again for tables that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import ConfigError, Finding, HeadraceError, SourceContext
from headrace_sources.sql.access.driver_errors import TABLE_ERROR_CODES
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.cursor.lookback import Lookback
from headrace_sources.sql.cursor.position import StoredPosition
from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshots
from headrace_sources.sql.deletes.reconciler import DeleteReconciler
from headrace_sources.sql.dialects import Dialect, MakeDialect
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.chunk_plan import Chunk, ChunkPlan, from_json
from headrace_sources.sql.reading.inspection import (
    HIDDEN_ROWS_CODE,
    TOPIC_NAME_CODE,
    ReadTarget,
    inspect_relation,
    one_reader,
    paging_of,
    unread_rows,
)
from headrace_sources.sql.reading.read_spec import Paging, ReadSpec
from headrace_sources.sql.reading.reader import RelationReader
from headrace_sources.sql.reading.reader_pool import Parallelism, ReaderPool, Within
from headrace_sources.sql.reading.snapshot_readers import BulkReader, FirstReader
from headrace_sources.sql.reading.table_reader import TableReader
from headrace_sources.sql.rows.types import TypeMapping
from headrace_sources.sql.tables.selection import topic_of
from headrace_sources.sql.tuning import Tuning

Tables = Sequence[TableName | None]
"""None stands for the query."""


@dataclass(frozen=True)
class ReaderFactory:
    """What all tables of a task share. Used from the task's thread.

    ``positions`` and ``chunk_plans`` are what is stored; ``initial`` is used where no position is. ``catalogs``: what
    comes before each table in the partition of its positions.
    """

    config: SqlSourceConfig
    context: SourceContext
    session: Session
    reconciler: DeleteReconciler | None
    mapping: TypeMapping
    lookback: Lookback
    positions: Mapping[TableName | None, StoredPosition | None]
    chunk_plans: Mapping[TableName, Mapping[str, Any] | None]
    catalogs: Mapping[TableName | None, str]
    initial: StoredPosition | None
    transaction_snapshots: TransactionSnapshots
    make_dialect: MakeDialect
    tuning: Tuning

    def inspect_all(
        self, tables: Tables
    ) -> tuple[dict[TableName | None, ReadTarget], dict[TableName | None, HeadraceError]]:
        """Return the tables that can be read, and the errors of others. Raise ConfigError with all mistakes.

        An unreadable table that only a pattern selects (it may have been created a moment ago) stops no other table.
        """
        named = self.config.query or self.config.whitelist
        targets: dict[TableName | None, ReadTarget] = {}
        errors: dict[TableName | None, HeadraceError] = {}
        findings: list[Finding] = []
        for table in tables:
            try:
                target, found = self._inspect(table)
            except HeadraceError as error:
                if error.code not in TABLE_ERROR_CODES:
                    raise
                errors[table] = error
                continue
            if target is not None:
                targets[table] = target
            elif not named or any(finding.code == TOPIC_NAME_CODE for finding in found):
                errors[table] = ConfigError(findings=self._located(found))
            findings += found
        fatal = [finding for finding in findings if finding.severity != "warning"]
        self.report([finding for finding in findings if finding.severity == "warning"])
        if not targets:
            self.report(fatal)
        elif named:
            self.report([finding for finding in fatal if finding.code != TOPIC_NAME_CODE])
        return targets, errors

    def report(self, findings: Sequence[Finding]) -> None:
        """Log warnings; raise ConfigError for errors. Rows that are never read are a condition as well."""
        for finding in findings:
            if finding.code == HIDDEN_ROWS_CODE:
                self.context.raise_condition(finding.code, finding.message, finding.hint)
            if finding.severity == "warning":
                self.context.log.warning(
                    "configuration warning", code=finding.code, reason=finding.message, hint=finding.hint
                )
        if errors := self._located(findings):
            raise ConfigError(findings=errors)

    def _located(self, findings: Sequence[Finding]) -> list[Finding]:
        """Return the errors among ``findings``, with the place in the configuration."""
        origin = self.context.config_origin
        return [
            Finding(finding.code, finding.message, finding.key, f"{finding.hint} ({origin(finding.key)})")
            for finding in findings
            if finding.severity == "error"
        ]

    def _inspect(self, table: TableName | None) -> tuple[ReadTarget | None, Sequence[Finding]]:
        with self.session.reading(f"table {table}" if table else "the query") as connection:
            target, findings = inspect_relation(connection, self.session.dialect, self.config, table)
            if target is not None:
                findings = [*findings, *unread_rows(connection, target)]
        return target, findings

    def explain(self, table: TableName | None, error: HeadraceError) -> HeadraceError:
        """Return the inspection's error about a missing column, because it names similar columns."""
        if error.code != "sql.missing_column" or (isinstance(error, ConfigError) and error.findings):
            return error
        try:
            _, findings = self._inspect(table)
        except HeadraceError:  # the table is gone, or the connection: the driver's error stays
            return error
        located = [finding for finding in self._located(findings) if finding.code == error.code]
        return ConfigError(located[0].message, code=error.code, hint=located[0].hint) if located else error

    def open(self, table: TableName | None) -> RelationReader:
        """Inspect a table and return its reader. Raise ConfigError and what the session raises."""
        target, findings = self._inspect(table)
        self.report(findings)
        assert target is not None, "without a target there is an error among the findings"
        return self.reader(target)

    def reader(self, target: ReadTarget) -> RelationReader:
        """Return the reader of an inspected table; it begins at the stored position. Raise InfrastructureError."""
        session, table = self.session, target.relation.table
        dialect = session.dialect
        position = self.positions[table]
        with session.reading(str(target.relation)) as connection:
            paging = paging_of(connection, dialect, self.config, target)
            alone = self.config.parallelism == 1 or one_reader(connection, dialect, self.config, target)
        # The first reading begins a transaction of its own: PostgreSQL's now() stays the same within this one.
        session.close_transaction()
        plan = from_json(self.chunk_plans[table], target.unique, self.config.mode) if table is not None else None
        ledger = None
        if self.reconciler is not None:
            known = position is not None or plan is not None
            ledger = self.reconciler.open_ledger(target, self.mapping, self.catalogs[table], known)
        spec = ReadSpec(
            relation=target.relation,
            topic=topic_of(self.config, table),
            cursor=target.cursor,
            keys=target.keys,
            identity=target.identity,
            config=self.config,
            mapping=self.mapping,
            json_form=self.context.json_form,
            unique=target.unique if target.primary_key else target.keys,
            lookback=self.lookback,
            paging=paging,
            transaction_snapshots=self.transaction_snapshots,
            ledger=ledger,
            catalog=self.catalogs[table],
            tuning=self.tuning,
        )
        # A snapshot by several readers has no position after what it has sent.
        parallelism = Parallelism(
            1 if alone or self.context.exactly_once else self.config.parallelism, self._start_readers
        )
        return reader_for(spec, dialect, position, plan, self.initial, parallelism)

    def _start_readers(self, spec: ReadSpec, chunks: Sequence[Chunk], within: Within, threads: int) -> ReaderPool:
        origin, task = self.context.config_origin, self.context.task
        names = [f"{task}/{number}" for number in range(1, threads + 1)]
        sessions = [Session(self.config, origin, name, self.make_dialect) for name in names]
        return ReaderPool(spec, chunks, sessions, within)


def reader_for(
    spec: ReadSpec,
    dialect: Dialect,
    position: StoredPosition | None,
    plan: ChunkPlan | None,
    initial: StoredPosition | None,
    parallelism: Parallelism,
) -> RelationReader:
    """Return the reader that fits. ``position`` and ``plan`` are what is stored.

    A position is later than any plan: the snapshot is over.
    """
    if spec.paging is Paging.KEY:
        return BulkReader(spec, dialect, plan, parallelism)
    if position is None and spec.cursor.names and (plan is not None or parallelism.threads > 1):
        return FirstReader(spec, dialect, plan, parallelism)
    return TableReader(spec, dialect, position or initial)
