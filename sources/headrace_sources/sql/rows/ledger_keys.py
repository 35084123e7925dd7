"""Keys in a ledger: encoded as bytes in the order of the values, and hashed as databases can hash them, too.

Integers, dates, moments, bytes and texts (by code point) sort as bytes as they sort as values, one after the other in
keys of several columns. Decimals and times with a zone do not; only speed depends on it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import md5
from typing import Any

Key = tuple[Any, ...]

SEPARATOR = "\x1f"
"""Between the texts of a key's values, before they are hashed."""
HASH_DIGITS = 12
"""Hexadecimal digits of the MD5 that count: the sum of ten thousand such hashes fits into 64 bits."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_UTC_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SIGN = 1 << 63
_ALL = (1 << 64) - 1


def encoded(key: Key) -> bytes:
    """Return the encoded key. Raise TypeError for a type that no driver returns."""
    parts = []
    for value in key:
        for kind, tag, write in _WRITERS:
            if isinstance(value, kind):
                parts.append(tag + write(value))
                break
        else:
            raise TypeError(f"a key of {type(value).__name__} cannot be stored")
    return b"".join(parts)


def decoded(found: bytes) -> Key:
    """Return the decoded key, moments in UTC."""
    values = []
    place = 0
    while place < len(found):
        value, place = _READERS[found[place : place + 1]](found, place + 1)
        values.append(value)
    return tuple(values)


def key_hash(key: Key) -> int:
    """Return the hash that databases compute from the values' texts, see ``Dialect.key_hash``."""
    joined = SEPARATOR.join([value if isinstance(value, str) else _text(value) for value in key])
    return int(md5(joined.encode(), usedforsecurity=False).hexdigest()[:HASH_DIGITS], 16)


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _write_int(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    if number >= 0:
        return bytes([0x80 + size]) + number.to_bytes(size, "big")
    return bytes([0x7F - size]) + ((1 << 8 * size) - 1 + number).to_bytes(size, "big")


def _read_int(found: bytes, place: int) -> tuple[int, int]:
    first = found[place]
    size = first - 0x80 if first >= 0x80 else 0x7F - first
    end = place + 1 + size
    number = int.from_bytes(found[place + 1 : end], "big")
    return (number if first >= 0x80 else number - (1 << 8 * size) + 1), end


def _write_bytes(value: bytes) -> bytes:
    return value.replace(b"\0", b"\0\xff") + b"\0\0"


def _read_bytes(found: bytes, place: int) -> tuple[bytes, int]:
    end = found.index(b"\0\0", place)
    return found[place:end].replace(b"\0\xff", b"\0"), end + 2


def _write_float(value: float) -> bytes:
    [bits] = struct.unpack(">Q", struct.pack(">d", value))
    return struct.pack(">Q", bits ^ _ALL if bits & _SIGN else bits | _SIGN)


def _read_float(found: bytes, place: int) -> tuple[float, int]:
    [bits] = struct.unpack(">Q", found[place : place + 8])
    [value] = struct.unpack(">d", struct.pack(">Q", bits ^ _SIGN if bits & _SIGN else bits ^ _ALL))
    return value, place + 8


def _moment(value: datetime) -> bytes:
    if value.tzinfo is None:
        return b"n" + _write_int((value - _EPOCH) // _MICROSECOND)
    return b"u" + _write_int((value - _UTC_EPOCH) // _MICROSECOND)


def _read_moment(found: bytes, place: int) -> tuple[datetime, int]:
    number, end = _read_int(found, place + 1)
    return (_EPOCH if found[place : place + 1] == b"n" else _UTC_EPOCH) + number * _MICROSECOND, end


def _texts(value: Any) -> bytes:
    return _write_bytes(str(value).encode())


def _by_int(back: Callable[[int], Any]) -> Callable[[bytes, int], tuple[Any, int]]:
    def read(found: bytes, place: int) -> tuple[Any, int]:
        number, end = _read_int(found, place)
        return back(number), end

    return read


def _by_text(back: Callable[[str], Any]) -> Callable[[bytes, int], tuple[Any, int]]:
    def read(found: bytes, place: int) -> tuple[Any, int]:
        value, end = _read_bytes(found, place)
        return back(value.decode()), end

    return read


# bool before int, datetime before date: each is an instance of the other, too.
_WRITERS: Sequence[tuple[type, bytes, Callable[[Any], bytes]]] = (
    (bool, b"b", _write_int),
    (int, b"i", _write_int),
    (str, b"s", lambda value: _write_bytes(value.encode())),
    (datetime, b"t", _moment),
    (date, b"a", lambda value: _write_int(value.toordinal())),
    (bytes, b"x", _write_bytes),
    (Decimal, b"d", _texts),
    (float, b"f", _write_float),
    (time, b"m", lambda value: _texts(value.isoformat())),
    (timedelta, b"v", lambda value: _write_int(value // _MICROSECOND)),
)
_READERS: Mapping[bytes, Callable[[bytes, int], tuple[Any, int]]] = {
    b"b": _by_int(bool),
    b"i": _read_int,
    b"s": _by_text(str),
    b"t": _read_moment,
    b"a": _by_int(date.fromordinal),
    b"x": _read_bytes,
    b"d": _by_text(Decimal),
    b"f": _read_float,
    b"m": _by_text(time.fromisoformat),
    b"v": _by_int(lambda number: number * _MICROSECOND),
}
