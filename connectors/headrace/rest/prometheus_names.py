"""Names, types and units of task counters in Prometheus: seconds, and ``_total`` for what only grows.

The names of ``headrace.metrics`` are those of Kafka Connect, in milliseconds and without types; ``/v1/metrics`` has
them unchanged. Rules: https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from headrace.step_accounting import TERMS

GAUGES = frozenset(
    {
        "source_record_active_count",
        "source_record_remaining",
        "sink_record_active_count",
        "sink_record_lag",
        "sink_record_age_ms",
        "stream_record_active_count",
        "stream_record_lag",
        "stream_state_entries",
        *(f"stream_account_{term}" for term in TERMS),  # of the partitions that the task has
        "stream_account_missing",
        "last_record_timestamp_ms",
        "newest_record_timestamp_ms",
        "source_position_lag_ms",
        "source_position_lag_records",
    },
)
"""Counters of a task, or of its parts, that go up and down; all others only grow."""

_RENAMED = {
    # Prometheus reserves the ending _count for histograms.
    "source_record_active_count": "source_records_in_flight",
    "sink_record_active_count": "sink_records_in_flight",
    "stream_record_active_count": "stream_records_in_flight",
    "total_record_errors": "task_record_errors_total",
    "total_records_skipped": "task_records_skipped_total",
    "total_retries": "task_retries_total",
}


class ExposedMetric(NamedTuple):
    """A metric as Prometheus sees it; a value of the task is multiplied by ``factor``."""

    name: str
    type: Literal["counter", "gauge"]
    factor: float = 1


def exposed(name: str) -> ExposedMetric:
    """Return how the counter ``name`` of ``headrace.metrics`` is exposed."""
    in_milliseconds = name.endswith(("_ms", "_ms_total"))
    base = _RENAMED.get(name, name).removesuffix("_total")
    if in_milliseconds:
        base = base.removesuffix("_ms") + "_seconds"
    gauge = name in GAUGES
    ending = "" if gauge else "_total"
    return ExposedMetric(f"headrace_{base}{ending}", "gauge" if gauge else "counter", 0.001 if in_milliseconds else 1)
