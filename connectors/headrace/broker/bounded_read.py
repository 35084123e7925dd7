"""Reads partitions between two offsets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from headrace.broker.interfaces import Reader
from headrace.errors import RetriableError
from headrace.records import ConsumedBatch, TopicPartition

_MOST_RECORDS = 4_000
_POLL = 0.5
_READ_TIMEOUT = 60.0
"""Seconds without progress after which reading fails."""


class BoundedPoll(NamedTuple):
    """The records of one poll. ``positions``: all records before these have been returned."""

    batches: list[ConsumedBatch]
    positions: Mapping[TopicPartition, int]


def read_between(
    reader: Reader,
    start: Mapping[TopicPartition, int],
    until: Mapping[TopicPartition, int],
    most_records: int = _MOST_RECORDS,
    timeout: float = _READ_TIMEOUT,
) -> Iterator[BoundedPoll]:
    """Read from ``start`` (default 0) up to ``until``. Raise RetriableError after ``timeout`` seconds without progress.

    ``most_records``: of one poll. Afterwards the reader is assigned to some of the partitions only.
    """
    positions = {item: start.get(item, 0) for item, end in until.items() if start.get(item, 0) < end}
    returned = dict(positions)
    last_progress = time.monotonic()
    reader.assign(positions)
    while positions:
        consumed = reader.poll(_POLL, most_records)
        before, reached = positions, reader.positions()
        returned.update({item: min(reached[item], until[item]) for item in before})
        positions = {item: reached[item] for item in before if reached[item] < until[item]}
        if consumed or positions != before:
            last_progress = time.monotonic()
        elif time.monotonic() - last_progress > timeout:
            problem = reader.connection_problem() or f"nothing for {timeout:g} s"
            raise RetriableError(
                f"Kafka returns no records: {problem}",
                code="kafka.unreachable",
            )
        parts = [part for batch in consumed if len(part := _before(batch, until[batch.topic_partition]))]
        yield BoundedPoll(parts, dict(returned))
        if len(positions) < len(before) and positions:
            reader.assign(positions)


def _before(batch: ConsumedBatch, end: int) -> ConsumedBatch:
    if not batch.offsets or batch.offsets[-1] < end:
        return batch
    count = sum(offset < end for offset in batch.offsets)
    columns = (batch.offsets, batch.keys, batch.values, batch.timestamps, batch.headers)
    offsets, keys, values, timestamps, headers = (column[:count] for column in columns)
    return ConsumedBatch(batch.topic_partition, offsets, keys, values, timestamps, headers, batch.end_offset)  # type: ignore[arg-type]
