"""The comparisons of a task's tables: whose turn it is, between the polls of rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from headrace import HeadraceError, SourceBatch, SourceContext, Wait
from headrace_sources.sql.access.driver_errors import TABLE_ERROR_CODES
from headrace_sources.sql.access.reasons import Reasons
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.cursor.offsets import partition_of
from headrace_sources.sql.deletes.comparison import ComparedTable, KeyComparison
from headrace_sources.sql.deletes.ledger import Ledger
from headrace_sources.sql.reading.inspection import ReadTarget
from headrace_sources.sql.rows.row_schema import find_column
from headrace_sources.sql.rows.types import TypeMapping
from headrace_sources.sql.tables.selection import topic_of


class DeleteReconciler:
    """Empty unless ``delete.detection`` is ``reconcile``. Used from the task's thread."""

    def __init__(self, config: SqlSourceConfig, context: SourceContext, session: Session, reasons: Reasons) -> None:
        self._config = config
        self._context = context
        self._session = session
        self._reasons = reasons
        self._sweeps: list[KeyComparison] = []
        self._rested = True  # rows had their turn since the last step

    def open_ledger(self, target: ReadTarget, mapping: TypeMapping, known: bool) -> Ledger | None:
        """For a table; ``known``: rows of it were sent before. Raises InfrastructureError."""
        config, table = self._config, target.relation.table
        if config.delete_detection != "reconcile":
            return None
        name = f"{self._context.task.connector}.{table or 'query'}"
        ledger = Ledger(Path(config.ledger_directory) / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.ledger")
        if ledger.new and known:
            self._context.log.warning(
                "ledger is new",
                code="sql.new_ledger",
                reason=f"rows of {target.relation} were sent before, and {ledger.path} was not there: rows that were "
                "deleted until now stay unknown",
                hint="keep delete.ledger.directory with the worker's positions",
            )
        names = [column.name for column in target.columns]
        swept = ComparedTable(
            target.relation,
            tuple(target.columns[find_column(names, key)] for key in target.keys),
            topic_of(config, table),
            partition_of(table, config.mode, self._session.database.catalog),
            mapping,
        )
        schedule = self._context.schedule(config.reconcile_schedule)
        self._sweeps.append(KeyComparison(swept, self._session.database, ledger, schedule, config.max_fraction))
        return ledger

    def step(self, rows_wait: bool, pause: Callable[[], float]) -> SourceBatch | Wait | None:
        """One step of the comparison whose turn it is; None when none is due, or rows have their turn first.

        ``pause``: seconds to leave the database alone.
        """
        sweep = self._next()
        if sweep is None or (rows_wait and not self._rested):
            self._rested = True
            return None
        if seconds := pause():
            return Wait(seconds)
        self._rested = False
        try:
            with self._session.reading(f"the keys of {sweep.relation}") as connection:
                batch = sweep.step(connection)
        except BaseException as error:
            sweep.break_off()
            if not isinstance(error, HeadraceError) or error.code not in TABLE_ERROR_CODES:
                raise
            # Whether rows can be read is found out by reading rows.
            self._reasons.set(f"deletes of {sweep.relation}", f"deletes are not looked for: {error}")
            return Wait(0.0)
        self._session.close_transaction()
        if not sweep.active:
            self._context.log.info(
                "keys compared",
                what=str(sweep.relation),
                tombstones=sweep.sent,
                seconds=round(sweep.seconds, 1),
                statements=sweep.statements,
                read=sweep.read,
            )
        self._reasons.set(f"deletes of {sweep.relation}", sweep.problem)
        return batch if batch is not None else Wait(0.0)

    def _next(self) -> KeyComparison | None:
        now = datetime.now(UTC)
        active = (sweep for sweep in self._sweeps if sweep.active)
        return next(active, None) or next((sweep for sweep in self._sweeps if sweep.due <= now), None)

    @property
    def due(self) -> datetime | None:
        """When the next step is; None = never."""
        return min((sweep.due for sweep in self._sweeps), default=None)

    def acknowledged(self, batch: SourceBatch) -> None:
        """It is in Kafka."""
        for sweep in self._sweeps:
            sweep.acknowledged(batch)

    def close(self) -> None:
        """The ledgers."""
        for sweep in self._sweeps:
            sweep.ledger.close()
        self._sweeps = []
