"""Property tests that are dear: numbers of examples, and strategies that draw little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st


def examples(share: float) -> int:
    """Return this share of the profile's number of examples (tests/unit/conftest.py), so that `make test-quick` is
    quick with these tests, too."""
    return max(5, round(settings().max_examples * share))


def packed(*columns: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return a strategy of tuples with one of the values of each column, the simplest value first.

    It draws one number for each tuple. A property test over many small records spends most of its CPU time on draws.
    """

    def unpacked(number: int) -> tuple[Any, ...]:
        values = []
        for column in columns:
            number, place = divmod(number, len(column))
            values.append(column[place])
        return tuple(values)

    return st.integers(0, math.prod(map(len, columns)) - 1).map(unpacked)
