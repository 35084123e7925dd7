"""The low watermark: up to where nothing can turn up any more, whatever the transactions that are open now will do.

Pure logic; docs/gap-free-cursor.md has the proof. A *place* is a comparable tuple that rows are ordered by, ``()`` the
place before all rows. At each poll the database says its :class:`Fence`: which transactions are open, and a place that
whatever begins later writes behind. A transaction that is seen for the first time therefore writes behind the previous
fence's place; once it has ended, its rows are read by going back to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace_sources.sql.dialects.dialect import ANYONE

Place = tuple[Any, ...]
"""Compared as tuples are."""

BEGINNING: Place = ()


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction, as far as the watermark cares. Others than open ones are never mentioned.

    Some databases give a transaction a new name in the middle of its life: ``line`` names those that may be renamed,
    ``heir_of`` the lines that a new name may continue, or ``ANYONE``.
    """

    name: str
    behind: Place = BEGINNING
    """It writes only behind this place."""
    line: str = ""
    heir_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fence:
    """What the database said at one moment.

    ``place``: transactions that are not in ``transactions`` and still commit rows write them behind this place.
    """

    place: Place
    transactions: Iterable[Transaction] = ()


@dataclass(slots=True)
class _Open:
    behind: Place
    line: str


@dataclass(slots=True)
class Watermark:
    """Where to read from, and what may be stored. ``start``: nothing is missing up to there."""

    start: Place = BEGINNING
    resume: Place = field(init=False)
    """Read what is behind this; all that a read so far could see up to here was read."""
    _place: Place = field(init=False)  # the last fence's
    _fenced: bool = field(init=False, default=False)
    _open: dict[str, _Open] = field(init=False)

    def __post_init__(self) -> None:
        self.resume = self._place = self.start
        self._open = {}

    @property
    def low(self) -> Place:
        """The watermark: every row up to here was read, and none will turn up there. May be stored."""
        return min(self.resume, self.oldest)

    def after(self, place: Place) -> Place:
        """What the watermark would be, had all been read up to ``place`` that is there since the last fence."""
        read = min(place, self._place) if self._fenced else place
        return min((read, *(item.behind for item in self._open.values())))

    @property
    def oldest(self) -> Place:
        """No open transaction writes up to here; :attr:`resume` where none is open."""
        return min((item.behind for item in self._open.values()), default=self.resume)

    @property
    def open(self) -> Mapping[str, Place]:
        """The open transactions by name, and behind which place each of them writes."""
        return {name: item.behind for name, item in self._open.items()}

    def observe(self, fence: Fence) -> None:
        """Take note of a fence that was taken before the next read; the next read begins at :attr:`resume`."""
        present = {item.name: item for item in fence.transactions}
        gone = {name: item for name, item in self._open.items() if name not in present}
        still: dict[str, _Open] = {}
        for name, item in present.items():
            known = self._open.get(name)
            if known is None:
                known = _Open(max(self._place, item.behind), item.line)
                if item.heir_of == ANYONE:
                    known.behind = min((known.behind, *(other.behind for other in gone.values())))
                elif item.heir_of:
                    same = (other.behind for other in self._open.values() if other.line in item.heir_of)
                    known.behind = min((known.behind, *same))
            still[name] = known
        self.resume = min((self.resume, *(item.behind for item in gone.values())))
        self._open = still
        self._place, self._fenced = fence.place, True

    def retreat(self, place: Place) -> None:
        """Whatever is written from now on may stand as early as just behind ``place``: the clock was set back."""
        self.resume = min(self.resume, place)
        self._place = min(self._place, place)
        for item in self._open.values():
            item.behind = min(item.behind, place)

    def reached(self, place: Place) -> None:
        """The read has come so far: everything that it could see up to ``place`` was taken.

        Behind the last fence's place it could not see everything. Where no fence is ever observed, as where nobody
        asks for a watermark, what was read counts as all there is.
        """
        self.resume = max(self.resume, min(place, self._place) if self._fenced else place)
