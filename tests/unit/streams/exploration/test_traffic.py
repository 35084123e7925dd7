"""Buckets of users and the versions that serve them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_streams.exploration.traffic import BUCKETS, Allocation, Range, bucket_of, moved, reallocate

shares = st.dictionaries(st.sampled_from(["v2", "v3", "v4"]), st.integers(0, 3333).map(lambda n: n / BUCKETS))


def test_the_bucket_of_a_user_is_documented() -> None:
    """It must never change: SHA-256 of "salt/unit", its first 64 bits, modulo 10,000."""
    assert bucket_of("exploration-2026-11", "user-1") == 7434


def test_users_spread_evenly() -> None:
    counts = [0] * 10
    for user in range(20_000):
        counts[bucket_of("salt", str(user)) * 10 // BUCKETS] += 1
    assert sum((count - 2000) ** 2 / 2000 for count in counts) < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


@given(shares, shares)
@settings(max_examples=40, deadline=None)
def test_versions_get_their_share_and_as_few_buckets_as_possible_move(
    first: dict[str, float], second: dict[str, float]
) -> None:
    before = reallocate(Allocation("v1"), first, "v1")
    after = reallocate(before, second, "v1")
    grown = 0
    for version in ("v1", "v2", "v3", "v4"):
        expected = 1 - sum(second.values()) if version == "v1" else second.get(version, 0)
        assert after.share(version) == pytest.approx(expected)
        grown += max(0, round((after.share(version) - before.share(version)) * BUCKETS))
    assert moved(before, after) == grown


def test_a_version_that_grows_keeps_its_users() -> None:
    before = reallocate(Allocation("v1"), {"v2": 0.05}, "v1")
    after = reallocate(before, {"v2": 0.2, "v3": 0.05}, "v1")
    kept = [bucket for bucket in range(BUCKETS) if before.version_of(bucket) == "v2"]
    assert len(kept) == 500
    assert {after.version_of(bucket) for bucket in kept} == {"v2"}


@pytest.mark.parametrize(
    ("wanted", "message"), [({"v2": 0.7, "v3": 0.4}, "110.00% of the traffic"), ({"v2": -0.1}, "negative share")]
)
def test_impossible_shares_are_refused(wanted: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reallocate(Allocation("v1"), wanted, "v1")


def test_ranges_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Allocation("v1", [Range(0, 100, "v2"), Range(50, 200, "v3")])
