"""Protocols that the framework requires of a Kafka client.

All adapters (kafka-python, librdkafka, the in-memory Kafka) pass one contract test suite. All methods raise only
:class:`RetriableError` (a transient failure: ``kafka.unreachable``, ``kafka.authentication``, ``kafka.certificate``),
:class:`InfrastructureError` (not authorized, an invalid topic) and :class:`DataError` (record too large); a client's
own exceptions are translated by its adapter.
Client settings have Kafka's dotted names (``max.poll.records``, ``security.protocol``) and string values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NewType, Protocol

from headrace.errors import RetriableError
from headrace.records import ConsumedBatch, EncodedBatch, TopicPartition
from headrace.retries import wait_for


class Delivery(Protocol):
    """The result of one batch that was sent."""

    def done(self) -> bool:
        """Return whether all records are acknowledged, or one has failed. Never blocks."""
        ...

    def error(self) -> Exception | None:
        """Return, after ``done``, the first failure as one of this module's errors; None when all are acknowledged."""
        ...


class Producer(Protocol):
    """Sends batches in order. Used from one thread."""

    def send(self, batch: EncodedBatch) -> Delivery:
        """Send a batch. May block while the client's buffer is full, and then raise RetriableError.

        Records with the same key keep their order, also when they are retried (idempotence, acks=all).
        """
        ...

    def flush(self, timeout: float) -> bool:
        """Wait until all sent batches are done; return False when ``timeout`` seconds pass first."""
        ...

    def connection_problem(self) -> str | None:
        """Return why nothing moves ("broker 127.0.0.1:9092 does not answer"); None: no problem. Never blocks."""
        ...

    def abandon(self) -> bool:
        """Discard all batches that are not acknowledged, and send nothing any more. Return whether that is done.

        The task of this producer was abandoned. Called on another thread than the other methods, again until it
        returns True; never blocks. A request that a broker has received already may still be written.
        """
        ...

    def close(self, timeout: float) -> None:
        """Close; batches that are not acknowledged within ``timeout`` seconds fail."""
        ...


GroupMetadata = NewType("GroupMetadata", object)
"""The membership of a consumer at one moment. Only a client of the same library can read it."""


class TransactionalProducer(Protocol):
    """Writes batches and consumer offsets in transactions (https://kafka.apache.org/documentation/#semantics).

    Used from one thread. After an error in any method the producer cannot be used any more: close it and create a new
    one, whose :meth:`init` aborts the transaction. ``kafka.producer_fenced`` (TaskError) means that a newer producer
    has the same transactional.id, or that a transaction was open for longer than transaction.timeout.ms. A new
    producer would fence a newer one, so it must not be created without a reason.
    """

    def init(self) -> None:
        """Fence older producers with the same transactional.id, and abort their open transactions. Call it first."""
        ...

    def begin(self) -> None:
        """Begin a transaction."""
        ...

    def send(self, batch: EncodedBatch, partition: int | None = None) -> None:
        """Send a batch in the transaction, by default to the partitions of its keys. Failures may appear in commit."""
        ...

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        """Commit the next offsets to read with the transaction.

        Raise RetriableError (``kafka.rebalance``) when the consumer is not a member of its group any more.
        """
        ...

    def commit(self) -> None:
        """Wait until all batches are acknowledged, and commit them with the offsets."""
        ...

    def abort(self) -> None:
        """Abort the transaction: consumers with read_committed never see its records."""
        ...

    def connection_problem(self) -> str | None:
        """See :class:`Producer`."""
        ...

    def close(self, timeout: float) -> None:
        """Close within about ``timeout`` seconds, without committing: the broker aborts an open transaction."""
        ...


@dataclass(frozen=True)
class RebalanceListener:
    """Called inside ``poll`` (and ``close``), on the consumer's thread."""

    revoked: Callable[[Sequence[TopicPartition]], None]
    """Before the partitions are revoked: the last chance to commit."""
    assigned: Callable[[Sequence[TopicPartition]], None]


class Consumer(Protocol):
    """A member of a consumer group. Used from one thread."""

    def subscribe(self, topics: Sequence[str], pattern: str | None, listener: RebalanceListener) -> None:
        """Subscribe to ``topics``, or to all topics that fully match the regex ``pattern``."""
        ...

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        """Return up to ``max_records`` records by partition; empty after ``timeout`` seconds without one.

        Call it at least every ``max.poll.interval.ms`` to remain a member of the group.
        """
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read of each partition, synchronously."""
        ...

    def group_metadata(self) -> GroupMetadata:
        """Return the current membership, for :meth:`TransactionalProducer.send_offsets`."""
        ...

    def pause_all(self) -> None:
        """Return no records until :meth:`resume_all`, also of partitions that are assigned in the meantime."""
        ...

    def resume_all(self) -> None:
        """Return records again, except of partitions of :meth:`pause_only`."""
        ...

    def pause_only(self, partitions: Collection[TopicPartition]) -> None:
        """Return no records of these partitions, which replace those of an earlier call. Others are not affected.

        A partition that is revoked is not paused any more when it is assigned again.
        """
        ...

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        """Continue at ``offset`` in the next poll."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions that this member owns."""
        ...

    def connection_problem(self) -> str | None:
        """Return why nothing moves ("broker 127.0.0.1:9092 does not answer"); None: no problem. Never blocks."""
        ...

    def abandon(self) -> bool:
        """Return whether the client makes no further attempt at a commit that was not answered in time.

        The task of this consumer was abandoned. Called on another thread than the other methods, again until it
        returns True; never blocks.
        """
        ...

    def close(self) -> None:
        """Call the listener's ``revoked``, leave the group and close."""
        ...


