"""The counters of a sink task."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headrace.metrics import TaskMetrics, now_ms
from headrace.pipeline.fault_policy import Stage, note_failures
from headrace.pipeline.hop_times import SinkHops
from headrace.pipeline.put_queue import InFlightPut
from headrace.records import ConsumedBatch, TopicPartition


class SinkMetrics:
    """Used from the task's thread, once per poll or put."""

    def __init__(self, metrics: TaskMetrics, hops: SinkHops | None = None) -> None:
        self._metrics = metrics
        self.hops = hops or SinkHops(metrics.freshness)
        self._lags: dict[TopicPartition, int] = {}
        self._putting = 0.0  # seconds

    def consumed(self, batches: Collection[ConsumedBatch]) -> None:
        records = sum(map(len, batches))
        for batch in batches:  # also before the first write: a task that cannot write yet has a lag
            if batch.end_offset is not None and batch.topic_partition not in self._lags:
                self._lags[batch.topic_partition] = batch.end_offset - batch.offsets[0]
        self._metrics.set("sink_record_lag", sum(self._lags.values()))
        self._metrics.change({"sink_record_read_total": records, "sink_record_active_count": records})
        self._metrics.set("last_record_timestamp_ms", now_ms())
        self.hops.read(batches)

    def put_returned(self, seconds: float) -> None:
        self._putting += seconds  # many puts take less than a millisecond
        self._metrics.set("put_batch_time_ms_total", round(self._putting * 1000))

    def settled(self, put: InFlightPut, *, transformed: bool, dead_lettered: bool) -> None:
        """Count the outcome of each record of a put that is finished (see :mod:`headrace.accounting`)."""
        read, reached, failed = put.records(), sum(map(len, put.batches)), len(put.failures)
        rejected = sum(failure.stage is Stage.TASK_PUT for failure in put.failures)
        filtered = split = 0
        if transformed:
            filtered, split = _reshaped(put, read, reached + failed - rejected)
        unchanged = sum(item.count for item in put.not_written if not item.skipped)
        skipped = sum(item.count for item in put.not_written if item.skipped)
        # A sink may still count records of partitions that were revoked while it wrote the put.
        unchanged = min(unchanged, reached - rejected)
        skipped = min(skipped, reached - rejected - unchanged)
        self._metrics.change(
            {
                "sink_record_active_count": -read,
                "sink_record_send_total": reached - rejected - unchanged - skipped,
                "sink_record_unchanged_total": unchanged,
                "sink_record_filtered_total": filtered,
                "sink_record_split_total": split,
                "sink_record_dead_lettered_total": failed if dead_lettered else 0,
                "sink_record_skipped_total": skipped + (0 if dead_lettered else failed),
            }
        )
        for item in put.not_written:
            outcome = "skipped" if item.skipped else "unchanged"
            self._metrics.causes.note(outcome, item.cause, item.count, item.example)
        note_failures(self._metrics.causes, "dead_lettered" if dead_lettered else "skipped", put.failures)
        if filtered:
            self._metrics.causes.note("filtered", "transform", filtered)
        self.durable(put.consumed.values())
        self._metrics.rate.note(read)

    def discarded(self, records: int) -> None:
        """Count records that are read again by the next owner of their partition."""
        if records:
            self._metrics.change({"sink_record_active_count": -records, "sink_record_discarded_total": records})

    def durable(self, consumed: Collection[ConsumedBatch]) -> None:
        """Update lag and age from batches whose records are durable."""
        for batch in consumed:
            if batch.end_offset is not None:
                self._lags[batch.topic_partition] = max(0, batch.end_offset - batch.offsets[-1] - 1)
        self._metrics.set("sink_record_lag", sum(self._lags.values()))
        self.hops.written(consumed)
        newest = max((batch.timestamps[-1] for batch in consumed), default=0)
        if newest > 0:
            self._metrics.set("sink_record_age_ms", max(0, now_ms() - newest))
            self._metrics.note_newest(newest)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Drop the lag of partitions that another member reads now."""
        self.hops.revoked(partitions)
        for topic_partition in partitions:
            self._lags.pop(topic_partition, None)
        self._metrics.set("sink_record_lag", sum(self._lags.values()))

    def committed(self) -> None:
        self._metrics.add("offset_commit_total")

    def commit_failed(self) -> None:
        self._metrics.add("offset_commit_failure_total")


def _reshaped(put: InFlightPut, read: int, results: int) -> tuple[int, int]:
    """Return how many of the ``read`` records transforms dropped, and how many of the ``results`` they added."""
    places = {(batch.topic_partition, offset) for batch in put.batches for offset in batch.offsets}
    places |= {(failure.topic_partition, failure.offset) for failure in put.failures}
    return read - len(places), results - len(places)
