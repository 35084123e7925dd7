"""Columns encoded and decoded in one loop equal what kafka-python encodes and decodes a record at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import murmur2 as kafka_murmur2
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from headrace.broker.kafka_python.partitioning import murmur2
from headrace.broker.kafka_python.record_format import Row, decode_records, encode_records, varint

NOW = 1_767_225_600_000
HEADER = DefaultRecordBatchBuilder.header_size_in_bytes()
BYTES = bytes(range(256)) * 2
# One number decides about a content: drawing each of its bytes took most of the CPU time. Lengths have one byte up to
# 63, and three from 8,192 on.
CONTENT = (
    st.none() | st.integers(0, 300).map(lambda size: BYTES[size // 2 :][:size]) | st.integers(8_100, 17_000).map(bytes)
)
ROWS = st.lists(
    st.tuples(
        CONTENT,
        CONTENT,
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=20)), max_size=3),
        st.integers(NOW - 10**10, NOW + 10**10),
    ),
    min_size=1,
    max_size=30,
)


def builder(size: int = 2**30) -> DefaultRecordBatchBuilder:
    return DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, size)


@given(ROWS, st.integers(1_000, 40_000))
def test_rows_are_encoded_as_kafka_python_encodes_them(rows: list[Row], size: int) -> None:
    expected = builder(size)
    appended = 0
    for value, key, headers, timestamp in rows:
        if expected.append(appended, timestamp, key, value, headers) is None:
            break
        appended += 1
    encoded = encode_records(rows, 0, rows[0][3], size - HEADER, at_least_one=True)
    assert encoded.data == bytes(expected.build())[HEADER:]
    assert encoded.records == appended
    assert encoded.max_timestamp == max(row[3] for row in rows[:appended])


@given(ROWS)
def test_batches_of_kafka_python_are_decoded_to_columns(rows: list[Row]) -> None:
    written = builder()
    for offset, (value, key, headers, timestamp) in enumerate(rows):
        written.append(offset * 100, timestamp, key, value, headers)
    data = bytes(written.build())
    columns = decode_records(data[HEADER:], len(rows), 0, rows[0][3])
    expected = list(DefaultRecordBatch(data))
    assert columns.offsets == [record.offset for record in expected]
    assert columns.keys == [record.key for record in expected]
    assert columns.values == [record.value for record in expected]
    assert columns.timestamps == [record.timestamp for record in expected]
    assert [list(fields) for fields in columns.headers] == [record.headers for record in expected]


@given(ROWS, st.data())
def test_truncated_records_are_refused(rows: list[Row], data: st.DataObject) -> None:
    encoded = encode_records(rows, 0, rows[0][3], 2**30, at_least_one=True).data
    end = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(ValueError, match="record"):
        decode_records(encoded[:end], len(rows), 0, rows[0][3])


def test_bytes_after_the_last_record_are_refused() -> None:
    encoded = encode_records([(b"v", b"k", (), NOW)], 0, NOW, 100, at_least_one=True).data
    with pytest.raises(ValueError, match="1 bytes after the last record"):
        decode_records(encoded + b"\0", 1, 0, NOW)


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        decode_records(varint(2**90), 1, 0, NOW)


def test_a_record_that_does_not_fit_goes_into_the_next_batch() -> None:
    row: Row = (b"v" * 100, None, (), NOW)
    assert encode_records([row], 5, NOW, 50, at_least_one=False).records == 0
    assert encode_records([row, row], 0, NOW, 50, at_least_one=True).records == 1


@given(st.binary(max_size=100))
def test_keys_are_hashed_as_kafka_python_and_java_hash_them(key: bytes) -> None:
    assert murmur2(key) == kafka_murmur2(key)
