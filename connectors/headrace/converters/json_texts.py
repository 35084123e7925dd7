"""Parses texts of JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import orjson

from headrace import DataError


def loads(text: bytes) -> Any:
    """Return the value of a text. Raise DataError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise not_json(error) from error


def loads_exactly(text: bytes) -> Any:
    """As :func:`loads`, numbers with a point as Decimal and integers of any size; several times slower."""
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise not_json(error) from error


def not_json(error: Exception) -> DataError:
    """Return the error for a text that is not JSON."""
    return DataError(f"not readable as JSON: {error}")
