"""Maps columns to fields: the schema of a column, and the conversion of its values.

The rules are those of the JDBC source connector. Types that Connect cannot express (arrays, ranges, intervals, enums,
json, uuid …), which that connector drops, arrive as STRING in the database's own text form.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Context, Decimal
from math import isfinite
from typing import Any, NamedTuple

from headrace import Schema, Type, schema


class Kind(enum.Enum):
    """What a column holds; the Python type of its values in parentheses."""

    BOOLEAN = "boolean"  # bool
    INT8 = "int8"  # int
    INT16 = "int16"  # int
    INT32 = "int32"  # int
    INT64 = "int64"  # int
    FLOAT32 = "float32"  # float
    FLOAT64 = "float64"  # float
    DECIMAL = "decimal"  # Decimal; precision and scale None = any
    DATE = "date"  # date
    TIME = "time"  # time
    MOMENT = "moment"  # aware datetime: a timestamp with a zone
    LOCAL = "local"  # naive datetime: a timestamp without one
    MOMENT_TEXT = "moment as text"  # str: 2024-05-01 12:00:00.123456+00, trailing zeros left out
    LOCAL_TEXT = "local as text"  # str: 2024-05-01 12:00:00.123456
    TEXT = "text"  # str
    BYTES = "bytes"  # bytes
    UNKNOWN = "unknown"  # inferred from values


FLOATS = frozenset({Kind.FLOAT32, Kind.FLOAT64, Kind.DECIMAL})
"""Kinds whose values may be NaN or infinite."""
INTEGERS = frozenset({Kind.INT8, Kind.INT16, Kind.INT32, Kind.INT64})
LOCALS = frozenset({Kind.LOCAL, Kind.LOCAL_TEXT})
TEMPORALS = frozenset({Kind.DATE, Kind.TIME, Kind.LOCAL, Kind.MOMENT, Kind.LOCAL_TEXT, Kind.MOMENT_TEXT})
TIMESTAMPS = LOCALS | {Kind.MOMENT, Kind.MOMENT_TEXT}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or of a query's result. ``precision`` of a timestamp: digits of the second's fraction."""

    name: str
    kind: Kind
    nullable: bool = True
    precision: int | None = None
    scale: int | None = None


class Conversion(NamedTuple):
    """What to do to a value: ``code`` with ``{v}`` for the value and ``{f}`` for ``argument``.

    ``guard`` must hold of the value as the driver gave it (``{v}``), or the row is refused.
    """

    code: str = "{v}"
    argument: Any = None
    guard: str = ""


_PLAIN: Mapping[Kind, Schema] = {
    Kind.BOOLEAN: schema.BOOLEAN,
    Kind.INT8: schema.INT8,
    Kind.INT16: schema.INT16,
    Kind.INT32: schema.INT32,
    Kind.INT64: schema.INT64,
    Kind.FLOAT32: schema.FLOAT32,
    Kind.FLOAT64: schema.FLOAT64,
    Kind.DATE: schema.DATE_SCHEMA,
    Kind.TIME: schema.TIME_SCHEMA,
    Kind.TEXT: schema.STRING,
    Kind.BYTES: schema.BYTES,
    Kind.UNKNOWN: schema.STRING,
}
WIDE = Context(prec=140_000)
"""Enough digits for the numbers of every database; the default of 28 is too small."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_DIGITS = 18  # of an INT64


@dataclass(frozen=True)
class TypeMapping:
    """The user's choices: ``numeric.mapping``, ``timestamp.granularity``, ``db.timezone`` and those below."""

    numeric: str
    granularity: str
    zone: tzinfo
    as_text: bool = False
    """Whether timestamps that arrive as text stay text (``temporal.out.of.range: text``)."""
    not_finite: str = "fail"
    """``float.not.finite``: what to do with NaN and infinity in a FLOAT32 or FLOAT64: ``fail``, ``null``, ``text``."""

    def schema_of(self, column: Column) -> Schema:
        """Return the field's schema."""
        if column.kind is Kind.DECIMAL:
            found = self._numeric(column)
        elif column.kind in TIMESTAMPS:
            found = schema.STRING if self.as_text else self._timestamp()
        else:
            found = _PLAIN[column.kind]
        if found.type in (Type.FLOAT32, Type.FLOAT64):
            if self.not_finite == "text":
                found = schema.STRING
            elif self.not_finite == "null":
                return found.as_optional()
        return found.as_optional() if column.nullable else found

    def conversion(self, column: Column) -> Conversion:
        """Return the conversion from values of the column's kind to values of its schema."""
        if column.kind is Kind.DECIMAL:
            numeric = self._numeric(column)
            if numeric.type is not Type.FLOAT64:
                return _number(numeric)
            return Conversion("{f}({v})", plain_digits if self.not_finite == "text" else self._float)
        if column.kind in (Kind.FLOAT32, Kind.FLOAT64):
            if self.not_finite == "text":
                return Conversion("{f}({v})", float_text)
            return Conversion("({v} if {v} - {v} == 0 else {f}({v}))", self._float)  # inf - inf is NaN
        if self.as_text and column.kind in TIMESTAMPS:
            return Conversion()
        if column.kind in (Kind.MOMENT_TEXT, Kind.LOCAL_TEXT):
            usual = _USUAL_MOMENT if column.kind is Kind.MOMENT_TEXT else _USUAL_LOCAL
            zeros = " + '000'" if self.granularity.startswith("nanos") else ""
            return Conversion(f"({{v}}[:10] + 'T' + {{v}}[11:26] if {usual} else {{f}}({{v}})){zeros}", _padded)
        if column.kind in TIMESTAMPS:
            return self._moment(column.kind is Kind.MOMENT)
        return Conversion()

    def _float(self, value: Any) -> float | None:
        number = float(value)
        if isfinite(number):
            return number
        if self.not_finite == "null":
            return None
        raise ValueError(f"{value} is not a finite FLOAT64")

    def _numeric(self, column: Column) -> Schema:
        precision, scale = column.precision, column.scale
        fit = self.numeric in ("best_fit", "best_fit_eager_double")
        if precision is None or scale is None:
            return schema.FLOAT64 if fit else schema.STRING
        small = precision <= _MOST_DIGITS
        digits = precision - min(scale, 0)  # NUMERIC(2,-3) holds 99000
        if digits <= _MOST_DIGITS and ((scale == 0 and self.numeric != "none") or (scale < 0 and fit)):
            return _integer(digits)
        if scale > 0 and ((small and fit) or self.numeric == "best_fit_eager_double"):
            return schema.FLOAT64
        return schema.decimal(scale, precision)

    def _timestamp(self) -> Schema:
        if self.granularity == "connect_logical":
            return schema.TIMESTAMP_SCHEMA
        return schema.INT64 if self.granularity.endswith("long") else schema.STRING

    def _moment(self, aware: bool) -> Conversion:
        unit, _, form = self.granularity.partition("_")
        if self.granularity == "connect_logical":
            if aware:
                return Conversion()  # sessions are in UTC, so the value is
            return Conversion("{v}.replace(tzinfo={f})", UTC) if self.zone is UTC else Conversion("{f}({v})", self._utc)
        if form == "iso_datetime_string":
            code = "{v}"
            if aware:
                # A zone that is UTC is cheap to leave out; any other one changes the digits.
                code += ".replace(tzinfo=None)" if self.zone is UTC else ".astimezone({f}).replace(tzinfo=None)"
            code += ".isoformat('T', 'microseconds')" + (" + '000'" if unit == "nanos" else "")
            return Conversion(code, self.zone)
        number = "{f}({v})" + (" * 1000" if unit == "nanos" else "")
        return Conversion(f"str({number})" if form == "string" else number, micros if aware else self._local_micros)

    def _utc(self, value: datetime) -> datetime:
        return value.replace(tzinfo=self.zone).astimezone(UTC)

    def _local_micros(self, value: datetime) -> int:
        return micros(self._utc(value))


