"""What the loop of a source task requires of a delivery, which brings records and positions to Kafka."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.errors import RetriableError
from headrace.metrics import now_ms
from headrace.pipeline.control import TaskControl
from headrace.pipeline.fault_policy import Failure, FaultPolicy
from headrace.pipeline.hop_times import SourceHops
from headrace.pipeline.in_flight import InFlightBatch
from headrace.pipeline.refused_rows import RowRefusals
from headrace.plugin import SourceTask
from headrace.records import SourceBatch


class SourceDelivery(Protocol):
    """Used from the task's thread. Methods raise what fails the task, and TaskAbandonedError."""

    def open(self) -> None:
        """Open the clients, before the task starts. Retry until told to stop."""
        ...

    @property
    def is_full(self) -> bool:
        """Return whether so much is on its way that the task must not poll."""
        ...

    @property
    def unfinished(self) -> bool:
        """Return whether the task must poll even if it is paused, to come to a position that can be stored."""
        ...

    def advance(self, *, paused: bool) -> None:
        """Do what is due: process acknowledgements, store positions."""
        ...

    def seconds_to_wait(self) -> float:
        """Return after how many seconds :meth:`advance` must be called again."""
        ...

    def ensure_topics(self, topics: Collection[str]) -> bool:
        """Create missing topics. Return False when told to stop before that succeeded."""
        ...

    def poll_failed(self, error: RetriableError) -> None:
        """Note that a poll has failed and will be repeated."""
        ...

    def write_dead_letters(self, batch: SourceBatch, failures: Sequence[Failure]) -> None:
        """Write the refused rows of a batch to the dead letter queue, if there is one. Raise RetriableError.

        The position moves past a refused row only after that.
        """
        ...

    def send(self, entry: InFlightBatch) -> None:
        """Send a batch. Its position is stored when all of it, and all before it, is in Kafka."""
        ...

    def finish(self) -> None:
        """Complete what was sent, within the flush timeout, and close the clients; also after an error."""
        ...


@dataclass(frozen=True)
class DeliveryParts:
    """What a delivery shares with the loop of its task."""

    task: SourceTask
    policy: FaultPolicy
    refusals: RowRefusals
    hops: SourceHops
    control: TaskControl
    monotonic: Callable[[], float]

    def acknowledged(self, entries: Sequence[InFlightBatch]) -> None:
        """Count batches that are in Kafka, and tell the task."""
        metrics = self.control.metrics
        records = sum(entry.records() for entry in entries)
        metrics.change({"source_record_write_total": records, "source_record_active_count": -records})
        metrics.rate.note(records)
        metrics.note_newest(max((_newest(entry) for entry in entries if entry.encoded), default=0))
        self.hops.acknowledged(entries)
        self.control.fence.check()
        for entry in entries:
            self.task.acknowledged(entry.batch)


OpenDelivery = Callable[[DeliveryParts], SourceDelivery]


def _newest(entry: InFlightBatch) -> int:
    """Return the greatest timestamp of a batch in which Kafka took the time of arrival for records without one."""
    return max(max(part.timestamps) if part.timestamps else now_ms() for part in entry.encoded)
