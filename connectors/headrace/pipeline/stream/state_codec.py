"""Encodes state and internal records as JSON that keeps all types: decoded values are equal to the encoded ones.

Plain JSON has no decimals, timestamps, bytes, infinities, or integers beyond 64 bits. They are written as objects with
one key that begins with ``$``; the user's own objects of that form are escaped. Values without any of them take the
fast path in both directions. Tuples become lists.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import orjson

from headrace.errors import DataError
from headrace.json_bytes import json_bytes, nulls_are_none

_MARK = b'{"$'
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_CODE, _HINT = "stream.not_storable", "use JSON types, decimals, timestamps or bytes"
_LARGEST, _SMALLEST = (1 << 64) - 1, -(1 << 63)

_READERS: dict[str, Callable[[Any], Any]] = {
    "$decimal": Decimal,
    "$timestamp": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$bytes": b64decode,
    "$integer": int,
    "$double": float,
    "$object": lambda items: {name: _read(value) for name, value in items},
}


def encode(values: Sequence[Any]) -> list[bytes]:
    """Return each value as JSON. Raise DataError for a value that cannot be stored."""
    try:
        written = json_bytes(values, option=_OPTIONS)
    except TypeError:
        return [_encode(value) for value in values]
    # orjson writes NaN as null, and does not escape the marks.
    return [
        text if _MARK not in text and (b"null" not in text or nulls_are_none(text, value)) else _encode(value)
        for text, value in zip(written, values, strict=True)
    ]


def decode(text: bytes) -> Any:
    """Return the value of a text of :func:`encode`."""
    value = orjson.loads(text)
    return _read(value) if _MARK in text else value


def _encode(value: Any) -> bytes:
    try:
        return json_bytes([_plain(value)], option=_OPTIONS)[0]
    except (TypeError, RecursionError) as error:  # invalid Unicode, or nested too deeply
        raise DataError(f"a value cannot be stored as JSON: {error}", code=_CODE, hint=_HINT) from error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if _SMALLEST <= value <= _LARGEST else {"$integer": str(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$double": repr(value)}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, datetime):
        return {"$timestamp": value.isoformat()}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, time):
        return {"$time": value.isoformat()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        if any(name.startswith("$") for name in value):
            return {"$object": [[name, _plain(item)] for name, item in value.items()]}
        return {name: _plain(item) for name, item in value.items()}
    text = f"a value of type {type(value).__name__} cannot be stored in a stream's state or internal topic"
    raise DataError(text, code=_CODE, hint=_HINT)


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, inner),) = value.items()
            if (read := _READERS.get(name)) is not None:
                return read(inner)
        return {name: _read(item) for name, item in value.items()}
    return value