class Reader(Protocol):
    """Reads partitions from given offsets, without a consumer group: it neither commits nor causes rebalances.

    Used from one thread.
    """

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions, and no others, from these offsets. A deleted offset means the first that exists."""
        ...

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        """See :class:`Consumer`."""
        ...

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset to read of each assigned partition.

        It moves over gaps that compaction and transaction markers leave, at the end of a partition, too.
        """
        ...

    def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offset of each partition: above 0 when retention has removed records."""
        ...

    def connection_problem(self) -> str | None:
        """See :class:`Consumer`."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create; -1: the broker's default. ``config``: topic settings (``cleanup.policy``)."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    config: Mapping[str, str] = field(default_factory=dict)


class Admin(Protocol):
    """Topics and consumer groups. Thread-safe."""

    def cluster_id(self) -> str:
        """Return the Kafka cluster's id; also the cheapest check that a broker answers."""
        ...

    def topics(self) -> frozenset[str]:
        """Return the names of all topics that are not internal."""
        ...

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Create missing topics; existing ones are not changed."""
        ...

    def delete_topics(self, topics: Iterable[str]) -> None:
        """Delete topics with their records and their offsets in all groups; unknown topics are left out.

        Returns when they do not exist any more.
        """
        ...

    def end_offsets(self, topics: Sequence[str], *, committed: bool = True) -> dict[TopicPartition, int]:
        """Return the last stable offset of every partition of ``topics``; unknown topics are left out.

        It is the end for a consumer with read_committed: the end of the log, or the first record of the oldest open
        transaction. ``committed=False``: the end of the log, which such a consumer reaches when the transactions that
        are open now have ended.
        """
        ...

    def begin_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Return the first offset of every partition of ``topics``; unknown topics are left out."""
        ...

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete the records before these offsets. Raise InfrastructureError without DELETE on a topic."""
        ...

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the id of each topic, which is another one after it was created again.

        Unknown topics are left out, and so are all of a broker without ids (before 2.8). Each client writes ids in
        its own form.
        """
        ...

    def topic_configs(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the settings of each topic (``cleanup.policy``), with the broker's defaults.

        Unknown topics, invalid names, and topics whose settings the user may not read are left out: kafka-python does
        not tell them from each other.
        """
        ...

    def topic_operations(self, topics: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return what the user may do with each topic: READ, WRITE, DESCRIBE and the other operations of ACLs.

        Empty without DESCRIBE, also when the topic does not exist. Unknown topics, invalid names, and topics of a
        broker that does not tell (before 2.3) are left out.
        """
        ...

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """Return a consumer group's committed offsets; empty when the group does not exist.

        While a transaction with offsets of the group is open, librdkafka waits for its end: RetriableError.
        """
        ...

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets of a group, which need not exist. Raise RetriableError while it has members."""
        ...

    def may_read_as(self, group: str) -> bool:
        """Return whether the user may read as a member of the group (READ on GROUP), which need not exist.

        Nothing changes: it commits an offset of a topic that does not exist. The broker refuses that in any case, and
        checks the group first.
        """
        ...

    def close(self) -> None: ...


NO_TOPIC = "headrace-no-topic-"
"""The names of topics of :meth:`Admin.may_read_as` begin with it."""


_DELETION_TIMEOUT = 30.0  # seconds until the brokers have forgotten a topic
_DELETION_INTERVAL = 0.05  # seconds


def wait_until_deleted(topics: Callable[[], frozenset[str]], deleted: Sequence[str]) -> None:
    """Wait until none of the ``deleted`` is among ``topics()``. Raise RetriableError."""
    if not wait_for(lambda: topics().isdisjoint(deleted), timeout=_DELETION_TIMEOUT, interval=_DELETION_INTERVAL):
        left = ", ".join(sorted(topics().intersection(deleted)))
        raise RetriableError(f"{left}: deleted, but still visible", code="kafka.unreachable")


def group_in_use(group: str) -> RetriableError:
    """Return the error that :meth:`Admin.commit` raises while the group has members."""
    return RetriableError(
        f"cannot move the offsets of group {group}: it has members",
        code="kafka.group_in_use",
        hint="stop the members of the group; a killed task remains a member until its session.timeout.ms has passed",
    )


class KafkaClients(Protocol):
    """Creates clients of one Kafka cluster. ``settings`` are merged over the shared ones."""

    def sharing(self, settings: Mapping[str, str]) -> KafkaClients:
        """Return a factory whose clients share these settings, and none of this one's."""
        ...

    def producer(self, settings: Mapping[str, str]) -> Producer: ...

    def consumer(self, group: str, settings: Mapping[str, str]) -> Consumer: ...

    def admin(self, settings: Mapping[str, str]) -> Admin: ...

    def reader(self, settings: Mapping[str, str]) -> Reader:
        """Create a reader. ``settings`` as of a consumer; those that concern its group have no effect."""
        ...

    def transactional_producer(self, transactional_id: str, settings: Mapping[str, str]) -> TransactionalProducer:
        """Create a transactional producer. ``settings`` as of a producer, and ``transaction.timeout.ms``."""
        ...
