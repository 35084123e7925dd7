"""Reports the status reasons of a task's tables, and the metrics of lag and remaining rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace import SourceContext, StatusReasons
from headrace_sources.sql.access.session import THROTTLE_SUBJECTS, Throttled
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.reader import RelationReader


@dataclass
class StatusReporter:
    """Used from the task's thread."""

    context: SourceContext
    reasons: StatusReasons = field(init=False)
    _remaining: dict[TableName | None, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.reasons = StatusReasons(self.context.set_status_reason)

    def report(self, table: TableName | None, reader: RelationReader) -> None:
        """Report the progress of the reader of ``table``."""
        relation, status = str(reader.spec.relation), reader.status()
        self._remaining[table] = status.remaining
        self.context.remaining(sum(self._remaining.values()))
        self.reasons.set(("reading", relation), status.progress)
        if status.columns_gone is not None:
            text = f"the table was changed and rows have fewer columns: {status.columns_gone}"
            hint = (
                "older records have the former names: restore the name, or rename the field by a transform; "
                "`headrace verify` shows the documents that differ"
            )
            self.context.log.warning("columns were dropped or renamed", code="sql.columns_gone", reason=text, next=hint)
            self.context.raise_condition("sql.columns_gone", text, hint, example=status.columns_gone)
        if status.lag is not None:
            self.context.lag(str(table or "query"), *status.lag)
            if status.blocked is not None and ("blocked", relation) not in self.reasons:
                self.context.log.warning("position waits", code="sql.open_transaction", reason=status.blocked)
            self.reasons.set(("blocked", relation), status.blocked)
            self.reasons.set(("sequence", relation), status.sequence)
        if status.single_connection is not None and ("single connection", relation) not in self.reasons:
            self.context.log.warning("read by one connection", code="sql.one_reader", reason=status.single_connection)
        self.reasons.set(("single connection", relation), status.single_connection)

    def throttled(self, throttled: Throttled | None) -> None:
        """Report why the task does not query the database now; None = it does."""
        for subject in THROTTLE_SUBJECTS:
            applies = throttled is not None and throttled.subject == subject
            self.reasons.set(subject, throttled.reason if throttled is not None and applies else None)
