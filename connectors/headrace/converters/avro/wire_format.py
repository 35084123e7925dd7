"""Confluent's wire format: a zero byte, the id of the schema in four bytes (big-endian), the value."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headrace import DataError

HEAD = struct.Struct(">bI")
HEAD_SIZE = HEAD.size


class WireRun(NamedTuple):
    """Consecutive records that were written with one schema; ``number`` None: null values."""

    start: int
    end: int
    number: int | None


def head(number: int) -> bytes:
    """Return the bytes before a value."""
    return HEAD.pack(0, number)


def wire_runs(values: Sequence[bytes | None]) -> Iterator[WireRun]:
    """Yield the runs of a batch. Raise DataError for bytes in another format."""
    start = 0
    while start < len(values):
        first = values[start]
        end = start + 1
        if first is None:
            while end < len(values) and values[end] is None:
                end += 1
            yield WireRun(start, end, None)
        else:
            prefix = first[:HEAD_SIZE]
            number = _number(prefix)
            while end < len(values) and (value := values[end]) is not None and value.startswith(prefix):
                end += 1
            yield WireRun(start, end, number)
        start = end


def _number(prefix: bytes) -> int:
    if len(prefix) < HEAD_SIZE or prefix[0] != 0:
        found = f"the first byte is {prefix[0]}" if prefix and prefix[0] else f"there are only {len(prefix)} bytes"
        raise DataError(
            f"the record is not in the wire format of a schema registry: {found}",
            code="avro.wire_format",
            hint="it was written without a registry: use the converter of its format, such as JsonConverter",
        )
    return int.from_bytes(prefix[1:], "big")
