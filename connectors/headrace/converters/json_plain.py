"""Encodes values without a schema as JSON, as Connect does."""

from __future__ import annotations

import math
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any

import orjson

from headrace import DataError, json_bytes, nulls_are_none

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def dump_plain_values(values: Sequence[Any]) -> list[bytes]:
    """Return the JSON of each value as :func:`dump_plain`, faster if orjson supports all of them."""
    try:
        written = json_bytes(values, option=_OPTIONS)
    except TypeError:
        return [dump_plain(value) for value in values]
    for text, value in zip(written, values, strict=True):
        if b"null" in text and not nulls_are_none(text, value):
            _plain(value)
    return written


def dump_plain(value: Any) -> bytes:
    """Return the JSON of a value; bytes become base64, maps with keys other than strings lists of pairs.

    Raise DataError for a value without a JSON form.
    """
    try:
        (written,) = json_bytes([value], option=_OPTIONS)
    except TypeError:
        try:
            return json_bytes([_plain(value)], option=_OPTIONS)[0]
        except (TypeError, RecursionError) as error:
            raise DataError(f"cannot be written as JSON: {error}") from error
    if b"null" in written and not nulls_are_none(written, value):
        _plain(value)
    return written


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError("NaN and infinity cannot be written as JSON")
    if value is None or isinstance(value, (bool, str, int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b2a_base64(value, newline=False).decode()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(name, str) for name in value):
            return {name: _plain(item) for name, item in value.items()}
        return [[_plain(name), _plain(item)] for name, item in value.items()]
    raise DataError(f"{type(value).__name__} has no JSON form without a schema")
