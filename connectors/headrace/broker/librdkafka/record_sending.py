"""Hand the records of a batch to librdkafka: one C call for each, with as few arguments as possible."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any

from headrace.records import EncodedBatch

NOW = 0  # timestamp


def produce_records(produce: Callable[..., None], batch: EncodedBatch, partition: int, report: Any) -> None:
    """Call ``produce`` for each record. ``report``: the delivery callback.

    Most batches have no headers, or only one on the last record (its hops); a call without headers costs less.
    """
    headers, count = batch.headers, len(batch.values)
    keys = batch.keys if batch.keys is not None else repeat(None, count)
    last = headers[-1] if headers else ()
    bare = count if headers is None else headers.count(())  # a tenth of the time of any()
    if batch.timestamps is None and bare == count - bool(last):
        plain = count - 1 if last else count
        deque(map(produce, repeat(batch.topic, plain), batch.values, keys, repeat(partition), repeat(report)), maxlen=0)
        if last:
            key = batch.keys[-1] if batch.keys is not None else None
            produce(batch.topic, batch.values[-1], key, partition, report, report, NOW, list(last))
        return
    columns = (
        repeat(batch.topic, count),
        batch.values,
        keys,
        repeat(partition),
        repeat(report),
        repeat(report),
        batch.timestamps if batch.timestamps is not None else repeat(NOW),
        # An empty list costs librdkafka a call for each record.
        repeat(None) if headers is None else [list(fields) if fields else None for fields in headers],
    )
    deque(map(produce, *columns), maxlen=0)
