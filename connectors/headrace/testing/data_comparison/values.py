"""Compare values of a database with JSON, exactly."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Container, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def differing(row: Mapping[str, Any], found: Any, ignored: Container[str] = ()) -> list[str]:
    """Return the differences, one phrase each. ``found`` is a record's value or a document."""
    if not isinstance(found, Mapping):
        return [f"{found!r} is no object"]
    phrases = [
        f"{name} is {row[name]!r}, found {found[name]!r}"
        for name in row
        if name not in ignored and name in found and not same(row[name], found[name])
    ]
    if lacking := [name for name in row if name not in found and name not in ignored]:
        phrases.append(f"without {', '.join(lacking)}")
    if surplus := [name for name in found if name not in row and name not in ignored]:
        phrases.append(f"also has {', '.join(surplus)}")
    return phrases


def same(value: Any, found: Any) -> bool:
    """Return whether a driver's ``value`` equals ``found`` in JSON, in any of the forms that converters write.

    Times are ISO 8601 (without a zone: UTC) or Connect's numbers, which have milliseconds; decimals are numbers,
    texts, or Connect's base64 of the unscaled number; bytes are base64; json columns objects or texts.
    """
    match value:
        case bool() | None:
            return found is value
        case int():
            return type(found) is int and found == value
        case float():
            return _is_number(found) and float(found) == value
        case Decimal():
            return _decimal(value, found)
        case datetime():
            return _moment(value, found)
        case date():
            return bool(found == (value.isoformat() if isinstance(found, str) else (value - _EPOCH.date()).days))
        case time() | timedelta():
            return _time(value, found)
        case bytes() | bytearray() | memoryview():
            return isinstance(found, str) and _base64(found) == bytes(value)
        case UUID():
            return bool(found == str(value))
        case dict() | list() | tuple():
            return _structure(value, found)
        case str():
            return bool(found == value) or (isinstance(found, (dict, list)) and _structure(value, found))
    return bool(found == value)


def _is_number(found: Any) -> bool:
    return isinstance(found, (int, float, Decimal)) and not isinstance(found, bool)


def _decimal(value: Decimal, found: Any) -> bool:
    if _is_number(found):
        return Decimal(str(found)) == value
    if not isinstance(found, str):
        return False
    try:
        if Decimal(found) == value:
            return True
    except InvalidOperation:
        pass  # it may be base64
    unscaled, exponent = _base64(found), value.as_tuple().exponent
    if unscaled is None or not isinstance(exponent, int):
        return False
    return Decimal(int.from_bytes(unscaled, "big", signed=True)).scaleb(exponent) == value


def _moment(value: datetime, found: Any) -> bool:
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    if type(found) is int:
        return (value - _EPOCH) // _MILLISECOND == found
    try:
        parsed = datetime.fromisoformat(found)
    except (TypeError, ValueError):
        return False
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) == value


def _time(value: time | timedelta, found: Any) -> bool:
    passed = (
        value
        if isinstance(value, timedelta)
        else timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
    )
    if type(found) is int:
        return passed // _MILLISECOND == found
    try:
        parsed = time.fromisoformat(found)
    except (TypeError, ValueError):
        return False
    return (_EPOCH + passed).time() == parsed and passed < timedelta(days=1)


def _base64(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return None


def _structure(value: Any, found: Any) -> bool:
    return bool(_parsed(value) == _parsed(found))


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return list(value) if isinstance(value, tuple) else value
    try:
        return json.loads(value)
    except ValueError:
        return value
