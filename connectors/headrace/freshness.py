"""How old data is at each hop on its way, and the record header with which its times travel.

The header ``headrace.hops`` is on the last record of each batch that a source or a stream application sends. Its value
is a JSON array with one entry for each hop: the connector's name, when the data was there, and when it was sent to
Kafka, in epoch milliseconds::

    [["orders", 1732965871123, 1732965871240], ["totals", 1732965871252, 1732965871301]]

The first entry is a source's: the time at which the newest row of the batch changed, as the row says, else the time at
which it was read. So one header per batch is enough to tell how old the batch is wherever it arrives. Records of other
programs have none: their age counts from their Kafka timestamp.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import orjson

HEADER = "headrace.hops"
BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the histograms in seconds; beyond the last one is another bucket."""
_BOUNDS = tuple(round(bound * 1000) for bound in BUCKETS)
_RECENT = 1_000
"""Observations from which percentiles are computed."""
_MOST_HOPS = 16
"""Hops in a header; the oldest after the first are left out, for applications that read their own output."""
_SEARCHED = 16
"""Records with headers that are searched for the header of a batch, from its end."""


class Hop(NamedTuple):
    """A connector that the data has passed. Times are epoch milliseconds."""

    name: str
    arrived: int
    """When the data was there: the change of the row, or the read from Kafka."""
    sent: int


Hops = tuple[Hop, ...]


class Held(NamedTuple):
    """A part of the way, and the seconds that the data spent there."""

    place: str
    seconds: float


def encode_hops(hops: Hops) -> bytes:
    """Return the value of the header."""
    return orjson.dumps([tuple(hop) for hop in hops])


def decode_hops(value: bytes | None) -> Hops:
    """Return the hops of a header; () for a value that headrace has not written."""
    try:
        hops = tuple(Hop(name, arrived, sent) for name, arrived, sent in orjson.loads(value or b"[]"))
    except (orjson.JSONDecodeError, TypeError, ValueError):
        return ()
    types = {(type(hop.name), type(hop.arrived), type(hop.sent)) for hop in hops}
    return hops if types == {(str, int, int)} else ()


def header_of(headers: Sequence[Sequence[tuple[str, bytes | None]]]) -> bytes | None:
    """Return the header of the last record that has it; None when none of a batch's records has it."""
    if not headers or (not headers[-1] and headers.count(()) == len(headers)):
        return None  # counting takes a tenth of the time of the search
    with_headers = filter(None, reversed(headers))
    for fields in islice(with_headers, _SEARCHED):
        for name, value in fields:
            if name == HEADER:
                return value
    return None


def ends_of(value: bytes | None) -> tuple[int, int] | None:
    """Return when the data of a header changed, and when it was sent to Kafka last; None for other values.

    Most batches need no more of their header, and this takes a quarter of the time of :func:`decode_hops`.
    """
    if not value:
        return None
    try:
        hops = orjson.loads(value)
        changed, sent = hops[0][1], hops[-1][2]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return (changed, sent) if type(changed) is int and type(sent) is int else None


def with_hop(hops: Hops, hop: Hop) -> Hops:
    """Return the way with one more hop."""
    return (*hops, hop) if len(hops) < _MOST_HOPS else (hops[0], *hops[2:], hop)


def way(hops: Hops, read: int) -> Iterator[Held]:
    """Yield how long data that was ``read`` from Kafka has spent at each hop, and in Kafka after it."""
    for number, hop in enumerate(hops):
        place = f"{hop.name}, before it sent the data to Kafka" if number else f"the source {hop.name}"
        yield Held(place, _seconds(hop.arrived, hop.sent))
        following = hops[number + 1].arrived if number + 1 < len(hops) else read
        yield Held(f"Kafka, after {hop.name} had sent the data", _seconds(hop.sent, following))


def _seconds(start: int, end: int) -> float:
    """Return the time between two moments; 0 where clocks of two machines disagree."""
    return max(0, end - start) / 1000