# True of six digits after the second and a year of four, not of "infinity" or "… BC".
_USUAL_MOMENT = "{v}[10:11] + {v}[26:] == ' +00'"
_USUAL_LOCAL = "len({v}) == 26 and {v}[10] == ' ' and {v}[25] != 'C'"
_TEXT_FORM = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d+))?(?:\+00)?")


def _padded(value: str) -> str:
    match = _TEXT_FORM.fullmatch(value)
    if match is None:
        raise ValueError(f"{value} is out of range")
    return f"{match[1]}T{match[2]}.{match[3] or '':0<6}"


def micros(moment: datetime) -> int:
    """Return the microseconds since the epoch."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _integer(digits: int) -> Schema:
    if digits > 9:
        return schema.INT64
    if digits > 4:
        return schema.INT32
    return schema.INT16 if digits > 2 else schema.INT8


def _number(target: Schema) -> Conversion:
    if target.type is Type.STRING:
        return Conversion("{f}({v})", plain_digits)
    if target.type is not Type.BYTES:
        return Conversion("{f}({v})", int)  # raises for NaN and infinity
    scale = int(target.parameter("scale") or 0)
    if scale < 0:
        return Conversion("{f}({v})", _quantiser(Decimal(1).scaleb(-scale)), "{v}.is_finite()")
    return Conversion(guard="{v}.is_finite()")  # Connect's Decimal has neither NaN nor infinity


def _quantiser(quantum: Decimal) -> Callable[[Decimal], Decimal]:
    return lambda value: value.quantize(quantum, context=WIDE)


def float_text(value: float) -> str:
    """Return the shortest text of a float; ``NaN``, ``Infinity`` and ``-Infinity`` by name."""
    return repr(value) if isfinite(value) else plain_digits(Decimal(value))


def plain_digits(value: Decimal) -> str:
    """Return all digits without an exponent; ``NaN`` and ``Infinity`` by name."""
    return format(value, "f")


def infer(name: str, values: Sequence[Any]) -> Column | None:
    """Return a column of the narrowest kind that holds ``values``; None if all are NULL."""
    found = {type(value) for value in values if value is not None}
    if not found:
        return None
    if found == {bool}:
        return Column(name, Kind.BOOLEAN)
    if found == {int}:
        return Column(name, Kind.INT64)
    if found <= {int, float}:
        return Column(name, Kind.FLOAT64)
    if found <= {bytes, bytearray, memoryview}:
        return Column(name, Kind.BYTES)
    if found == {datetime}:
        return Column(name, Kind.LOCAL if all(v is None or v.tzinfo is None for v in values) else Kind.MOMENT)
    if found <= {int, Decimal}:
        return Column(name, Kind.DECIMAL)
    return Column(name, Kind.TEXT)


def widen(known: Column | None, found: Column) -> Column:
    """Return a column that holds the values of two batches."""
    if known is None or found.kind is known.kind:
        return found
    if {known.kind, found.kind} == {Kind.INT64, Kind.FLOAT64}:
        return Column(found.name, Kind.FLOAT64)
    return Column(found.name, Kind.TEXT)


Normaliser = Callable[[Any], Any]
"""Converts a driver's value to a value of the column's kind. Raises ValueError, TypeError or ArithmeticError."""
