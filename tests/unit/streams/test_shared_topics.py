"""Topics that one task writes and all tasks read: plain JSON, in which another program may have written anything."""

from __future__ import annotations

from headrace.pipeline.stream.encoding import decode_shared
from headrace.records import ConsumedBatch, TopicPartition


def test_records_that_are_no_json_are_reported_and_the_others_are_rows() -> None:
    values = [b'{"a": 1}', b"no json", None, b'{"b": 2}']
    keys = [b"one", b"two", b"three", None]
    place = TopicPartition("log", 0)
    batch = ConsumedBatch(place, [5, 6, 7, 8], keys, values, [1, 2, 3, 4], [()] * 4)
    (decoded,), (failure,) = decode_shared(batch)
    assert (decoded.offsets, decoded.keys, decoded.values) == (
        [5, 7, 8],
        ["one", "three", None],
        [{"a": 1}, None, {"b": 2}],
    )
    assert decoded.timestamps == [1, 3, 4]
    assert (failure.topic_partition, failure.offset, failure.error.code) == (place, 6, "stream.not_json")
