"""Batches that were sent and are not yet acknowledged, in order, per source partition.

What may be committed of a source partition is the offset after its longest acknowledged *prefix*: a later batch that
overtook an unacknowledged one does not count. Partitions are independent of each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from headrace.broker.interfaces import Delivery
from headrace.records import EncodedBatch, SourceBatch, SourceOffset, SourcePartition


@dataclass(slots=True, eq=False)
class InFlightBatch:
    """A polled batch that was sent as one or more encoded batches: transforms may route records to other topics."""

    batch: SourceBatch
    encoded: list[EncodedBatch]
    deliveries: list[Delivery]
    polled: int = 0
    """When the batch was read, epoch milliseconds."""
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(part.size() for part in self.encoded)

    def done(self) -> bool:
        """Whether the result of every record is known."""
        return all(delivery.done() for delivery in self.deliveries)

    def acknowledged(self) -> bool:
        """Whether every record is acknowledged."""
        return all(delivery.done() and delivery.error() is None for delivery in self.deliveries)

    def records(self) -> int:
        return sum(map(len, self.encoded))


class InFlight:
    """Used from the task's thread only."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[InFlightBatch]] = {}
        self._order: dict[InFlightBatch, None] = {}  # all entries, in the order they were sent
        self._committable: dict[bytes, tuple[SourcePartition, SourceOffset | None]] = {}
        self.size = 0
        """Approximate size in bytes."""
        self.records = 0

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[InFlightBatch]:
        """Yield the batches in the order in which they were sent."""
        return iter(list(self._order))

    def add(self, entry: InFlightBatch) -> None:
        """Add a batch that was sent."""
        self._queues.setdefault(partition_key(entry.batch.source_partition), deque()).append(entry)
        self._order[entry] = None
        self.size += entry.size
        self.records += entry.records()

    def failed(self) -> InFlightBatch | None:
        """Return the oldest batch with a failed delivery."""
        for entry in self._order:
            if any(delivery.done() and delivery.error() is not None for delivery in entry.deliveries):
                return entry
        return None

    def remove_acknowledged(self) -> list[InFlightBatch]:
        """Remove and return the batches that are acknowledged, like all batches before them. Failed batches remain."""
        acknowledged = []
        for queue in self._queues.values():
            while queue and queue[0].acknowledged():
                entry = queue.popleft()
                del self._order[entry]
                self.size -= entry.size
                self.records -= entry.records()
                for partition, offset in entry.batch.positions():
                    self._committable[partition_key(partition)] = (partition, offset)
                acknowledged.append(entry)
        return acknowledged

    def take_committable(self) -> dict[bytes, tuple[SourcePartition, SourceOffset | None]]:
        """Return positions that were not returned before; :meth:`give_back` restores them when storing fails."""
        taken, self._committable = self._committable, {}
        return taken

    def give_back(self, positions: dict[bytes, tuple[SourcePartition, SourceOffset | None]]) -> None:
        """Restore positions that could not be stored, except where there are newer ones."""
        self._committable = {**positions, **self._committable}


def partition_key(partition: SourcePartition | None) -> bytes:
    """Return a key that is equal for equal partitions."""
    return b"" if partition is None else orjson.dumps(dict(partition))