class AgeSummary(NamedTuple):
    """A histogram at one moment. ``buckets``: observations in each bucket of :data:`BUCKETS`, and beyond."""

    buckets: tuple[int, ...]
    observed: int
    total: float
    newest: float | None
    p50: float | None
    p99: float | None
    """Percentiles of the last observations. Seconds, like ``total`` and ``newest``."""


class _Counted(NamedTuple):
    """What a histogram has counted, and the observations after it. Replaced as a whole, so that a reader counts each
    observation once."""

    buckets: tuple[int, ...]
    total: int
    last: Sequence[int]
    """The last observations that are counted."""
    fresh: list[int]


class AgeHistogram:
    """Ages in milliseconds, one for each batch. Written by one thread, read by any.

    Observations are counted a thousand at a time: that is a third of the time of counting each.
    """

    __slots__ = ("_counted", "_fresh")

    def __init__(self) -> None:
        self._fresh: list[int] = []
        self._counted = _Counted((0,) * (len(BUCKETS) + 1), 0, (), self._fresh)

    def note(self, start: int, end: int) -> None:
        """Note the time between two moments; 0 where clocks of two machines disagree. Epoch milliseconds."""
        fresh = self._fresh
        fresh.append(end - start if end > start else 0)
        if len(fresh) >= _RECENT:
            buckets, total = _count(self._counted, fresh)
            self._fresh = []
            self._counted = _Counted(buckets, total, fresh, self._fresh)

    def snapshot(self) -> AgeSummary:
        """Return the observations so far."""
        counted = self._counted
        fresh = list(counted.fresh)
        buckets, total = _count(counted, fresh)
        recent = [*counted.last, *fresh][-_RECENT:]
        newest = recent[-1] / 1000 if recent else None
        recent.sort()
        p50, p99 = (recent[int(share * (len(recent) - 1))] / 1000 if recent else None for share in (0.5, 0.99))
        return AgeSummary(buckets, sum(buckets), total / 1000, newest, p50, p99)


def _count(counted: _Counted, fresh: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return the buckets and the total with more observations."""
    ordered = sorted(fresh)
    ends = [0, *(bisect_right(ordered, bound) for bound in _BOUNDS), len(ordered)]
    buckets = tuple(known + end - start for known, start, end in zip(counted.buckets, ends, ends[1:], strict=False))
    return buckets, counted.total + sum(ordered)


class FreshnessSummary(NamedTuple):
    """The freshness of one task at one moment."""

    hops: dict[str, AgeSummary]
    """Time at each hop of this task, by its name."""
    age: AgeSummary
    """Age of the data when this task had passed it on: acknowledged by Kafka, committed, or searchable."""
    as_of: int
    """When the newest data of these changed, epoch milliseconds; 0 before the first."""
    objective: float | None
    """Seconds that data may be old (``freshness.slo``)."""
    exceeded: bool
    """Whether it is older."""


@dataclass
class TaskFreshness:
    """The freshness of one task. Written by one thread, read by any."""

    hops: dict[str, AgeHistogram] = field(default_factory=dict)
    age: AgeHistogram = field(default_factory=AgeHistogram)
    as_of: int = 0
    objective: float | None = None
    exceeded: bool = False

    def hop(self, name: str) -> AgeHistogram:
        """Return the histogram of a hop."""
        histogram = self.hops.get(name)
        if histogram is None:
            # A new dictionary: readers iterate over the old one.
            histogram = AgeHistogram()
            self.hops = {**self.hops, name: histogram}
        return histogram

    def note_passed(self, changed: int, now: int) -> None:
        """Note that a batch whose newest data changed at ``changed`` was passed on. Epoch milliseconds."""
        self.age.note(changed, now)
        if changed > self.as_of:
            self.as_of = changed

    def snapshot(self) -> FreshnessSummary:
        """Return the freshness now, with the hops that a batch has passed."""
        found = ((name, histogram.snapshot()) for name, histogram in self.hops.items())
        hops = {name: ages for name, ages in found if ages.observed}
        return FreshnessSummary(hops, self.age.snapshot(), self.as_of, self.objective, self.exceeded)
