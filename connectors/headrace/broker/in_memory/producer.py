"""Producers of the in-memory Kafka."""

from __future__ import annotations

from headrace.broker.in_memory.cluster import InMemoryCluster, InMemoryDelivery
from headrace.errors import DataError
from headrace.records import EncodedBatch


class InMemoryProducer:
    """See :class:`headrace.broker.interfaces.Producer`."""

    def __init__(self, cluster: InMemoryCluster, max_request_size: int) -> None:
        self._cluster = cluster
        self._max_request_size = max_request_size
        self._closed = False

    def send(self, batch: EncodedBatch) -> InMemoryDelivery:
        if self._closed:
            raise RuntimeError("send after close")
        require_valid(batch, self._max_request_size)
        return self._cluster.take(self, batch)

    def flush(self, timeout: float) -> bool:
        with self._cluster.changed:
            return self._cluster.changed.wait_for(lambda: not self._cluster.waiting(self), timeout)

    def connection_problem(self) -> str | None:
        return self._cluster.connection_problem()

    def abandon(self) -> bool:
        self._cluster.give_up(self)
        return True

    def close(self, timeout: float) -> None:
        if not self._closed:
            self.flush(timeout)
            self._closed = True
            self._cluster.give_up(self)


def require_valid(batch: EncodedBatch, max_request_size: int) -> None:
    """Raise DataError for a record that Kafka's clients refuse."""
    keys = batch.keys if batch.keys is not None else [None] * len(batch)
    for key, value in zip(keys, batch.values, strict=True):
        if key is None and value is None:
            raise DataError("a record needs a key or a value", code="data.empty_record")
        if (size := len(key or b"") + len(value or b"")) > max_request_size:
            raise DataError(f"the record has {size} bytes", code="data.record_too_large")
