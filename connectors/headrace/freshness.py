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

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import orjson

HEADER = "headrace.hops"
BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the histograms in seconds; beyond the last one is another bucket."""
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


def hops_of(headers: Sequence[Sequence[tuple[str, bytes | None]]]) -> Hops:
    """Return the hops of the last record that has the header; () when none of a batch's records has it."""
    with_headers = filter(None, reversed(headers))  # skips records without headers at the speed of C
    for fields in islice(with_headers, _SEARCHED):
        for name, value in fields:
            if name == HEADER:
                return decode_hops(value)
    return ()


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


class AgeHistogram:
    """Ages in seconds, one for each batch. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._total = 0.0
        self._recent: list[float] = []
        self._noted = 0

    def note(self, seconds: float) -> None:
        seconds = max(0.0, seconds)
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._total += seconds
        if len(self._recent) < _RECENT:
            self._recent.append(seconds)
        else:
            self._recent[self._noted % _RECENT] = seconds
        self._noted += 1

    def snapshot(self) -> AgeSummary:
        """Return the observations so far."""
        buckets, recent, noted = tuple(self._buckets), list(self._recent), self._noted
        newest = recent[(noted - 1) % _RECENT] if noted else None
        recent.sort()
        p50, p99 = (recent[int(share * (len(recent) - 1))] if recent else None for share in (0.5, 0.99))
        return AgeSummary(buckets, sum(buckets), self._total, newest, p50, p99)


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

    def note_hop(self, name: str, start: int, end: int) -> None:
        """Note that a batch spent the time from ``start`` to ``end`` (epoch milliseconds) at a hop."""
        histogram = self.hops.get(name)
        if histogram is None:
            # A new dictionary: readers iterate over the old one.
            histogram = AgeHistogram()
            self.hops = {**self.hops, name: histogram}
        histogram.note(_seconds(start, end))

    def note_passed(self, changed: int, now: int) -> None:
        """Note that a batch whose newest data changed at ``changed`` was passed on. Epoch milliseconds."""
        self.age.note(_seconds(changed, now))
        self.as_of = max(self.as_of, changed)

    def snapshot(self) -> FreshnessSummary:
        hops = {name: histogram.snapshot() for name, histogram in self.hops.items()}
        return FreshnessSummary(hops, self.age.snapshot(), self.as_of, self.objective, self.exceeded)
