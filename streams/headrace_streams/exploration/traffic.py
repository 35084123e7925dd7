"""Assignment of units to the versions of an experiment, by deterministic buckets.

A unit (usually a user) is hashed to one of 10,000 buckets. Each version owns ranges of buckets. When a version gets
more traffic, buckets move to it from versions that get less; every other bucket stays with its version, so that a user
keeps their version unless the change needs the user to move.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BUCKETS = 10_000


def bucket_of(salt: str, unit: str) -> int:
    """Return the bucket of a unit: SHA-256 of salt and unit modulo 10,000."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{unit}".encode()).digest()[:8], "big") % BUCKETS


@dataclass(frozen=True)
class Range:
    """Buckets from ``start`` up to but not including ``stop`` of one version."""

    start: int
    stop: int
    version: str


class Allocation:
    """Buckets of all versions. Buckets without a version belong to the default version.

    Raises:
        ValueError: ranges overlap or lie outside of 0…10,000.
    """

    def __init__(self, default: str, ranges: Sequence[Range] = ()) -> None:
        self.default = default
        self.ranges = tuple(sorted(ranges, key=lambda part: part.start))
        end = 0
        for part in self.ranges:
            if not end <= part.start < part.stop <= BUCKETS:
                raise ValueError(
                    f"buckets {part.start} to {part.stop} of version {part.version!r} overlap or do not exist"
                )
            end = part.stop
        self._starts = [part.start for part in self.ranges]

    def version_of(self, bucket: int) -> str:
        """Return the version that serves a bucket."""
        position = bisect_right(self._starts, bucket) - 1
        if position >= 0 and bucket < self.ranges[position].stop:
            return self.ranges[position].version
        return self.default

    def share(self, version: str) -> float:
        """Return the share of the buckets that a version has."""
        given = sum(part.stop - part.start for part in self.ranges if part.version == version)
        if version == self.default:
            given += BUCKETS - sum(part.stop - part.start for part in self.ranges)
        return given / BUCKETS


def reallocate(current: Allocation, shares: Mapping[str, float], default: str) -> Allocation:
    """Return the allocation with the given shares that moves the fewest buckets.

    ``shares`` are of all versions but the default one, which has the rest.

    Raises:
        ValueError: a share is negative, or the sum is above 1.
    """
    wanted = {version: round(share * BUCKETS) for version, share in shares.items() if version != default}
    if negative := next((version for version, count in wanted.items() if count < 0), None):
        raise ValueError(f"version {negative!r} cannot have a negative share of the traffic")
    if (total := sum(wanted.values())) > BUCKETS:
        raise ValueError(f"the versions have {total / BUCKETS:.2%} of the traffic together; reduce it to 100 % or less")
    owners = [current.version_of(bucket) for bucket in range(BUCKETS)]
    free: list[int] = []
    kept = dict.fromkeys(wanted, 0)
    for bucket, owner in enumerate(owners):
        if owner in wanted and kept[owner] < wanted[owner]:
            kept[owner] += 1
        else:
            owners[bucket] = default
            free.append(bucket)
    supply = iter(free)
    for version in sorted(wanted):
        for _ in range(wanted[version] - kept[version]):
            owners[next(supply)] = version
    return Allocation(default, _ranges(owners, default))


def moved(before: Allocation, after: Allocation) -> int:
    """Return the number of buckets whose version differs."""
    return sum(before.version_of(bucket) != after.version_of(bucket) for bucket in range(BUCKETS))


def _ranges(owners: Sequence[str], default: str) -> list[Range]:
    ranges: list[Range] = []
    start = 0
    for bucket in range(1, BUCKETS + 1):
        if bucket == BUCKETS or owners[bucket] != owners[start]:
            if owners[start] != default:
                ranges.append(Range(start, bucket, owners[start]))
            start = bucket
    return ranges
