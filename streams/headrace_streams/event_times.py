"""Event times of records before they are processed, by which partitions are ordered."""

from __future__ import annotations

from collections.abc import Sequence

from headrace import SinkBatch
from headrace_streams.expressions import ExpressionError, Projection
from headrace_streams.expressions.functions import epoch_milliseconds


def event_times(time: Projection, batch: SinkBatch) -> Sequence[int]:
    """Return the value of ``time`` for each record; of one that it refuses, the record's timestamp."""
    values = batch.values
    if {value.__class__ for value in values} == {dict}:
        found, refused = time.evaluate(values)
        if not refused:
            times = [moment for (moment,) in found]
            if {moment.__class__ for moment in times} == {int}:
                return times
    return [_event_time(time, value, timestamp) for value, timestamp in zip(values, batch.timestamps, strict=True)]


def _event_time(time: Projection, value: object, timestamp: int) -> int:
    if not isinstance(value, dict):
        return timestamp
    found, refused = time.evaluate([value])
    if refused:
        return timestamp
    try:
        return epoch_milliseconds(found[0][0])
    except ExpressionError:
        return timestamp
