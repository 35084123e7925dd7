"""Functions and casts of expressions. All return null when an argument is null."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from headrace_streams.expressions.errors import ExpressionError
from headrace_streams.expressions.semantics import kind_of, wrong_type
from headrace_streams.expressions.types import NUMERIC, ColumnType

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


class Function(NamedTuple):
    """A function of expressions: how it is called, and the types of its arguments and result."""

    call: Callable[..., Any]
    arguments: tuple[tuple[ColumnType, ...], ...]
    """The types of each argument; those after the first ``least`` are optional."""
    result: ColumnType
    least: int


def _strict(name: str, call: Callable[..., Any], *kinds: tuple[type, ...]) -> Callable[..., Any]:
    """Return ``call`` with null propagation and checks of its arguments' classes."""

    def checked(*values: Any) -> Any:
        for value, kind in zip(values, kinds, strict=False):
            if value is None:
                return None
            if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
                raise wrong_type(f"apply {name} to", value)
        try:
            return call(*values)
        except (ValueError, OverflowError, InvalidOperation) as error:
            raise ExpressionError(f"{name}: {error}", code="stream.out_of_range") from error

    return checked


def _round(value: Any, digits: int = 0) -> Any:
    """Return the number rounded half away from zero, as in SQL; Python rounds half to even."""
    if isinstance(value, int):
        return value if digits >= 0 else int(_round(Decimal(value), digits))
    if isinstance(value, float) and not math.isfinite(value):
        return value
    unit = Decimal(1).scaleb(-digits)
    rounded = Decimal(str(value)).quantize(unit, rounding="ROUND_HALF_UP")
    return float(rounded) if isinstance(value, float) else rounded


def _substring(text: str, start: int, length: int | None = None) -> str:
    """Return a part of a text. Positions begin with 1, as in SQL."""
    if length is not None and length < 0:
        raise ValueError("the length is negative")
    end = None if length is None else max(0, start - 1 + length)
    return text[max(0, start - 1) : end]


_TEXT, _NUMBER, _INT = (str,), (int, float, Decimal), (int,)
_S, _N, _I = (ColumnType.STRING,), NUMERIC, (ColumnType.INTEGER,)

FUNCTIONS: dict[str, Function] = {
    "UPPER": Function(_strict("UPPER", str.upper, _TEXT), (_S,), ColumnType.STRING, 1),
    "LOWER": Function(_strict("LOWER", str.lower, _TEXT), (_S,), ColumnType.STRING, 1),
    "TRIM": Function(_strict("TRIM", str.strip, _TEXT), (_S,), ColumnType.STRING, 1),
    "LENGTH": Function(_strict("LENGTH", len, _TEXT), (_S,), ColumnType.INTEGER, 1),
    "ABS": Function(_strict("ABS", abs, _NUMBER), (_N,), ColumnType.ANY, 1),
    "FLOOR": Function(_strict("FLOOR", math.floor, _NUMBER), (_N,), ColumnType.INTEGER, 1),
    "CEIL": Function(_strict("CEIL", math.ceil, _NUMBER), (_N,), ColumnType.INTEGER, 1),
    "ROUND": Function(_strict("ROUND", _round, _NUMBER, _INT), (_N, _I), ColumnType.ANY, 1),
    "SUBSTRING": Function(_strict("SUBSTRING", _substring, _TEXT, _INT, _INT), (_S, _I, _I), ColumnType.STRING, 2),
}


def _to_integer(value: Any) -> int:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    return int(_round(value)) if isinstance(value, (float, Decimal)) else int(value)


def _to_double(value: Any) -> float:
    return float(value)


def _to_string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


_WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def _to_boolean(value: Any) -> bool:
    if isinstance(value, str):
        if (found := _WORDS.get(value.strip().lower())) is None:
            raise ValueError("neither true nor false")
        return found
    return bool(value)


def _to_timestamp(value: Any) -> datetime:
    """Read ISO 8601, or epoch milliseconds. A text without a time zone is UTC."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value / 1000, UTC)


_CASTS: dict[ColumnType, tuple[Callable[[Any], Any], tuple[type, ...]]] = {
    ColumnType.INTEGER: (_to_integer, (bool, int, float, Decimal, str)),
    ColumnType.DOUBLE: (_to_double, (int, float, Decimal, str)),
    ColumnType.DECIMAL: (lambda value: Decimal(str(value)), (int, float, Decimal, str)),
    ColumnType.STRING: (_to_string, (bool, int, float, Decimal, str, datetime)),
    ColumnType.BOOLEAN: (_to_boolean, (bool, int, str)),
    ColumnType.TIMESTAMP: (_to_timestamp, (int, float, str, datetime)),
}


def cast_to(target: ColumnType) -> Callable[[Any], Any]:
    """Return the function that CAST to a type calls."""
    convert, accepted = _CASTS[target]

    def cast(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, accepted):
            raise wrong_type(f"cast to {target} a value of type", value)
        try:
            return convert(value)
        except (ValueError, OverflowError, InvalidOperation, OSError) as error:
            text = f"cannot cast a value of type {kind_of(value)} to {target}"
            raise ExpressionError(text, code="stream.cast", hint="filter such records before") from error

    return cast


def epoch_milliseconds(value: Any) -> int:
    """Return a value of a time column as epoch milliseconds. Raise ExpressionError."""
    if value.__class__ is int:
        return int(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MILLISECOND
    hint = "use epoch milliseconds, or CAST(column AS TIMESTAMP) for texts"
    what = "null" if value is None else f"of type {kind_of(value)}"
    raise ExpressionError(f"the event time is {what}", code="stream.event_time", hint=hint)
