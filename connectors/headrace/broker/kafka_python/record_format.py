"""Kafka's record format, version 2: whole columns to records and back, in one loop each.

kafka-python encodes and decodes a record at a time, through several calls and objects for each. See decision record 230
and https://kafka.apache.org/documentation/#record.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from headrace.records import Headers

Row = tuple[bytes | None, bytes | None, Headers, int]
"""Value, key, headers, timestamp."""

_NULL = b"\x01"  # length -1
_NO_ATTRIBUTES = b"\x00"


def varint(number: int) -> bytes:
    """Return a signed number as zigzag varint."""
    zigzag = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while zigzag > 0x7F:
        encoded.append(0x80 | zigzag & 0x7F)
        zigzag >>= 7
    encoded.append(zigzag)
    return bytes(encoded)


_SMALL = 8_192  # numbers of at most two bytes: nearly all lengths and offsets
_VARINTS = tuple(varint(number) for number in range(_SMALL))


class EncodedRecords(NamedTuple):
    """Records without the header of their batch, and what that header says of them."""

    data: bytes
    records: int
    max_timestamp: int


def encode_records(
    rows: Iterable[Row], first_offset: int, first_timestamp: int, room: int, *, at_least_one: bool
) -> EncodedRecords:
    """Encode rows until they need more than ``room`` bytes.

    Offsets and timestamps are stored relative to the batch; ``at_least_one`` because an empty batch takes any record.
    """
    parts: list[bytes] = []
    size, offset = 0, first_offset
    max_timestamp = last_timestamp = first_timestamp
    moment = _VARINTS[0]
    for value, key, headers, timestamp in rows:
        if timestamp != last_timestamp:
            moment, last_timestamp = varint(timestamp - first_timestamp), timestamp
        place = _VARINTS[offset] if offset < _SMALL else varint(offset)
        record = b"".join(
            (
                _NO_ATTRIBUTES, moment, place,
                _NULL if key is None else _VARINTS[len(key)] if len(key) < _SMALL else varint(len(key)), key or b"",
                _NULL if value is None else _VARINTS[len(value)] if len(value) < _SMALL else varint(len(value)),
                value or b"", _encode_headers(headers) if headers else _VARINTS[0],
            )
        )  # fmt: skip
        length = _VARINTS[len(record)] if len(record) < _SMALL else varint(len(record))
        size += len(length) + len(record)
        if size > room and (parts or not at_least_one):
            break
        parts += (length, record)
        offset += 1
        max_timestamp = max(max_timestamp, timestamp)
    return EncodedRecords(b"".join(parts), offset - first_offset, max_timestamp)


def _encode_headers(headers: Headers) -> bytes:
    parts = [varint(len(headers))]
    for name, value in headers:
        encoded = name.encode()
        parts += (varint(len(encoded)), encoded, _NULL if value is None else varint(len(value)), value or b"")
    return b"".join(parts)


class DecodedRecords(NamedTuple):
    """A batch as columns of equal length."""

    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    headers: list[Headers]

    def part(self, start: int, end: int | None) -> DecodedRecords:
        """Return rows of all columns."""
        return DecodedRecords(
            self.offsets[start:end],
            self.keys[start:end],
            self.values[start:end],
            self.timestamps[start:end],
            self.headers[start:end],
        )

    def extend(self, more: DecodedRecords) -> None:
        """Append the rows of other columns."""
        self.offsets.extend(more.offsets)
        self.keys.extend(more.keys)
        self.values.extend(more.values)
        self.timestamps.extend(more.timestamps)
        self.headers.extend(more.headers)


def decode_records(data: bytes, count: int, first_offset: int, first_timestamp: int) -> DecodedRecords:
    """Decode the ``count`` records of a batch, without its header. Raise ValueError when they are not valid."""
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps: list[int] = []
    headers: list[Headers] = []
    at = 0
    try:
        for _ in range(count):
            length, at = _read(data, at)
            end = at + length
            at += 1  # attributes: none are defined
            if data[at]:
                delta, at = _read(data, at)
                timestamps.append(first_timestamp + delta)
            else:
                at += 1
                timestamps.append(first_timestamp)
            delta, at = _read(data, at)
            offsets.append(first_offset + delta)
            length, at = _read(data, at)
            if length < 0:
                keys.append(None)
            else:
                keys.append(data[at : at + length])
                at += length
            length, at = _read(data, at)
            if length < 0:
                values.append(None)
            else:
                values.append(data[at : at + length])
                at += length
            if data[at]:
                found, at = _decode_headers(data, at)
                headers.append(found)
            else:
                at += 1
                headers.append(())
            if at != end:
                raise ValueError(f"record {len(offsets)} of {count} ends at byte {at} and not at {end}")
    except IndexError as error:
        raise ValueError(f"record {len(offsets)} of {count} is cut off") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"record {len(offsets)} of {count} has a header whose name is not UTF-8") from error
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes after the last record")
    return DecodedRecords(offsets, keys, values, timestamps, headers)


def _read(data: bytes, at: int) -> tuple[int, int]:
    """Return a zigzag varint, and the position after it."""
    number = data[at]
    if number > 0x7F:
        second = data[at + 1]
        number = number & 0x7F | (second & 0x7F) << 7
        at += 1
        if second > 0x7F:
            shift, more = 14, True
            while more:
                at += 1
                byte = data[at]
                number |= (byte & 0x7F) << shift
                shift, more = shift + 7, byte > 0x7F
            if shift > 70:
                raise ValueError("a number of more than 64 bits")
    return (number >> 1) ^ -(number & 1), at + 1


def _decode_headers(data: bytes, at: int) -> tuple[Headers, int]:
    count, at = _read(data, at)
    if count < 0:
        raise ValueError("a negative number of headers")
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        length, at = _read(data, at)
        if length < 0:
            raise ValueError("a header without name")
        name = data[at : at + length].decode()
        at += length
        length, at = _read(data, at)
        found.append((name, data[at : at + length] if length >= 0 else None))
        at += max(length, 0)
    return found, at
