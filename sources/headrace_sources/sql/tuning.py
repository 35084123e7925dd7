"""Durations and sizes that users cannot configure, in one place so that a test can replace one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace_sources.sql.clock import utc_now


@dataclass(frozen=True)
class Tuning:
    """Durations are in seconds where no unit is named. See ``SqlSourceTask.tuning``."""

    now: Callable[[], datetime] = utc_now
    """The system clock."""
    quarantine: float = 30.0
    """The longest pause before a table that cannot be read is tried again. The first pauses are shorter."""
    slow_statement: float = 3.0
    """How long a statement may take before the status reports it and what it waits for."""
    status_interval: float = 5.0
    """How long a read takes before the status reports its progress, and the interval of these reports."""
    transaction_wait: float = 10.0
    """The longest that a first reading waits for open transactions that may have written anywhere."""
    blocked_after: float = 5.0
    """The age from which the status names a transaction that holds the stored position back."""
    sequence_check_interval: float = 60.0
    """Between two checks that ids still grow, where each check is a statement of its own."""
    least_lookback: timedelta = timedelta(seconds=2)
    """A transaction takes its timestamp before the database lists it, and a column may round it to the second."""
    keys_per_page: int = 10_000
    """Keys that one step of a comparison reads."""
    keys_per_query: int = 500
    """Keys that one statement names, and the most tombstones of a batch."""
