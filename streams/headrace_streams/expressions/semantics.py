"""Functions that compiled expressions call where the fast path does not apply: nulls, decimals, values of wrong types.

Compiled code tests the classes of its operands inline and calls these functions only for what is left, so null
semantics and type errors cost nothing in the common case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from headrace import Pattern, compile_pattern
from headrace_streams.expressions.errors import ExpressionError

NUMBERS = frozenset({int, float})
"""Classes whose arithmetic is that of Python; bool is none of them."""
PLAIN = frozenset({int, float, str, bool})
"""Classes whose values are compared as Python does, within one class."""
_SHORT = 100
"""Characters of a LIKE pattern."""
_ORDERED = (str, datetime, date, time)


def kind_of(value: Any) -> str:
    """Return the name of a value's type, for messages."""
    names: dict[type, str] = {bool: "boolean", int: "integer", float: "double", str: "string", dict: "object"}
    names |= {list: "array", Decimal: "decimal", datetime: "timestamp"}
    return names.get(type(value), type(value).__name__)


def wrong_type(doing: str, *values: Any) -> ExpressionError:
    """Return the error about operands of these types."""
    kinds = " and ".join(kind_of(value) for value in values)
    return ExpressionError(
        f"cannot {doing} {kinds}", code="stream.wrong_type", hint="convert by CAST, or filter before"
    )


def _numbers(doing: str, left: Any, right: Any) -> tuple[Any, Any]:
    """Return both operands as numbers that Python can combine; decimal with double gives double, as in SQL."""
    for value in (left, right):
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise wrong_type(doing, left, right)
    if isinstance(left, float) or isinstance(right, float):
        return float(left), float(right)
    return left, right


def arithmetic(doing: str, combine: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the null-propagating form of an operator on numbers."""

    def apply(left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        left, right = _numbers(doing, left, right)
        try:
            return combine(left, right)
        except OverflowError as error:
            raise ExpressionError(f"cannot {doing}: the result is too large", code="stream.out_of_range") from error

    return apply


def _divide(left: Any, right: Any) -> Any:
    if not right:
        raise ExpressionError(
            "division by zero", code="stream.division_by_zero", hint="write NULLIF(divisor, 0) to get null instead"
        )
    return left / right


def _modulo(left: Any, right: Any) -> Any:
    """Return the remainder with the sign of the dividend, as SQL does."""
    if not right:
        return _divide(left, right)
    remainder = abs(left) % abs(right)
    return -remainder if left < 0 else remainder


add = arithmetic("add", lambda left, right: left + right)
subtract = arithmetic("subtract", lambda left, right: left - right)
multiply = arithmetic("multiply", lambda left, right: left * right)
divide = arithmetic("divide", _divide)
modulo = arithmetic("divide", _modulo)


def negate(value: Any) -> Any:
    return None if value is None else -_numbers("negate", value, 0)[0]


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Return both operands in comparable form. Raise ExpressionError."""
    if isinstance(left, bool) and isinstance(right, bool):
        return left, right
    for kind in _ORDERED:
        if isinstance(left, kind) and isinstance(right, kind) and type(left) is type(right):
            return left, right
    if isinstance(left, (dict, list)) and type(left) is type(right):
        return left, right
    numeric = (int, float, Decimal)
    if isinstance(left, numeric) and isinstance(right, numeric) and bool not in (type(left), type(right)):
        return left, right
    raise wrong_type("compare", left, right)


def comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool | None]:
    """Return the null-propagating form of a comparison."""

    def apply(left: Any, right: Any) -> bool | None:
        if left is None or right is None:
            return None
        left, right = _comparable(left, right)
        try:
            return compare(left, right)
        except TypeError as error:  # objects have no order, nor have timestamps with and without a time zone
            raise wrong_type("compare", left, right) from error

    return apply


equal = comparison(lambda left, right: left == right)
not_equal = comparison(lambda left, right: left != right)
less = comparison(lambda left, right: left < right)
less_equal = comparison(lambda left, right: left <= right)
greater = comparison(lambda left, right: left > right)
greater_equal = comparison(lambda left, right: left >= right)


def truth(value: Any) -> bool | None:
    """Return a boolean or null. Raise ExpressionError for any other value."""
    if value is None or value is True or value is False:
        return value
    raise ExpressionError(
        f"a condition is of type {kind_of(value)}, not boolean", code="stream.wrong_type", hint="write a comparison"
    )


def conjunction(left: Any, right: Any) -> bool | None:
    left, right = truth(left), truth(right)
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def disjunction(left: Any, right: Any) -> bool | None:
    left, right = truth(left), truth(right)
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def negation(value: Any) -> bool | None:
    return None if truth(value) is None else not value


def is_in(value: Any, members: Sequence[Any]) -> bool | None:
    """Return whether the value is one of the members, as IN of SQL: null when it is not found and a member is null."""
    if value is None:
        return None
    results = [equal(value, member) for member in members]
    return True if True in results else None if None in results else False


def like(value: Any, pattern: Pattern | re.Pattern[str]) -> bool | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type("match by LIKE a value of type", value)
    return pattern.fullmatch(value) is not None


def like_pattern(text: str) -> Pattern | re.Pattern[str]:
    """Return the regular expression of a LIKE pattern. Raise ExpressionError.

    Python's ``re`` takes a tenth of the time of RE2. With several ``%`` it tries all combinations of places, and its
    time grows with a power of the length of the text, so such patterns are matched by RE2.
    """
    parts = {"%": ".*", "_": "."}
    expression = "(?s)" + "".join(parts.get(letter) or re.escape(letter) for letter in text)
    if len(text) <= _SHORT and text.rstrip("%").count("%") <= 1:
        return re.compile(expression)
    try:
        return compile_pattern(expression)
    except ValueError as error:
        raise ExpressionError(f"the pattern of LIKE cannot be used: {error}", code="stream.unsupported") from error


def concatenate(left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    if not isinstance(left, str) or not isinstance(right, str):
        raise wrong_type("concatenate", left, right)
    return left + right


def field(value: Any, name: str) -> Any:
    """Return a field of an object; null of null."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ExpressionError(f"a value of type {kind_of(value)} has no column '{name}'", code="stream.wrong_type")
    return value.get(name)


def element(value: Any, index: Any) -> Any:
    """Return an element of an array by its index from 0, or a field of an object; null when there is none."""
    if value is None or index is None:
        return None
    if isinstance(value, dict) and isinstance(index, str):
        return value.get(index)
    if isinstance(value, list) and isinstance(index, int) and not isinstance(index, bool):
        return value[index] if -len(value) <= index < len(value) else None
    raise wrong_type("take an element of", value)
