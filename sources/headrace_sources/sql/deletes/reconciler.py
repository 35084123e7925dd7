"""Compares the keys of a task's tables with their ledgers from time to time, between the polls of rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from headrace import HeadraceError, SourceBatch, SourceContext, StatusReasons, Wait
from headrace_sources.sql.access.driver_errors import TABLE_ERROR_CODES
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.cursor.position import partition_of
from headrace_sources.sql.deletes.comparison import ComparedTable, KeyComparison
from headrace_sources.sql.deletes.ledger import Ledger
from headrace_sources.sql.reading.inspection import ReadTarget
from headrace_sources.sql.rows.row_schema import find_column
from headrace_sources.sql.rows.types import TypeMapping
from headrace_sources.sql.tables.selection import topic_of
from headrace_sources.sql.tuning import Tuning


class DeleteReconciler:
    """Used from the task's thread."""

    def __init__(
        self, config: SqlSourceConfig, context: SourceContext, session: Session, reasons: StatusReasons, tuning: Tuning
    ) -> None:
        self._config = config
        self._context = context
        self._session = session
        self._reasons = reasons
        self._tuning = tuning
        self.comparisons: list[KeyComparison] = []
        self._rows_read = True  # since the last step

    def open_ledger(self, target: ReadTarget, mapping: TypeMapping, catalog: str, known: bool) -> Ledger:
        """Return the ledger of a table. Raise InfrastructureError.

        ``catalog`` as for :func:`partition_of`. ``known``: rows of the table were sent before.
        """
        config, table = self._config, target.relation.table
        name = f"{self._context.task.connector}.{table or 'query'}"
        ledger = Ledger(Path(config.ledger_directory) / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.ledger")
        if ledger.new and known:
            self._context.log.warning(
                "ledger is new",
                code="sql.new_ledger",
                reason=f"rows of {target.relation} were sent before, and {ledger.path} did not exist: rows that were "
                "deleted until now are not detected",
                hint="keep delete.ledger.directory with the worker's positions",
            )
        names = [column.name for column in target.columns]
        compared = ComparedTable(
            target.relation,
            tuple(target.columns[find_column(names, key)] for key in target.keys),
            topic_of(config, table),
            partition_of(table, config.mode, catalog),
            mapping,
        )
        schedule = self._context.schedule(config.reconcile_schedule)
        self.comparisons.append(
            KeyComparison(compared, self._session.dialect, ledger, schedule, config.max_fraction, self._tuning)
        )
        return ledger

    def step(self, rows_due: bool, throttle: Callable[[], float]) -> SourceBatch | Wait | None:
        """Take one step of a comparison; return None when none is due, or rows are to be read first.

        ``throttle``: for how many seconds the database must not be asked.
        """
        comparison = self._due_comparison()
        if comparison is None or (rows_due and not self._rows_read):
            self._rows_read = True
            return None
        if seconds := throttle():
            return Wait(seconds)
        self._rows_read = False
        try:
            with self._session.reading(f"the keys of {comparison.relation}") as connection:
                batch = comparison.step(connection)
        except BaseException as error:
            comparison.break_off()
            if not isinstance(error, HeadraceError) or error.code not in TABLE_ERROR_CODES:
                raise
            # Reading rows finds out whether the table is to be quarantined.
            self._reasons.set(("deletes", comparison.relation), f"deleted rows are not detected: {error}")
            return Wait(0.0)
        self._session.close_transaction()
        if not comparison.active:
            log = self._context.log.info if comparison.sent else self._context.log.debug
            log(
                "keys compared",
                what=str(comparison.relation),
                tombstones=comparison.sent,
                seconds=round(comparison.seconds, 1),
                statements=comparison.statements,
                read=comparison.read,
            )
        self._reasons.set(("deletes", comparison.relation), comparison.problem)
        return batch if batch is not None else Wait(0.0)

    def _due_comparison(self) -> KeyComparison | None:
        now = self._tuning.now()
        active = (comparison for comparison in self.comparisons if comparison.active)
        return next(active, None) or next(
            (comparison for comparison in self.comparisons if comparison.due <= now), None
        )

    def follow_clock(self, now: datetime) -> None:
        """Note that the system clock was set: no comparison waits longer than from now to its next time."""
        for comparison in self.comparisons:
            comparison.follow_clock(now)

    @property
    def due(self) -> datetime | None:
        """When the next comparison begins; None = never."""
        return min((comparison.due for comparison in self.comparisons), default=None)

    def acknowledged(self, batch: SourceBatch) -> None:
        """Note that ``batch`` is in Kafka."""
        for comparison in self.comparisons:
            comparison.acknowledged(batch)

    def close(self) -> None:
        """Close the ledgers."""
        for comparison in self.comparisons:
            comparison.ledger.close()
        self.comparisons = []
