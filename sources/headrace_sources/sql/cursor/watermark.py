"""The low watermark: no row can appear at or before it, whatever the transactions that are open now will do.

Pure logic; docs/gap-free-cursor.md has the proof. At each poll the database gives a :class:`Fence`: which transactions
are open, and a position that every later transaction writes after. A transaction that is seen for the first time
therefore writes after the previous fence's position; once it has ended, its rows are read by going back to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headrace_sources.sql.cursor.position import BEGINNING, CursorPosition
from headrace_sources.sql.dialects.dialect import ANYONE


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction, as far as the watermark needs it.

    Some databases rename a transaction in the middle of its life: ``lineage`` names those that may be renamed,
    ``continues`` the lineages that a new name may continue, or ``ANYONE``.
    """

    name: str
    after: CursorPosition = BEGINNING
    """It writes after this position only."""
    lineage: str = ""
    continues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fence:
    """What the database said at one moment.

    ``position``: transactions that are not in ``transactions`` and commit rows later write them after this position.
    """

    position: CursorPosition
    transactions: Iterable[Transaction] = ()


@dataclass(slots=True)
class _Open:
    after: CursorPosition
    lineage: str


@dataclass(slots=True)
class Watermark:
    """Where to read from, and what may be stored. ``start``: no row is missing up to there."""

    start: CursorPosition = BEGINNING
    resume: CursorPosition = field(init=False)
    """Read the rows after this position; every row up to it that was visible to a read was read."""
    _fence: CursorPosition = field(init=False)  # the position of the last fence
    _fenced: bool = field(init=False, default=False)
    _open: dict[str, _Open] = field(init=False)

    def __post_init__(self) -> None:
        self.resume = self._fence = self.start
        self._open = {}

    @property
    def low(self) -> CursorPosition:
        """The watermark: every row up to here was read, and none will appear there. May be stored."""
        return min(self.resume, self.oldest)

    def low_after(self, position: CursorPosition) -> CursorPosition:
        """Return what the watermark would be if everything up to ``position`` had been read since the last fence."""
        read = min(position, self._fence) if self._fenced else position
        return min((read, *(item.after for item in self._open.values())))

    @property
    def oldest(self) -> CursorPosition:
        """No open transaction writes up to here; :attr:`resume` where none is open."""
        return min((item.after for item in self._open.values()), default=self.resume)

    @property
    def open(self) -> Mapping[str, CursorPosition]:
        """The open transactions by name, and the position after which each of them writes."""
        return {name: item.after for name, item in self._open.items()}

    def observe(self, fence: Fence) -> None:
        """Apply a fence that was taken before the next read. The next read begins at :attr:`resume`."""
        present = {item.name: item for item in fence.transactions}
        gone = {name: item for name, item in self._open.items() if name not in present}
        still: dict[str, _Open] = {}
        for name, item in present.items():
            known = self._open.get(name)
            if known is None:
                known = _Open(max(self._fence, item.after), item.lineage)
                if item.continues == ANYONE:
                    known.after = min((known.after, *(other.after for other in gone.values())))
                elif item.continues:
                    same = (other.after for other in self._open.values() if other.lineage in item.continues)
                    known.after = min((known.after, *same))
            still[name] = known
        self.resume = min((self.resume, *(item.after for item in gone.values())))
        self._open = still
        self._fence, self._fenced = fence.position, True

    def retreat(self, position: CursorPosition) -> None:
        """Expect rows from just after ``position`` on: the clock was set back."""
        self.resume = min(self.resume, position)
        self._fence = min(self._fence, position)
        for item in self._open.values():
            item.after = min(item.after, position)

    def reached(self, position: CursorPosition) -> None:
        """Note that a read took every row that it could see up to ``position``.

        After the last fence's position it could not see every row. Where no fence is ever observed, because nothing
        asks for a watermark, the rows that were read count as all there are.
        """
        self.resume = max(self.resume, min(position, self._fence) if self._fenced else position)
