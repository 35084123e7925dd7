"""Batches that were sent and are not yet acknowledged, in order, per source partition.

What may be committed of a source partition is the offset after its longest acknowledged *prefix*: a later batch that
overtook an unacknowledged one does not count. Partitions never hold each other back.
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
    """A polled batch on its way, in one or more encoded batches (transforms may route records elsewhere)."""

    batch: SourceBatch
    encoded: list[EncodedBatch]
    deliveries: list[Delivery]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(part.size() for part in self.encoded)

    def done(self) -> bool:
        """Whether the fate of every record is known."""
        return all(delivery.done() for delivery in self.deliveries)

    def acknowledged(self) -> bool:
        """Whether the broker has every record."""
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
        """Bytes, as batches tell them."""
        self.records = 0

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[InFlightBatch]:
        """In the order they were sent."""
        return iter(list(self._order))

    def add(self, entry: InFlightBatch) -> None:
        """Note a batch that was just sent."""
        self._queues.setdefault(_key(entry.batch.source_partition), deque()).append(entry)
        self._order[entry] = None
        self.size += entry.size
        self.records += entry.records()

    def failed(self) -> InFlightBatch | None:
        """The oldest entry of which a delivery has failed."""
        for entry in self._order:
            if any(delivery.done() and delivery.error() is not None for delivery in entry.deliveries):
                return entry
        return None

    def remove_acknowledged(self) -> list[InFlightBatch]:
        """Take out what is acknowledged with everything before it. What has failed stays, whenever it did."""
        acknowledged = []
        for queue in self._queues.values():
            while queue and queue[0].acknowledged():
                entry = queue.popleft()
                del self._order[entry]
                self.size -= entry.size
                self.records -= entry.records()
                for partition, offset in entry.batch.positions():
                    self._committable[_key(partition)] = (partition, offset)
                acknowledged.append(entry)
        return acknowledged

    def take_committable(self) -> dict[bytes, tuple[SourcePartition, SourceOffset | None]]:
        """Positions that were not taken before; give them back by :meth:`give_back` when storing fails."""
        taken, self._committable = self._committable, {}
        return taken

    def give_back(self, positions: dict[bytes, tuple[SourcePartition, SourceOffset | None]]) -> None:
        """What could not be stored; newer positions win."""
        self._committable = {**positions, **self._committable}


def _key(partition: SourcePartition | None) -> bytes:
    return b"" if partition is None else orjson.dumps(dict(partition))
