"""Time limits of the sink task that users do not configure; tests pass shorter ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SinkTimings:
    """All in seconds."""

    delivery_timeout: float = 10.0
    """A delivery that takes longer fails with its reason, so that the framework can poll and show the reason."""
    stop_timeout: float = 2.0
    """A stopping task waits so long for outstanding responses."""
    repeat_deletes_after: float = 30.0
    """A put that took longer sends its deletes a second time. Elasticsearch remembers the version of a deleted document
    for 60 s (``index.gc_deletes``); after that, a delayed older write would create the document again."""
    index_check_interval: float = 1.0
    """Between two checks that an index still exists. Elasticsearch creates a deleted index again with the next bulk
    request, with guessed mappings, so the interval is short; a check is one request per index."""
    index_limit_period: float = 86_400.0
    """Records may choose ``index.name.limit`` indices in this period; time-based names add some every day."""


DEFAULT_TIMINGS = SinkTimings()
