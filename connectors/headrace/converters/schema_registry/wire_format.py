"""How a record names its schema, in Confluent's wire format.

Before the value: a zero byte and the id of the schema in four bytes (big-endian). Or in a header of the record: a byte
of one and the schema's GUID. Protobuf adds which message of the file it is: the number of levels, and for each the
position of the message, as zigzag varints; a single zero for the first message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headrace import DataError, Headers

KEY_HEADER, VALUE_HEADER = "__key_schema_id", "__value_schema_id"
HEAD_SIZE = 5
_ID, _GUID = 0, 1
_GUID_SIZE = 16
_DEEPEST = 100
"""Levels of messages in messages; protoc accepts fewer."""

MessagePath = tuple[int, ...]
"""Positions of a message and of those that it is defined in, the outermost first; empty for other formats."""
FIRST_MESSAGE: MessagePath = (0,)


class WireId(NamedTuple):
    """The schema of a record: the registry's id, or the GUID, and the message of a Protobuf file."""

    key: int | bytes
    path: MessagePath = ()


class WireRun(NamedTuple):
    """Consecutive records that were written with one schema; ``id`` None: null values."""

    start: int
    end: int
    id: WireId | None
    offset: int = 0
    """Where the value begins in the bytes of each record."""


def head(number: int, path: MessagePath = ()) -> bytes:
    """Return the bytes before a value."""
    return bytes((_ID,)) + number.to_bytes(4, "big") + _written_path(path)


def header(guid: bytes, path: MessagePath = ()) -> bytes:
    """Return the value of the header."""
    return bytes((_GUID,)) + guid + _written_path(path)


def wire_runs(
    values: Sequence[bytes | None],
    headers: Sequence[Headers] = (),
    *,
    name: str = VALUE_HEADER,
    with_path: bool = False,
) -> Iterator[WireRun]:
    """Yield the runs of a batch; ``name`` is that of the header. Raise DataError for bytes in another format."""
    if any(headers):
        yield from _runs_with_headers(values, [_last(row, name) for row in headers], with_path)
    else:
        yield from _runs(values, 0, len(values), with_path)


def _runs_with_headers(
    values: Sequence[bytes | None], ids: Sequence[bytes | None], with_path: bool
) -> Iterator[WireRun]:
    start = 0
    while start < len(values):
        written = ids[start]
        end = start + 1
        while end < len(values) and ids[end] == written:
            end += 1
        if written is None:
            yield from _runs(values, start, end, with_path)
        else:
            found, size = _wire_id(written, with_path)
            if size != len(written):
                raise _other_format("bytes are left behind the id in its header")
            for run in _null_runs(values, start, end):
                yield run._replace(id=found) if values[run.start] is not None else run
        start = end


def _null_runs(values: Sequence[bytes | None], start: int, end: int) -> Iterator[WireRun]:
    """Yield the runs of null values and of others."""
    while start < end:
        is_null = values[start] is None
        after = start + 1
        while after < end and (values[after] is None) is is_null:
            after += 1
        yield WireRun(start, after, None)
        start = after


def _runs(values: Sequence[bytes | None], start: int, last: int, with_path: bool) -> Iterator[WireRun]:
    """Yield the runs of records that have the id before the value."""
    while start < last:
        first = values[start]
        end = start + 1
        if first is None:
            while end < last and values[end] is None:
                end += 1
            yield WireRun(start, end, None)
        else:
            found, size = _wire_id(first, with_path)
            prefix = first[:size]
            while end < last and (value := values[end]) is not None and value.startswith(prefix):
                end += 1
            yield WireRun(start, end, found, size)
        start = end


def _wire_id(written: bytes, with_path: bool) -> tuple[WireId, int]:
    """Return the id at the beginning of the bytes, and its size."""
    size = HEAD_SIZE if written[:1] == bytes((_ID,)) else 1 + _GUID_SIZE
    if not written or written[0] not in (_ID, _GUID) or len(written) < size:
        found = f"the first byte is {written[0]}" if written and written[0] else f"there are only {len(written)} bytes"
        raise _other_format(found)
    key = int.from_bytes(written[1:size], "big") if written[0] == _ID else written[1:size]
    if not with_path:
        return WireId(key), size
    path, size = _read_path(written, size)
    return WireId(key, path), size


def _read_path(written: bytes, at: int) -> tuple[MessagePath, int]:
    count, at = _read_varint(written, at)
    if not 0 <= count <= _DEEPEST:
        raise _other_format("the position of its message is not valid")
    path = []
    for _ in range(count):
        position, at = _read_varint(written, at)
        path.append(position)
    return tuple(path) or FIRST_MESSAGE, at


def _written_path(path: MessagePath) -> bytes:
    if path == FIRST_MESSAGE:
        return b"\x00"
    return b"".join(map(_varint, (len(path), *path))) if path else b""


def _varint(number: int) -> bytes:
    """Return a whole number from 0 as a zigzag varint."""
    left = number << 1
    written = bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    written.append(left)
    return bytes(written)


def _read_varint(written: bytes, at: int) -> tuple[int, int]:
    found = 0
    for shift in range(0, 35, 7):
        if at >= len(written):
            break
        byte = written[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (found >> 1) ^ -(found & 1), at
    raise _other_format("the position of its message is not valid")


def _last(headers: Headers, name: str) -> bytes | None:
    return next((value for known, value in reversed(headers) if known == name), None)


def _other_format(found: str) -> DataError:
    return DataError(
        f"the record is not in the wire format of a schema registry: {found}",
        code="schema_registry.wire_format",
        hint="it was written without a registry: use the converter of its format, such as JsonConverter",
    )
