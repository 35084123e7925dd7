"""The checksum in C equals kafka-python's own."""

from __future__ import annotations

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st
from kafka.record import default_records
from kafka.record._crc32c import crc

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.kafka_python.checksum import native_crc32c


@given(st.binary(max_size=300), st.integers(0, 300))
def test_both_implementations_give_the_same_checksum(data: bytes, start: int) -> None:
    for view in (memoryview(data)[start:], memoryview(bytearray(data))[start:]):
        assert native_crc32c(view) == crc(view)


def test_kafka_python_uses_a_checksum_in_c() -> None:
    KafkaPythonClients({})
    assert google_crc32c.implementation == "c"
    assert default_records.calc_crc32c(memoryview(b"123456789")) == 0xE3069283  # the check value of CRC-32C
    assert default_records.calc_crc32c is native_crc32c
