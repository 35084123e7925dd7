"""Results of windows and joins that a later step or a converter refuses: their failures, and their dead letters.

Several records made such a result, so no record is refused for it. The result is left out, and a dead letter has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from headrace.errors import DataError
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import NO_OFFSET, NO_PARTITION, Failure, Stage
from headrace.pipeline.stream import state_codec
from headrace.plugin import RefusedResult
from headrace.records import EncodedBatch, TopicPartition


class FailedResult(NamedTuple):
    """A result that is left out, and the failure that says where it was refused and why."""

    result: RefusedResult
    failure: Failure


def failed_result(result: RefusedResult, stage: Stage, executor: str, topic: str) -> FailedResult:
    """Return a result with its failure; ``topic``: whose records led to it."""
    place = TopicPartition(topic, NO_PARTITION)
    return FailedResult(result, Failure(stage, executor, result.error, place, NO_OFFSET, _name(result)))


def result_letters(queue: DeadLetterQueue, results: Sequence[FailedResult]) -> list[EncodedBatch]:
    """Return a letter for each result: its key and value as JSON. Such letters cannot be tried again."""
    return [
        EncodedBatch(
            queue.topic,
            [_json(result.value)],
            [_json(result.key)],
            [result.timestamp],
            [queue.reasons(failure)],
        )
        for result, failure in results
    ]


def _name(item: RefusedResult) -> str:
    """Return what identifies a result in messages, which have no other contents of it."""
    details = item.error.details
    names = ("result.key", "window_start", "window_end")
    parts = [f"{name.removeprefix('result.')}={details[name]}" for name in names if name in details]
    return f"made by {details.get('result.step', 'a step')}: {', '.join(parts)}"


def _json(value: Any) -> bytes:
    """Return JSON that keeps all types, as in changelogs; of a value that has no such form, how Python shows it."""
    try:
        return state_codec.encode([value])[0]
    except DataError:
        return orjson.dumps(repr(value))
