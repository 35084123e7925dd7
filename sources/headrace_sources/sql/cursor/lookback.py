"""How far each read goes back for late commits, by the configuration and the abilities of the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from headrace import Finding
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.tuning import Tuning


@dataclass(frozen=True)
class Lookback:
    """How late commits are found. ``span`` and ``ids``: how far each read goes back at least, in time and in ids."""

    asks: bool = False
    """Whether the database is asked for its open transactions."""
    span: timedelta = timedelta(0)
    ids: int = 0
    memory_rows: int = 100_000
    """Maximum number of sent rows to remember."""
    settled: bool = False
    """Whether only rows are read before which none can appear any more, so that a stored position is after exactly the
    rows that were sent (exactly-once delivery)."""

    @property
    def active(self) -> bool:
        """False: late commits are not considered, as in Kafka Connect."""
        return self.asks or self.ids > 0 or self.span > timedelta(0)


def lookback_for(
    connection: Connection, dialect: Dialect, config: SqlSourceConfig, tuning: Tuning
) -> tuple[Lookback, list[Finding]]:
    """Return the lookback, and errors and warnings about it."""
    if config.mode == "bulk" or config.gap_free == "off":
        return Lookback(), []
    overlap = config.overlap_ids if config.mode == "incrementing" else config.overlap_span
    blind = dialect.hidden_transactions_reason(connection)
    if blind is None or overlap:
        span = timedelta(milliseconds=config.overlap_span or 0)
        if config.mode == "incrementing":
            return Lookback(blind is None, ids=config.overlap_ids or 0, memory_rows=config.memory_rows), []
        return Lookback(blind is None, max(span, tuning.least_lookback), memory_rows=config.memory_rows), []
    if dialect.commits_in_order:
        return Lookback(), []
    text = f"rows of a transaction that commits late can be missed: {blind}"
    example = "1000 (ids)" if config.mode == "incrementing" else "5m (longer than your longest writing transaction)"
    hint = f"set cursor.overlap, for example to {example}; or, to accept it, cursor.gap.free to off"
    severity = "error" if config.gap_free == "on" else "warning"
    return Lookback(), [Finding("sql.gaps", text, "cursor.overlap", hint, severity=severity)]
