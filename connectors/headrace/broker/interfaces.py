"""What the framework needs of a Kafka client, as typed Protocols.

Adapters (kafka-python, the in-memory double) pass one contract test suite. All methods raise only
:class:`RetriableError` (the broker may come back, or let us in: ``kafka.unreachable``, ``kafka.authentication``,
``kafka.certificate``), :class:`InfrastructureError` (not authorised, an invalid topic) and :class:`DataError`
(record too large); a client's own exceptions end at the adapter.
Client settings have Kafka's dotted names (``max.poll.records``, ``security.protocol``) and string values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.errors import RetriableError
from headrace.records import ConsumedBatch, EncodedBatch, TopicPartition


class Delivery(Protocol):
    """The fate of one produced batch."""

    def done(self) -> bool:
        """Whether every record is acknowledged or some record has failed. Never blocks."""
        ...

    def error(self) -> Exception | None:
        """After ``done``: None when all are acknowledged, else the first failure, as one of this module's errors."""
        ...


class Producer(Protocol):
    """Sends batches in order. Used from one thread."""

    def send(self, batch: EncodedBatch) -> Delivery:
        """Hand a batch to the client; may block while its buffer is full, then raises RetriableError.

        Records of one key keep their order, retries included (idempotence, acks=all).
        """
        ...

    def flush(self, timeout: float) -> bool:
        """Wait until all sent batches are done; False when ``timeout`` seconds passed first."""
        ...

    def trouble(self) -> str | None:
        """Why nothing moves, in a sentence ("broker 127.0.0.1:9092 does not answer"); None when well. Never blocks."""
        ...

    def close(self, timeout: float) -> None:
        """Close; what is not delivered within ``timeout`` seconds is given up."""
        ...


@dataclass(frozen=True)
class RebalanceListener:
    """Called inside ``poll`` (and ``close``), on the consumer's thread."""

    revoked: Callable[[Sequence[TopicPartition]], None]
    """Before these are taken away: the last moment to commit."""
    assigned: Callable[[Sequence[TopicPartition]], None]


class Consumer(Protocol):
    """A member of a consumer group. Used from one thread; only ``wakeup`` may come from another."""

    def subscribe(self, topics: Sequence[str], pattern: str | None, listener: RebalanceListener) -> None:
        """Subscribe to ``topics``, or to all topics that fully match the regex ``pattern``."""
        ...

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        """Records by partition, up to ``max_records``; empty after ``timeout`` seconds without any.

        Heartbeats go on; calling it at least every ``max.poll.interval.ms`` keeps the membership.
        """
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the next offset to read per partition, synchronously."""
        ...

    def pause_all(self) -> None:
        """Deliver nothing from the assigned partitions until :meth:`resume_all`; new ones of a rebalance too."""
        ...

    def resume_all(self) -> None:
        """Deliver again."""
        ...

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        """Read from ``offset`` at the next poll."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions this member owns."""
        ...

    def trouble(self) -> str | None:
        """Why nothing moves, in a sentence ("broker 127.0.0.1:9092 does not answer"); None when well. Never blocks."""
        ...

    def close(self) -> None:
        """Leave the group (the listener's ``revoked`` is called first) and close."""
        ...


class Reader(Protocol):
    """Reads partitions from given offsets, without a group: nothing is committed, nobody else is disturbed.

    Used from one thread.
    """

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from now on, and only these; where an offset is gone already, from the first that is there."""
        ...

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        """As a consumer's."""
        ...

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to read of each assigned partition. It passes gaps that compaction and transactions leave,
        at the end of a partition too."""
        ...

    def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each; above 0 when retention has removed records. Compaction does not move it."""
        ...

    def trouble(self) -> str | None:
        """As a consumer's."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create; -1 = the broker's default. ``config`` are topic settings (``cleanup.policy``)."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    config: Mapping[str, str] = field(default_factory=dict)


class Admin(Protocol):
    """Topics and groups. Thread-safe."""

    def cluster_id(self) -> str:
        """The Kafka cluster's id; also the cheapest proof that the broker answers."""
        ...

    def topics(self) -> frozenset[str]:
        """Names of all topics that are not internal."""
        ...

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Create those that are missing; existing ones are left as they are."""
        ...

    def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """The next offset of every partition of ``topics``; unknown topics are left out."""
        ...

    def begin_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """The first offset that is there of every partition of ``topics``; unknown topics are left out."""
        ...

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """A consumer group's stored offsets; empty when the group does not exist."""
        ...

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Store offsets of a group that nobody is in; it need not exist. Raises RetriableError while it has members."""
        ...

    def close(self) -> None: ...


def group_in_use(group: str) -> RetriableError:
    """What :meth:`Admin.commit` raises while somebody is in the group."""
    return RetriableError(
        f"cannot move the offsets of group {group}: it has members",
        code="kafka.group_in_use",
        hint="stop whoever reads as a member of it; a task that was killed is one until its session.timeout.ms is over",
    )


class Broker(Protocol):
    """Makes clients of one Kafka cluster. ``settings`` are merged over the broker's own."""

    def producer(self, settings: Mapping[str, str]) -> Producer: ...

    def consumer(self, group: str, settings: Mapping[str, str]) -> Consumer: ...

    def admin(self, settings: Mapping[str, str]) -> Admin: ...
