"""Bounded caches."""

from __future__ import annotations

from typing import Any


def with_room(cache: dict[Any, Any], limit: int) -> dict[Any, Any]:
    """Return the cache with room for another entry; the oldest is removed when it is full."""
    if len(cache) >= limit:
        del cache[next(iter(cache))]
    return cache
