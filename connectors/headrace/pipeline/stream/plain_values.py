"""Outputs of stream applications in the form that converters write without a schema.

Inputs with schemas have decimals, timestamps, dates and times, and results have no schema. They become what the same
values are in records whose schema is not sent: numbers since 1970-01-01 or midnight, and JSON numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)


def plain_values(values: Sequence[Any]) -> list[Any]:
    """Return the values in plain form. Decimals that a double does not hold exactly stay; converters refuse them."""
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        number = float(value)
        return number if Decimal(repr(number)) == value else value
    if isinstance(value, datetime):
        return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    if isinstance(value, date):
        return (value - _FIRST_DAY).days
    if isinstance(value, time):
        return (
            timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
            // _MILLISECOND
        )
    return value
