"""Time zones by name."""

from __future__ import annotations

import difflib
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_UTC = frozenset({"UTC", "Z", "GMT", "Etc/UTC"})


def find_zone(name: str) -> tzinfo | None:
    """The zone, None when there is none of that name. UTC is always :data:`datetime.UTC`, which is the fastest."""
    if name in _UTC:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a missing zone, a path that leads elsewhere, a directory
        return None


def nearest_zones(name: str) -> str:
    """A hint for a name that is not a zone."""
    close = difflib.get_close_matches(name, available_timezones(), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else "for example UTC, Europe/Berlin"
