"""The internal topics of a stream application, created with the partitions that they need, and read to their ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from headrace.broker.bounded_read import read_between
from headrace.broker.interfaces import Admin, NewTopic, Reader
from headrace.errors import RetriableError, TaskError
from headrace.plugin import StreamTopology
from headrace.records import ConsumedBatch, TopicPartition

_RECORDS = 10_000

# Kafka deletes records by their timestamps, which are event times: replayed old events would be gone within minutes.
_CHANGELOG = {"cleanup.policy": "compact"}
_REPARTITION = {"cleanup.policy": "delete", "retention.ms": "-1"}


def changelog_topic(application: str, store: str) -> str:
    """Return the name of a store's changelog."""
    return f"{application}-{store}-changelog"


def ensure_topics(admin: Admin, application: str, topology: StreamTopology) -> None:
    """Create the internal topics that are missing.

    Raise RetriableError while an input or table does not exist, TaskError when an internal topic has another number of
    partitions than it needs, or when topics of one store have different numbers.
    """
    counts = _partition_counts(admin, [*topology.inputs, *topology.tables])
    for topic in (*topology.inputs, *topology.tables):
        if topic not in counts:
            kind = "input" if topic in topology.inputs else "table"
            raise RetriableError(
                f"topic {topic} ({kind} of {application}) does not exist",
                code="stream.missing_topic",
                hint="create it, or start what writes it",
            )
    wanted: dict[str, NewTopic] = {}
    for topic, origins in topology.repartitions.items():
        counts[topic] = max(counts[origin] for origin in origins)
        wanted[topic] = NewTopic(topic, counts[topic], config=_REPARTITION)
    for store, followed in topology.stores.items():
        _require_equal_counts(store, {topic: counts[topic] for topic in followed})
        name = changelog_topic(application, store)
        wanted[name] = NewTopic(name, counts[followed[0]], config=_CHANGELOG)
    for topic, settings in topology.shared.items():
        wanted[topic] = NewTopic(topic, 1, config=settings)
    present = _partition_counts(admin, list(wanted))
    for topic, new in wanted.items():
        if present.get(topic, new.partitions) != new.partitions:
            raise TaskError(
                f"internal topic {topic} has {present[topic]} partitions and needs {new.partitions}: the number of "
                "partitions of an input has changed, and state is in the partitions of its keys",
                code="stream.partitions",
                hint="stop the application, delete its internal topics, and start it under another name",
            )
    admin.create_topics([new for topic, new in wanted.items() if topic not in present])


def _require_equal_counts(store: str, counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        listed = " and ".join(f"{topic} has {count}" for topic, count in counts.items())
        raise TaskError(
            f"the topics that step '{store}' joins have different numbers of partitions: {listed}",
            code="stream.co_partitions",
            hint="remove 'key' from these inputs, so that both are repartitioned, or recreate one of the topics",
        )


def check_co_partitions(topology: StreamTopology, owned: Collection[TopicPartition]) -> None:
    """Raise RetriableError when a task owns a partition of a store without those that share the state."""
    for store, followed in topology.stores.items():
        for topic, partition in owned:
            if topic not in followed:
                continue
            missing = [other for other in followed if TopicPartition(other, partition) not in owned]
            if missing:
                raise RetriableError(
                    f"step '{store}' needs partition {partition} of {' and '.join(followed)} in one task, and this "
                    f"task was not assigned that of {' and '.join(missing)}",
                    code="stream.co_partitions",
                    hint="leave partition.assignment.strategy at its default, the range assignor, in all workers",
                )


class OwnedOffsets(NamedTuple):
    """Where a task stands in its partitions."""

    committed: dict[TopicPartition, int]
    unread: list[TopicPartition]
    """Partitions with records after the committed offset."""


def offsets_of(admin: Admin, group: str, topology: StreamTopology, owned: Collection[TopicPartition]) -> OwnedOffsets:
    """Return the committed offsets of these partitions, and which of them have unread records."""
    topics = sorted({item.topic for item in owned})
    committed, begins, ends = admin.committed(group), admin.begin_offsets(topics), admin.end_offsets(topics)
    unread = []
    for item in owned:
        # The last offset of an internal topic is that of a transaction's marker, which is no record.
        markers = 1 if item.topic in topology.repartitions else 0
        if ends.get(item, 0) - committed.get(item, begins.get(item, 0)) > markers:
            unread.append(item)
    return OwnedOffsets({item: committed[item] for item in owned if item in committed}, unread)


def _partition_counts(admin: Admin, topics: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for topic, _ in admin.end_offsets(topics) if topics else ():
        counts[topic] = counts.get(topic, 0) + 1
    return counts


def read_to_end(
    reader: Reader,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    apply: Callable[[ConsumedBatch], None],
    proceed: Callable[[int], bool],
) -> bool:
    """Read partitions up to ``ends``. ``proceed`` is called with the remaining records after each poll.

    Return False when ``proceed`` did, with some records unread. An outage, or a transaction that is open for long, has
    no limit here: the status shows that records remain.
    """
    for poll in read_between(reader, starts, ends, _RECORDS, timeout=math.inf):
        for batch in poll.batches:
            apply(batch)
        if not proceed(sum(ends[item] - position for item, position in poll.positions.items())):
            return False
    return True
