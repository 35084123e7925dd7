"""Batches of records: columns of what all records share, sequences of what differs.

Batches stay batches on the whole way, so per-record cost is a list element, not an object. A single
:class:`Record` exists only where a transform or predicate asks for one.

::

    SourceBatch ──converters──▶ EncodedBatch ──producer──▶ Kafka ──consumer──▶ ConsumedBatch ──converters──▶ SinkBatch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headrace.errors import DataError
from headrace.schema import Schema

Headers = Sequence[tuple[str, bytes | None]]
"""Ordered, names may repeat."""

SourcePartition = Mapping[str, Any]
"""What a source task was reading; a JSON object of primitives, its key order matters (the offset key's bytes)."""

SourceOffset = Mapping[str, Any]
"""How far it got; a JSON object of primitives."""


class TopicPartition(NamedTuple):
    """A Kafka partition."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(slots=True)
class Record:
    """One record, as transforms and predicates see it."""

    topic: str
    value: Any
    value_schema: Schema | None = None
    key: Any = None
    key_schema: Schema | None = None
    timestamp: int | None = None  # epoch milliseconds
    headers: Headers = ()
    partition: int | None = None  # Kafka partition, when known
    offset: int | None = None  # Kafka offset, sinks only


@dataclass(slots=True)
class SourceBatch:
    """What one ``poll`` read from one source partition, in order.

    ``source_offset`` is the position *after the whole batch*: once every record is acknowledged, the task may
    resume there. None = nothing to store (bulk mode). ``keys`` None = all keys null; ``timestamps`` (epoch ms)
    None = the producer's clock.
    """

    topic: str
    values: list[Any]
    value_schema: Schema | None = None
    keys: list[Any] | None = None
    key_schema: Schema | None = None
    source_partition: SourcePartition | None = None
    source_offset: SourceOffset | None = None
    timestamps: list[int] | None = None
    headers: list[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class EncodedBatch:
    """Records of one topic in wire form, ready to be produced in order."""

    topic: str
    values: list[bytes | None]
    keys: list[bytes | None] | None = None
    timestamps: list[int] | None = None
    headers: list[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def size(self) -> int:
        """Bytes of keys and values."""
        total = sum(map(len, filter(None, self.values)))
        return total + (sum(map(len, filter(None, self.keys))) if self.keys else 0)


@dataclass(slots=True)
class ConsumedBatch:
    """Consecutive records of one Kafka partition, as the broker gave them. All columns have equal length."""

    topic_partition: TopicPartition
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    headers: list[Headers]
    end_offset: int | None = None  # the partition's high watermark when it was read; lag = end_offset - last offset - 1

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class SinkBatch:
    """Records of one topic with one pair of schemas, converted, in offset order, as ``put`` receives them.

    ``topic_partition`` and ``offsets`` are where the records come from and identify them in a
    :class:`Rejection`; ``topic`` is where they go (a transform may have changed it).
    """

    topic_partition: TopicPartition
    topic: str
    offsets: list[int]
    keys: list[Any]
    values: list[Any]
    timestamps: list[int]
    headers: list[Headers]
    key_schema: Schema | None = None
    value_schema: Schema | None = None

    def __len__(self) -> int:
        return len(self.values)


class Rejection(NamedTuple):
    """A record that a sink or a stage refused, with the reason. All others of the batch are durable."""

    topic_partition: TopicPartition
    offset: int
    error: DataError
