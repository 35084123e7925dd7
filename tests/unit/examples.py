"""Numbers of examples of property tests that are dear, or whose promise deserves more."""

from __future__ import annotations

from hypothesis import settings


def examples(share: float) -> int:
    """Return this share of the profile's number of examples (tests/unit/conftest.py), so that `make test-quick` is
    quick with these tests, too."""
    return max(5, round(settings().max_examples * share))
