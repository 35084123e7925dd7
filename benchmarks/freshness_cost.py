"""The CPU time of measuring freshness, per record: ``python -m benchmarks.freshness_cost``, without engines.

It runs what a source, a stream application and a sink do once for each batch, and the calls of librdkafka with and
without a header on the last record (they differ by the cost of the header). Batches are made before the time is
measured. Compare this with the CPU time of a record of the whole path, which ``make bench`` measures: 3 to 4 µs with
librdkafka in batches of thousands, more in smaller ones.

``make bench ARGS="versions --against FOLDER --apart"`` compares whole paths with an older checkout; that needs a quiet
machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from headrace.broker.librdkafka.record_sending import produce_records
from headrace.freshness import Hop, TaskFreshness, encode_hops
from headrace.pipeline.hop_times import SinkHops, SourceHops, StreamHops, marked
from headrace.pipeline.in_flight import InFlightBatch
from headrace.records import ConsumedBatch, EncodedBatch, SourceBatch, TopicPartition

_ROUNDS = 100
_BATCHES = 20
"""Batches of a round."""
_SIZES = (100, 1_000, 4_000)
"""Records of a batch."""
_PLACE = TopicPartition("t", 0)
_MARK = encode_hops((Hop("orders", 1, 2),))

Step = Callable[[], object]
"""The work of one batch."""


def source() -> Callable[[int], Step]:
    hops = SourceHops(TaskFreshness(), "orders", marks=True)

    def step(rows: int) -> Step:
        batch, encoded = SourceBatch("t", range(rows), changed=1), EncodedBatch("t", [b""] * rows)
        entry = InFlightBatch(batch, [encoded], [], 0)

        def run() -> None:
            entry.polled = hops.polled(batch)
            hops.sending(batch, entry.encoded, entry.polled)
            hops.acknowledged([entry])

        return run

    return step


def stream() -> Callable[[int], Step]:
    hops = StreamHops(TaskFreshness(), "totals", marks=True)

    def step(rows: int) -> Step:
        batch, output = _consumed(rows), EncodedBatch("t", [b""] * rows)

        def run() -> None:
            hops.processing(batch)
            hops.marked(output)
            hops.committed()

        return run

    return step


def sink() -> Callable[[int], Step]:
    hops = SinkHops(TaskFreshness())

    def step(rows: int) -> Step:
        batches = [_consumed(rows)]

        def run() -> None:
            hops.read(batches)
            hops.written(batches)

        return run

    return step


def sent_with_header() -> Callable[[int], Step]:
    """What the producer does with a batch whose last record has a header."""

    def step(rows: int) -> Step:
        encoded = marked(EncodedBatch("t", [b""] * rows), _MARK)
        return lambda: produce_records(_take, encoded, 0, None)

    return step


def sent_without_header() -> Callable[[int], Step]:
    def step(rows: int) -> Step:
        encoded = EncodedBatch("t", [b""] * rows)
        return lambda: produce_records(_take, encoded, 0, None)

    return step


def _take(*arguments: Any) -> None:
    """Stand for the call of librdkafka."""


def _consumed(rows: int) -> ConsumedBatch:
    headers: list[Any] = [()] * (rows - 1) + [[("headrace.hops", _MARK)]]
    empty: list[bytes | None] = [None] * rows
    return ConsumedBatch(_PLACE, list(range(rows)), empty, empty, [1] * rows, headers)


def nanoseconds(step: Callable[[int], Step], rows: int) -> float:
    """Return the median CPU time per record."""
    found = []
    for _ in range(_ROUNDS):
        steps = [step(rows) for _ in range(_BATCHES)]
        began = time.process_time_ns()
        for run in steps:
            run()
        found.append((time.process_time_ns() - began) / rows / _BATCHES)
    return statistics.median(found)


def main() -> None:
    print(f"{'ns of CPU time per record, batches of':40}" + "".join(f"{rows:>10,}" for rows in _SIZES))
    for case in (source, stream, sink, sent_with_header, sent_without_header):
        times = [nanoseconds(case(), rows) for rows in _SIZES]
        print(f"{case.__name__:40}" + "".join(f"{each:>10.1f}" for each in times))


if __name__ == "__main__":
    main()
