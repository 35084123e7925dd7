"""Counters of a task, cheap enough for the hot path, with names fixed in one table.

A task's loop adds to plain integers once per batch from its own thread; readers (REST, Prometheus, the demo's view)
take a snapshot. Names follow Kafka Connect's attributes (``source-record-write-total``), written with underscores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.accounting import PartitionAccounts, RecordCauses
from headrace.freshness import TaskFreshness
from headrace.step_accounting import StepAccounts, step_balance
from headrace.worker_events import RecentEvents

DESCRIPTIONS: dict[str, str] = {
    "source_record_poll_total": "Records read from the source, before transforms.",
    "source_record_write_total": "Records acknowledged by the broker.",
    "source_record_active_count": "Records read and not yet acknowledged.",
    "source_record_split_total": "Records that transforms made in addition, by splitting.",
    "source_record_filtered_total": "Records dropped by transforms.",
    "source_record_dead_lettered_total": "Rows and records refused and written to the dead letter queue.",
    "source_record_skipped_total": "Rows and records refused and skipped by errors.tolerance.",
    "source_record_discarded_total": "Records in flight when the task ended; they are read again.",
    "source_record_remaining": "Records that a long reading of the source has yet to read, estimated.",
    "sink_record_read_total": "Records read from Kafka, before transforms.",
    "sink_record_send_total": "Records written to the sink's system.",
    "sink_record_active_count": "Records read from Kafka whose result is not known yet.",
    "sink_record_unchanged_total": "Records that the sink's system has in the same or a newer version.",
    "sink_record_split_total": "Records that transforms made in addition, by splitting.",
    "sink_record_filtered_total": "Records dropped by transforms.",
    "sink_record_dead_lettered_total": "Records refused and written to the dead letter queue.",
    "sink_record_skipped_total": "Records refused and skipped, by errors.tolerance or by the sink's configuration.",
    "sink_record_discarded_total": "Records in flight when their partition was reassigned or the task ended.",
    "sink_record_lag": "Records in Kafka that this task has not written yet, as of its last poll.",
    "sink_record_age_ms": "Age of the newest record when it became durable in the sink's system.",
    "stream_record_read_total": "Records that a stream task read from Kafka, those of its repartition topics included.",
    "stream_record_commit_total": "Records whose outputs and state changes are committed.",
    "stream_record_active_count": "Records read by a stream task that are not committed yet.",
    "stream_record_dead_lettered_total": "Records that a step or converter refused, written to the dead letter queue.",
    "stream_record_skipped_total": "Records that a step or converter refused, skipped by errors.tolerance.",
    "stream_result_dead_lettered_total": "Results of windows and joins that a step refused, in the dead letter queue.",
    "stream_result_skipped_total": "Results of windows and joins that a step refused, skipped by errors.tolerance.",
    "stream_record_discarded_total": "Records of a failed transaction or of an ended task; they are read again.",
    "stream_record_lag": "Records in Kafka that a stream task has not committed yet.",
    "stream_output_total": "Records that a stream task wrote and committed, without changelogs.",
    "stream_late_total": "Records that came after the end of their window and its grace.",
    "stream_state_entries": "Entries in the state of a stream task.",
    "stream_restored_total": "Changelog records that a stream task read to restore state.",
    "poll_batch_time_ms_total": "Time spent in the connector's poll.",
    "put_batch_time_ms_total": "Time spent in the connector's put.",
    "offset_commit_total": "Commits of positions.",
    "offset_commit_failure_total": "Commits that failed and will be tried again.",
    "total_record_errors": "Records refused by a stage or by the sink.",
    "total_records_skipped": "Records skipped by errors.tolerance.",
    "total_retries": "Batches tried again.",
    "deadletterqueue_produce_requests": "Dead letters that were sent, failed ones included.",
    "deadletterqueue_produce_failures": "Dead letters that Kafka did not take; they are sent again, or the task fails.",
    "last_record_timestamp_ms": "When the last record was read, epoch milliseconds.",
    "newest_record_timestamp_ms": "Timestamp of the newest record that was written, epoch milliseconds.",
}

PART_DESCRIPTIONS: dict[str, str] = {
    "source_position_lag_ms": "How far the stored position of a part (a table) is behind what was read of it.",
    "source_position_lag_records": "Records of a part that were sent and that a restart would send again.",
    "stream_step_records": "Records that a step of a stream application received.",
    "stream_step_dropped": "Records that ended in a step: filtered, in no branch, without a row in a table.",
    "stream_step_late": "Records that came to a step after the end of their window and its grace.",
    "stream_step_left": "Left records that a join received.",
    "stream_step_matched": "Left records of a join that have a match.",
    "stream_step_unmatched": "Left records of a join that closed without a match.",
    "stream_step_left_late": "Left records that came to a join late.",
    "stream_account_received": "Records that a step with state has taken since its state began.",
    "stream_account_results": "Of the records received, those in results, or passed on by deduplicate.",
    "stream_account_matched": "Of the left records received, those with a match.",
    "stream_account_unmatched": "Of the left records received, those that closed without a match.",
    "stream_account_expired": "Of the right records received, those that can have no further match.",
    "stream_account_dropped": "Of the records received, duplicates, those behind a limit, or with a null key.",
    "stream_account_late": "Of the records received, those that were late.",
    "stream_account_open": "Of the records received, those in the state.",
    "stream_account_missing": "Records received without a known outcome; 0 unless the state lacks some.",
}
"""Gauges of parts of what a task works on."""

Parts = dict[str, dict[str, int]]
"""Part → name → value."""


class RecordRate:
    """Records per second over the last minute. Written by one thread, once per batch; read by any."""

    WINDOW = 60  # seconds

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._began = monotonic()
        self._seconds = [(-self.WINDOW, 0)] * self.WINDOW  # (second, records), in place ``second % WINDOW``

    def note(self, records: int) -> None:
        second = int(self._monotonic())
        noted, count = self._seconds[second % self.WINDOW]
        self._seconds[second % self.WINDOW] = (second, (count if noted == second else 0) + records)

    def per_second(self) -> float:
        """Return the rate; since the task began, if that is less than a minute ago."""
        now = self._monotonic()
        records = sum(count for second, count in self._seconds if second > now - self.WINDOW)
        return records / min(self.WINDOW, max(1.0, now - self._began))


@dataclass
class TaskMetrics:
    """The counters of one task. Written by one thread, read by any."""

    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DESCRIPTIONS, 0))
    _parts: Parts = field(default_factory=dict)
    causes: RecordCauses = field(default_factory=RecordCauses)
    """Why records were not written."""
    rate: RecordRate = field(default_factory=RecordRate)
    """Records whose outcome became known."""
    partitions: PartitionAccounts = field(default_factory=PartitionAccounts)
    """Of a sink or a stream application."""
    steps: StepAccounts = field(default_factory=StepAccounts)
    """Of a stream application."""
    freshness: TaskFreshness = field(default_factory=TaskFreshness)
    events: RecentEvents = field(default_factory=RecentEvents)

    def change(self, amounts: Mapping[str, int]) -> None:
        """Add to several counters and gauges in one step, so that no snapshot sees a record twice or not at all."""
        self.values.update({name: self.values[name] + amount for name, amount in amounts.items()})

    def add(self, name: str, amount: int = 1) -> None:
        """Count; ``name`` must be in the table."""
        self.values[name] += amount

    def set(self, name: str, value: int) -> None:
        """Set a gauge; ``name`` must be in the table."""
        if name not in self.values:
            raise KeyError(name)
        self.values[name] = value

    def note_newest(self, newest: int) -> None:
        """Note the timestamp of a record that was written, epoch milliseconds."""
        if newest > self.values["newest_record_timestamp_ms"]:
            self.values["newest_record_timestamp_ms"] = newest

    def set_lag(self, part: str, millis: int, records: int) -> None:
        """How far the stored position of a part is behind what was read."""
        self._parts[part] = {"source_position_lag_ms": millis, "source_position_lag_records": records}

    def count_step(self, step: str, records: int, dropped: int, late: int, outcomes: Mapping[str, int]) -> None:
        """Add to the counts of a step. ``outcomes``: of a join."""
        known = self._parts.get(step, {})
        amounts = {"stream_step_records": records, "stream_step_dropped": dropped, "stream_step_late": late}
        amounts |= {f"stream_step_{name}": amount for name, amount in outcomes.items()}
        self._parts[step] = {name: known.get(name, 0) + amount for name, amount in amounts.items()}

    def parts(self) -> Parts:
        """Gauges of parts, as they are now."""
        parts = dict(self._parts)
        for step, account in self.steps.snapshot().items():
            terms = {f"stream_account_{term}": amount for term, amount in account.items()}
            parts[step] = {**parts.get(step, {}), **terms, "stream_account_missing": step_balance(account)}
        return parts

    def snapshot(self) -> dict[str, int]:
        """A copy that does not change any more."""
        return dict(self.values)


def now_ms() -> int:
    """Wall clock, epoch milliseconds."""
    return time.time_ns() // 1_000_000
