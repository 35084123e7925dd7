"""Marks: what was done with a letter, in a compacted topic next to the queue."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import orjson

from headrace.dead_letters.letters import RecordPlace
from headrace.metrics import now_ms
from headrace.records import ConsumedBatch, EncodedBatch, TopicPartition


class LetterMark(enum.Enum):
    """What was done with a letter. A letter without a mark is open."""

    RETRIED = "retried"
    SUPERSEDED = "superseded"
    """Not written: the topic has a newer record of its key."""
    FILTERED = "filtered"
    """Not written: a transform drops the record."""
    REFUSED = "refused again"
    """A new letter with the new reason replaces it."""
    DISCARDED = "discarded"


def marks_topic(queue: str) -> str:
    """Return the topic of a queue's marks."""
    return f"{queue}-marks"


def marks_batch(queue: str, marks: Mapping[RecordPlace, LetterMark]) -> EncodedBatch:
    """Return marks as records, keyed by the letter's place."""
    places: Sequence[RecordPlace] = sorted(marks)
    at = now_ms()
    return EncodedBatch(
        marks_topic(queue),
        [orjson.dumps({"mark": marks[place].value, "at": at}) for place in places],
        [orjson.dumps({"partition": place.topic_partition.partition, "offset": place.offset}) for place in places],
    )


def parse_marks(queue: str, batch: ConsumedBatch) -> dict[RecordPlace, LetterMark]:
    """Return the marks that a batch of the marks topic has."""
    marks = {}
    for key, value in zip(batch.keys, batch.values, strict=True):
        if key is None or value is None:
            continue
        place, content = orjson.loads(key), orjson.loads(value)
        marks[RecordPlace(TopicPartition(queue, place["partition"]), place["offset"])] = LetterMark(content["mark"])
    return marks
