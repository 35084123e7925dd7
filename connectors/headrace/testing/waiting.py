"""Wait for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable

_SHORTEST_PAUSE = 0.005  # seconds between two checks


def eventually(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Return as soon as the condition is true. Raise AssertionError when it is not within ``timeout`` seconds.

    The pause before the next check is as long as the check took: a condition that is expensive to check must not take
    the CPU time of what it waits for.
    """
    end = time.monotonic() + timeout
    began = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"not true within {timeout:g} s: {getattr(condition, '__doc__', None) or condition}")
        time.sleep(max(_SHORTEST_PAUSE, now - began))
        began = time.monotonic()
