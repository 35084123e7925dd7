"""Results of windows and joins that a later step refuses: their failures, and their dead letters.

Several records made such a result, so no record is refused for it. The result is left out, and a dead letter has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import NO_OFFSET, NO_PARTITION, Failure, Stage
from headrace.plugin import RefusedResult
from headrace.records import EncodedBatch, TopicPartition


def result_failures(executor: str, topic: str, results: Sequence[RefusedResult]) -> list[Failure]:
    """Return the failures of results; ``topic``: whose records led to them."""
    place = TopicPartition(topic, NO_PARTITION)
    return [Failure(Stage.STREAM_STEP, executor, item.error, place, NO_OFFSET, _name(item)) for item in results]


def result_letters(
    queue: DeadLetterQueue, results: Sequence[RefusedResult], failures: Sequence[Failure]
) -> list[EncodedBatch]:
    """Return a letter for each result: its key and value as JSON. Such letters cannot be tried again."""
    return [
        EncodedBatch(
            queue.topic,
            [_json(item.value)],
            [_json(item.key)],
            [item.timestamp],
            [queue.reasons(failure)],
        )
        for item, failure in zip(results, failures, strict=True)
    ]


def _name(item: RefusedResult) -> str:
    """Return what identifies a result in messages, which have no other contents of it."""
    details = item.error.details
    names = ("result.key", "window_start", "window_end")
    parts = [f"{name.removeprefix('result.')}={details[name]}" for name in names if name in details]
    return f"made by {details.get('result.step', 'a step')}: {', '.join(parts)}"


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
