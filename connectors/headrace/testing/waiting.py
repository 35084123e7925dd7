"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK = 0.005  # seconds between two looks


def eventually(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Return as soon as the condition is true. Raises AssertionError when it is not within ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not true within {timeout:g} s: {getattr(condition, '__doc__', None) or condition}")
        time.sleep(_LOOK)
