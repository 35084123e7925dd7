"""The CPU time of measuring freshness, per record: ``python -m benchmarks.freshness_cost``, without engines.

It runs what a source, a stream application and a sink do once for each batch, and the calls of librdkafka with and
without a header on the last record (they differ by the cost of the header). Compare this with the CPU time of a record
of the whole path, which ``make bench`` measures: 3 to 4 µs with librdkafka.

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

_ROUNDS = 200
_SIZES = (100, 1_000, 4_000)
"""Records of a batch."""
_PLACE = TopicPartition("t", 0)


def source(rows: int) -> None:
    hops = SourceHops(TaskFreshness(), "orders", marks=True)
    batch, encoded = SourceBatch("t", range(rows), changed=1), EncodedBatch("t", [b""] * rows)
    polled = hops.polled(batch)
    hops.sending(batch, [encoded], polled)
    hops.acknowledged([InFlightBatch(batch, [], [], polled)])


def sent_headers(rows: int) -> None:
    """Run what the producer does in addition because a batch has a column of headers."""
    encoded = marked(EncodedBatch("t", [b""] * rows), (Hop("orders", 1, 2),))
    produce_records(_take, encoded, 0, None)


def sent_plain(rows: int) -> None:
    """Run the same without headers."""
    produce_records(_take, EncodedBatch("t", [b""] * rows), 0, None)


def _take(*arguments: Any) -> None:
    """Stand for the call of librdkafka."""


def stream(rows: int) -> None:
    hops = StreamHops(TaskFreshness(), "totals", marks=True)
    hops.processing(_consumed(rows))
    hops.marked(EncodedBatch("t", [b""] * rows))
    hops.committed()


def sink(rows: int) -> None:
    hops = SinkHops(TaskFreshness())
    batch = _consumed(rows)
    hops.read([batch])
    hops.written([batch])


def _consumed(rows: int) -> ConsumedBatch:
    headers: list[Any] = [()] * (rows - 1) + [[("headrace.hops", encode_hops((Hop("orders", 1, 2),)))]]
    empty: list[bytes | None] = [None] * rows
    return ConsumedBatch(_PLACE, list(range(rows)), empty, empty, [1] * rows, headers)


def _setup(rows: int) -> None:
    """Run what the cases above only prepare."""
    _consumed(rows)


def nanoseconds(case: Callable[[int], None], rows: int) -> float:
    """Return the median CPU time per record."""
    found = []
    for _ in range(_ROUNDS):
        began = time.process_time_ns()
        case(rows)
        found.append((time.process_time_ns() - began) / rows)
    return statistics.median(found)


def main() -> None:
    print(f"{'ns of CPU time per record, batches of':40}" + "".join(f"{rows:>10,}" for rows in _SIZES))
    for case in (source, sent_headers, sent_plain, stream, sink, _setup):
        times = [nanoseconds(case, rows) for rows in _SIZES]
        print(f"{case.__name__:40}" + "".join(f"{each:>10.1f}" for each in times))


if __name__ == "__main__":
    main()
