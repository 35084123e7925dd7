"""The counters of a stream task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.metrics import TaskMetrics, now_ms
from headrace.pipeline.fault_policy import Failure, note_failures
from headrace.plugin import StepCounts
from headrace.records import TopicPartition


class StreamMetrics:
    """Used from the task's thread. Consumed records are counted at once, everything else when it is committed."""

    def __init__(self, metrics: TaskMetrics) -> None:
        self._metrics = metrics
        self._active = 0
        self._outputs = 0
        self._failures: list[Failure] = []
        self._refused_results: list[Failure] = []
        self._steps: dict[str, StepCounts] = {}
        self._ends: dict[TopicPartition, int] = {}

    @property
    def failures(self) -> Sequence[Failure]:
        """The refused records and results of the open transaction."""
        return [*self._failures, *self._refused_results]

    def consumed(self, topic_partition: TopicPartition, records: int, end_offset: int | None) -> None:
        """Count records that are processed now. ``end_offset``: the end of the partition."""
        self._active += records
        self._metrics.change({"stream_record_read_total": records, "stream_record_active_count": records})
        self._metrics.set("last_record_timestamp_ms", now_ms())
        if end_offset is not None:
            self._ends[topic_partition] = end_offset

    def processed(self, outputs: int, failures: Sequence[Failure], steps: Mapping[str, StepCounts]) -> None:
        self._outputs += outputs
        self._failures += failures
        for name, counts in steps.items():
            self._steps.setdefault(name, StepCounts()).add(counts)

    def results_refused(self, failures: Sequence[Failure]) -> None:
        """Count results, which are no records that were read."""
        self._refused_results += failures

    def committed(self, positions: Mapping[TopicPartition, int], entries: int, *, dead_lettered: bool) -> None:
        """Count the transaction. ``entries``: of the state."""
        refused = len(self._failures)
        outcome = "dead_lettered" if dead_lettered else "skipped"
        self._metrics.change(
            {
                "stream_record_active_count": -self._active,
                "stream_record_commit_total": self._active - refused,
                f"stream_record_{outcome}_total": refused,
                f"stream_result_{outcome}_total": len(self._refused_results),
                "stream_output_total": self._outputs,
                "stream_late_total": sum(counts.late for counts in self._steps.values()),
                "offset_commit_total": 1,
            }
        )
        note_failures(self._metrics.causes, outcome, self.failures)
        for step, counts in self._steps.items():
            self._metrics.count_step(step, counts.received, counts.dropped, counts.late, counts.outcomes)
        self._metrics.set("stream_state_entries", entries)
        lag = sum(max(0, end - positions[place]) for place, end in self._ends.items() if place in positions)
        self._metrics.set("stream_record_lag", lag)
        self._forget()

    def discarded(self) -> None:
        """Count the records of a transaction that failed: they are read again."""
        self._metrics.change(
            {"stream_record_active_count": -self._active, "stream_record_discarded_total": self._active}
        )
        self._forget()

    def restored(self, records: int) -> None:
        self._metrics.add("stream_restored_total", records)

    def _forget(self) -> None:
        self._active = self._outputs = 0
        self._failures, self._refused_results, self._steps = [], [], {}
