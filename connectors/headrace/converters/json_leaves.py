"""Converts values without parts as Connect's JsonConverter does: numbers, texts, bytes, logical types.

================  =====================================================================
Date              days since 1970-01-01
Time              milliseconds since midnight
Timestamp         milliseconds since 1970-01-01T00:00Z; finer parts are cut off
Decimal           base64 of the unscaled two's complement bytes, or a JSON number
BYTES             base64
================  =====================================================================
"""

from __future__ import annotations

import math
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact

import orjson

from headrace import Schema, Type, schema
from headrace.converters.json_columns import Leaf, Values


class NeedsExactNumbers(Exception):
    """A decimal was parsed from a JSON number as a double; it has to be parsed again without losing digits."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY = 86_400_000
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_LOGICAL = {
    schema.DECIMAL: Type.BYTES,
    schema.DATE: Type.INT32,
    schema.TIME: Type.INT32,
    schema.TIMESTAMP: Type.INT64,
}
_BITS = {Type.INT8: 8, Type.INT16: 16, Type.INT32: 32, Type.INT64: 64}
# Jackson writes these numbers as texts.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encoding_leaf(*, numeric: bool) -> Callable[[Schema], Leaf]:
    """Return the leaves of an encoder; ``numeric``: decimals become JSON numbers."""

    def leaf(described: Schema) -> Leaf:
        match logical_name(described):
            case schema.DECIMAL if numeric:
                return _leaf(_write_number, Decimal)
            case schema.DECIMAL:
                scale = scale_of(described)
                return _leaf(lambda values: [_write_base64(value, scale) for value in values], Decimal)
            case schema.DATE:
                return _leaf(lambda values: [value.toordinal() - _EPOCH_DAY for value in values], date)
            case schema.TIME:
                return _leaf(lambda values: list(map(_write_time, values)), time)
            case schema.TIMESTAMP:
                return _leaf(lambda values: list(map(_write_timestamp, values)), datetime)
        if described.type is Type.BYTES:
            return _leaf(lambda values: [b2a_base64(value, newline=False).decode() for value in values], bytes)
        if described.type in (Type.FLOAT32, Type.FLOAT64):
            return _leaf(_write_floats, float, int)
        return _plain(described)

    return leaf


def decoding_leaf(described: Schema) -> Leaf:
    """Return a leaf that decodes. Decimals are read from texts and from numbers."""
    match logical_name(described):
        case schema.DECIMAL:
            scale = scale_of(described)
            return _leaf(lambda values: [_read_decimal(value, scale) for value in values], str, int, float, Decimal)
        case schema.DATE:
            return _leaf(lambda values: list(map(_read_date, values)), int)
        case schema.TIME:
            return _leaf(lambda values: list(map(_read_time, values)), int)
        case schema.TIMESTAMP:
            return _leaf(lambda values: list(map(_read_timestamp, values)), int)
    if described.type is Type.BYTES:
        return _leaf(lambda values: list(map(_read_base64, values)), str)
    if described.type in (Type.FLOAT32, Type.FLOAT64):
        return _leaf(_read_floats, float, int, Decimal, str)
    return _plain(described)


def logical_name(described: Schema) -> str | None:
    """Return the name of the logical type; None when there is none, also when the name is on a different type."""
    return described.name if _LOGICAL.get(described.name or "") is described.type else None


def scale_of(described: Schema) -> int:
    """Return the scale of a Decimal. Raise ValueError."""
    text = described.parameter("scale")
    try:
        return int(text or "")
    except ValueError:
        raise ValueError("the schema of a Decimal has no scale, a whole number among its parameters") from None


def _leaf(convert: Callable[[Values], Values], *accepted: type) -> Leaf:
    return Leaf(frozenset(accepted), convert)


def _plain(described: Schema) -> Leaf:
    """Return the leaf of a type that is the same in Python and JSON."""
    if described.type is Type.BOOLEAN:
        return _leaf(lambda values: values, bool)
    if described.type is Type.STRING:
        return _leaf(lambda values: values, str)
    bound = 1 << (_BITS[described.type] - 1)

    def within(values: Values) -> Values:
        if min(values) < -bound or max(values) >= bound:
            raise ValueError(f"a number outside the range of {described.type.name}")
        return values

    return _leaf(within, int)


def _write_floats(values: Values) -> Values:
    # JSON has no NaN and no infinity (orjson would write null).
    if not all(map(math.isfinite, values)):
        raise ValueError("NaN and infinity cannot be written as JSON")
    return list(map(float, values)) if int in set(map(type, values)) else values


def _read_floats(values: Values) -> Values:
    if set(map(type, values)) == {float}:
        return values
    return [_read_float(value) for value in values]


def _read_float(value: float | Decimal | str) -> float:
    if isinstance(value, str):
        if value not in _NOT_FINITE:
            raise ValueError("str where a number is expected")
        return _NOT_FINITE[value]
    return float(value)


def _write_number(values: Values) -> Values:
    if not all(value.is_finite() for value in values):
        raise ValueError("NaN and infinity cannot be written as JSON")
    return [orjson.Fragment(str(value)) for value in values]


def _write_base64(value: Decimal, scale: int) -> str:
    if not value.is_finite():
        raise ValueError("NaN and infinity cannot be written as JSON")
    scaled = value.scaleb(scale, _EXACT)
    unscaled = int(scaled)
    if scaled != unscaled:
        raise ValueError(f"a decimal with more than {scale} digits behind the point, the scale of its schema")
    size = (unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1
    return b2a_base64(unscaled.to_bytes(size, "big", signed=True), newline=False).decode()


def _read_base64(value: str) -> bytes:
    try:
        return a2b_base64(value, strict_mode=True)
    except ValueError:
        raise ValueError("a text that is not base64") from None


def _read_date(value: int) -> date:
    if not 1 <= value + _EPOCH_DAY <= date.max.toordinal():
        raise ValueError("a date outside the years 1 to 9999")
    return date.fromordinal(value + _EPOCH_DAY)


def _read_timestamp(value: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        raise ValueError("a timestamp outside the years 1 to 9999") from None


def _read_decimal(value: str | int | float | Decimal, scale: int) -> Decimal:
    if isinstance(value, float):
        raise NeedsExactNumbers
    if isinstance(value, str):
        unscaled = int.from_bytes(_read_base64(value), "big", signed=True)
        return Decimal(unscaled).scaleb(-scale, _EXACT)
    number = Decimal(value)
    context = Context(prec=max(number.adjusted(), 0) + abs(scale) + 2, traps=[])
    fitted = number.quantize(Decimal(1).scaleb(-scale), context=context)
    # A writer of numbers need not keep to the scale; Connect keeps such a number as it is.
    return number if context.flags[Inexact] else fitted


def _write_time(value: time) -> int:
    if value.tzinfo is not None:
        raise ValueError("a time of day has no time zone")
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1000 + value.microsecond // 1000


def _read_time(value: int) -> time:
    if not 0 <= value < _DAY:
        raise ValueError("a time of day outside 0 to 86399999 milliseconds")
    return (_EPOCH + timedelta(milliseconds=value)).time()


def _write_timestamp(value: datetime) -> int:
    if value.tzinfo is None:
        raise ValueError("a timestamp without time zone")
    passed = value - _EPOCH
    return passed.days * _DAY + passed.seconds * 1000 + passed.microseconds // 1000
