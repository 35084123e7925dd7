"""How far a task is, from the counters that its loop keeps."""

from __future__ import annotations

from headrace.metrics import TaskMetrics, now_ms
from headrace.runtime.api import TaskProgress

_LAG = ("sink_record_lag", "source_record_active_count", "source_record_remaining")


def task_progress(metrics: TaskMetrics) -> TaskProgress:
    """Return the progress of a source task or a sink task; the counters of the other kind are 0."""
    values = metrics.snapshot()
    newest = metrics.freshness.as_of or values["newest_record_timestamp_ms"]
    return TaskProgress(
        records_per_second=round(metrics.rate.per_second(), 1),
        lag=sum(values[name] for name in _LAG),
        newest_record_age_ms=max(0, now_ms() - newest) if newest else None,
        dead_letters=values["deadletterqueue_produce_requests"] - values["deadletterqueue_produce_failures"],
    )
