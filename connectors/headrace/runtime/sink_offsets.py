"""Shows and changes a sink's offsets, which are those of its consumer group (KIP-875)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.broker.interfaces import Admin
from headrace.config import nearest
from headrace.errors import CommandError
from headrace.records import SourceOffset, SourcePartition, TopicPartition

_TOPIC, _PARTITION, _OFFSET = "kafka_topic", "kafka_partition", "kafka_offset"
_FORM = f'{{"partition": {{"{_TOPIC}": "…", "{_PARTITION}": 0}}, "offset": {{"{_OFFSET}": 42}} or null}}'


def shown(admin: Admin, group: str) -> list[dict[str, Any]]:
    """Return the offsets of a group in the format of ``GET …/offsets``."""
    return [
        {"partition": {_TOPIC: place.topic, _PARTITION: place.partition}, "offset": {_OFFSET: offset}}
        for place, offset in sorted(admin.committed(group).items())
    ]


def move(admin: Admin, group: str, changes: Sequence[tuple[SourcePartition, SourceOffset | None]]) -> int:
    """Commit the requested offsets; None means the first existing record. Return the number of partitions.

    Raise CommandError, without any change, for an offset that an existing partition cannot have; RetriableError while
    the group has members or Kafka is unavailable.
    """
    requested = dict(_parsed(*change) for change in changes)
    topics = sorted({place.topic for place in requested})
    ends, begins = admin.end_offsets(topics), admin.begin_offsets(topics)
    for place, offset in requested.items():
        if place not in ends:
            raise _unknown(place, admin, [other for other in ends if other.topic == place.topic])
        if offset is not None and offset > ends[place]:
            # A consumer treats such a position as out of range and applies auto.offset.reset.
            raise CommandError(
                f"{place} ends at offset {ends[place]}; it cannot be read from {offset} on",
                code="connector.offset_beyond_end",
                hint=f"set {ends[place]} to continue with records that are written from now on",
            )
    admin.commit(group, {place: begins[place] if offset is None else offset for place, offset in requested.items()})
    return len(requested)


def reset(admin: Admin, group: str) -> int:
    """Commit the offset of the first existing record for every partition with an offset. Raise as :func:`move`."""
    committed = admin.committed(group)
    begins = admin.begin_offsets(sorted({place.topic for place in committed}))
    known = {place: begins[place] for place in committed if place in begins}  # a topic may have been deleted
    if known:
        admin.commit(group, known)
    return len(known)


def _parsed(partition: SourcePartition, offset: SourceOffset | None) -> tuple[TopicPartition, int | None]:
    """Parse offsets; numbers may be texts, as in Kafka Connect."""
    topic = partition.get(_TOPIC)
    if set(partition) != {_TOPIC, _PARTITION} or not isinstance(topic, str) or not topic:
        raise _no_position(partition)
    place = TopicPartition(topic, _number(partition[_PARTITION], partition))
    if offset is None:
        return place, None
    if set(offset) != {_OFFSET}:
        raise _no_position(offset)
    return place, _number(offset[_OFFSET], offset)


def _number(value: object, of: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _no_position(of)


def _no_position(of: object) -> CommandError:
    return CommandError(
        f"{of} is no position of a sink", code="connector.bad_offset", hint=f"the form of a sink's positions is {_FORM}"
    )


def _unknown(place: TopicPartition, admin: Admin, others: Sequence[TopicPartition]) -> CommandError:
    if others:
        hint = f"partitions of {place.topic} are 0 to {max(others).partition}"
    else:
        hint = nearest(place.topic, admin.topics()) or "GET shows the positions that are stored"
    return CommandError(f"Kafka has no partition {place}", code="connector.unknown_partition", hint=hint)
