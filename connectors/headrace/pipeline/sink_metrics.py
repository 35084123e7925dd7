"""The counters of a sink task, kept apart from the loop that moves its records."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headrace.metrics import TaskMetrics, now_ms
from headrace.pipeline.put_queue import InFlightPut
from headrace.records import ConsumedBatch, TopicPartition


class SinkMetrics:
    """Used from the task's thread, once per poll or put."""

    def __init__(self, metrics: TaskMetrics) -> None:
        self._metrics = metrics
        self._lags: dict[TopicPartition, int] = {}
        self._putting = 0.0  # seconds

    def consumed(self, records: int) -> None:
        self._metrics.add("sink_record_read_total", records)
        self._metrics.set("last_record_timestamp_ms", now_ms())

    def written(self, put: InFlightPut, rejections: int, seconds: float) -> None:
        self._putting += seconds  # many puts take less than a millisecond
        self._metrics.set("put_batch_time_ms_total", round(self._putting * 1000))
        self._metrics.add("sink_record_send_total", sum(map(len, put.batches)) - rejections)

    def settled(self, consumed: Collection[ConsumedBatch]) -> None:
        """Update lag and age from batches whose records are durable."""
        for batch in consumed:
            if batch.end_offset is not None:
                self._lags[batch.topic_partition] = max(0, batch.end_offset - batch.offsets[-1] - 1)
        self._metrics.set("sink_record_lag", sum(self._lags.values()))
        newest = max((batch.timestamps[-1] for batch in consumed), default=0)
        if newest > 0:
            self._metrics.set("sink_record_age_ms", max(0, now_ms() - newest))

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Drop the lag of partitions that another member reads now."""
        for topic_partition in partitions:
            self._lags.pop(topic_partition, None)
        self._metrics.set("sink_record_lag", sum(self._lags.values()))

    def committed(self) -> None:
        self._metrics.add("offset_commit_total")

    def commit_failed(self) -> None:
        self._metrics.add("offset_commit_failure_total")
