"""The in-flight puts of a sink task: a state machine without I/O that says what may be done and what committed.

A put moves on by one step at a time; a step that raises RetriableError leaves it where it is::

    CONSUMED ──CONVERT──▶ CONVERTED ──BEGIN──▶ BEGUN ──FINISH──▶ WRITTEN ──SETTLE──▶ removed

=========  ========  ==========================================================================================
step       allowed   what is done
=========  ========  ==========================================================================================
CONVERT    any put   convert and transform
BEGIN      any put   hand the records to the task; only when every earlier put has begun, so that writes keep order
FINISH     oldest    wait until every record is durable or rejected
SETTLE     oldest    dead letters, errors.tolerance; the put's positions may be committed from then on
=========  ========  ==========================================================================================

The queue as a whole:

=========  ==========================  =========  ==================================================================
mode       event                       next mode  effect
=========  ==========================  =========  ==================================================================
FLOWING    add                         FLOWING    the put is the newest
FLOWING    the oldest put fails        RETRYING   partitions are paused, nothing is added
RETRYING   the oldest put fails        RETRYING
RETRYING   the last put is removed     FLOWING    partitions are resumed
either     partitions are revoked      unchanged  their records and positions are discarded; puts stay, perhaps empty
=========  ==========================  =========  ==================================================================
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from headrace.errors import RetriableError
from headrace.pipeline.fault_policy import Failure
from headrace.plugin import PendingPut
from headrace.records import ConsumedBatch, NotWritten, SinkBatch, TopicPartition


class PutState(enum.Enum):
    """The state of a put."""

    CONSUMED = 0
    CONVERTED = 1
    BEGUN = 2
    WRITTEN = 3
    SETTLED = 4


class PutStep(enum.Enum):
    """A step of a put; the value is the state that it leads to."""

    CONVERT = PutState.CONVERTED
    BEGIN = PutState.BEGUN
    FINISH = PutState.WRITTEN
    SETTLE = PutState.SETTLED


_NEXT_STEP = {
    PutState.CONSUMED: PutStep.CONVERT,
    PutState.CONVERTED: PutStep.BEGIN,
    PutState.BEGUN: PutStep.FINISH,
    PutState.WRITTEN: PutStep.SETTLE,
}


@dataclass(eq=False)
class InFlightPut:
    """Consumed batches and their results. ``consumed`` is kept for conversion retries and dead letters."""

    consumed: dict[TopicPartition, ConsumedBatch]
    batches: list[SinkBatch] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    not_written: Sequence[NotWritten] = ()
    pending: PendingPut | None = None
    state: PutState = PutState.CONSUMED
    failure: RetriableError | None = None
    """Why a step failed before it was this put's turn; it counts as a failed attempt when its turn comes."""

    def step(self) -> PutStep:
        """Return the step that comes next."""
        return _NEXT_STEP[self.state]

    def records(self) -> int:
        """Return the number of consumed records."""
        return sum(map(len, self.consumed.values()))

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        """Discard the records of partitions that were revoked; their new owner starts at the committed position."""
        revoked = set(partitions)
        self.consumed = {key: batch for key, batch in self.consumed.items() if key not in revoked}
        self.batches = [batch for batch in self.batches if batch.topic_partition not in revoked]
        self.failures = [failure for failure in self.failures if failure.topic_partition not in revoked]
        if self.pending is not None:
            self.pending.discard(revoked)


class PutQueue:
    """Puts in the order in which their records were read, and the positions that are durable. Used from one thread."""

    def __init__(self) -> None:
        self._puts: deque[InFlightPut] = deque()
        self._durable: dict[TopicPartition, int] = {}
        self.retrying = False
        """Mode RETRYING."""

    def __len__(self) -> int:
        return len(self._puts)

    def records(self) -> int:
        """Return the number of consumed records that are not settled."""
        return sum(put.records() for put in self._puts)

    def add(self, consumed: Sequence[ConsumedBatch]) -> InFlightPut:
        """Add consumed batches. Raise RuntimeError while retrying, when nothing may be read."""
        if self.retrying:
            raise RuntimeError("records were read while an earlier put is retried")
        put = InFlightPut({batch.topic_partition: batch for batch in consumed})
        self._puts.append(put)
        return put

    def oldest(self, limit: int = 0) -> InFlightPut | None:
        """Return the put whose turn it is; None when no more than ``limit`` are open (while retrying: none)."""
        return self._puts[0] if len(self._puts) > (0 if self.retrying else limit) else None

    def begun(self) -> InFlightPut | None:
        """Return the oldest put when the task is writing it and it is not being retried."""
        put = self._puts[0] if self._puts else None
        if put is None or self.retrying or put.pending is None or put.state.value < PutState.BEGUN.value:
            return None
        return put

    def allowed(self, put: InFlightPut) -> bool:
        """Whether the put's next step may be carried out now."""
        match put.step():
            case PutStep.CONVERT:
                return True
            case PutStep.BEGIN:
                older = takewhile(lambda other: other is not put, self._puts)
                return all(other.state.value >= PutState.BEGUN.value for other in older)
            case PutStep.FINISH | PutStep.SETTLE:
                return put is self._puts[0]

    def advance(self, put: InFlightPut) -> None:
        """Note that the put's next step was carried out. Raise RuntimeError when it was not allowed."""
        step = put.step()
        if not self.allowed(put):
            raise RuntimeError(f"{step.name} of a put whose turn it is not")
        put.state = step.value
        if put.state is PutState.SETTLED:
            self._puts.popleft()
            for topic_partition, batch in put.consumed.items():
                self._durable[topic_partition] = batch.offsets[-1] + 1
            if not self._puts:
                self.retrying = False

    def fail(self) -> None:
        """Note that a step of the oldest put failed and will be retried."""
        self.retrying = True

    def revoke(self, partitions: Collection[TopicPartition]) -> None:
        """Discard the records and positions of partitions that now belong to another member."""
        for topic_partition in partitions:
            self._durable.pop(topic_partition, None)
        for put in self._puts:
            put.discard(partitions)

    def clear(self) -> None:
        """Discard all puts; their records are read again from the committed positions."""
        self._puts.clear()

    def committable(self) -> dict[TopicPartition, int]:
        """Return the durable positions that are not committed yet."""
        return dict(self._durable)

    def committed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that these positions were committed."""
        for topic_partition, offset in positions.items():
            if self._durable.get(topic_partition) == offset:
                del self._durable[topic_partition]
