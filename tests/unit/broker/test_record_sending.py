"""How the records of a batch are handed to librdkafka."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("confluent_kafka")

from headrace.broker.librdkafka.record_sending import produce_records
from headrace.records import EncodedBatch

HEADERS = st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2)


@st.composite
def batches(draw: st.DrawFn) -> EncodedBatch:
    count = draw(st.integers(0, 5))

    def column(items: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | st.lists(items, min_size=count, max_size=count))

    headers = column(HEADERS)
    if headers and draw(st.booleans()):
        headers[:-1] = [()] * (count - 1)  # only the last record has headers
    values = draw(st.lists(st.none() | st.binary(max_size=3), min_size=count, max_size=count))
    return EncodedBatch("t", values, column(st.binary(max_size=3)), column(st.integers(1, 9)), headers)


@given(batches(), st.integers(-1, 3))
def test_every_record_is_handed_over_once_and_in_order(batch: EncodedBatch, partition: int) -> None:
    calls: list[tuple[Any, ...]] = []

    def produce(*given: Any) -> None:
        topic, value, key, where, callback, on_delivery, timestamp, headers = (*given, "report", 0, None)[:8]
        calls.append((topic, value, key, where, callback, on_delivery, timestamp, [*(headers or ())]))

    produce_records(produce, batch, partition, "report")
    count = len(batch)
    keys = batch.keys or [None] * count
    times = batch.timestamps or [0] * count
    headers = batch.headers or [()] * count
    assert calls == [
        ("t", batch.values[row], keys[row], partition, "report", "report", times[row], list(headers[row]))
        for row in range(count)
    ]
