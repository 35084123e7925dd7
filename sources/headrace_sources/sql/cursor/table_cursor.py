"""A relation's progress: from where to read, which of the rows are new, and which position may be stored.

Three ways, one path through here. Without a gap-free cursor what was read is all there is (Kafka Connect's way). With
one, the database names its open transactions at each poll, and :class:`Watermark` keeps the stored position where none
of them can still write. Where the database cannot name them, each poll goes back by ``cursor.overlap``.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from headrace_sources.sql.cursor.lookback import DatabaseClock, Lookback, blocker, fence_at
from headrace_sources.sql.cursor.offsets import Position
from headrace_sources.sql.cursor.sent_rows import Entry, SentRows
from headrace_sources.sql.cursor.sequence_check import SequenceCheck
from headrace_sources.sql.cursor.transaction_snapshots import TransactionSnapshot, TransactionSnapshots
from headrace_sources.sql.cursor.watermark import BEGINNING, Place, Watermark
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.dialects.dialect import OpenTransaction
from headrace_sources.sql.rows.timestamps import TimestampCodec
from headrace_sources.sql.tables.queries import (
    LARGEST_ID,
    Bounds,
    Cursor,
    Relation,
    greatest,
    greatest_id,
    has_more_than,
)

Row = Sequence[Any]

_SMALLEST_ID = -(2**63) - 1
_SETTLE = 10.0
"""Seconds that a first read waits at most for transactions that are open and of which nobody knows where they write."""

_NUMBERED = 60.0
"""Seconds between two looks whether ids still grow, where each would be a statement of its own."""


class BadCursorError(Exception):
    """A row whose cursor cannot be used: place of the column in the row, the row, the reason."""

    def __init__(self, column: int, row: Row, reason: str) -> None:
        super().__init__(reason)
        self.column, self.row, self.reason = column, row, reason


@dataclass(frozen=True)
class CursorCodec:
    """Where in a row things stand, once the columns are known; ``codec`` None in mode incrementing and bulk."""

    timestamps: Sequence[int]
    incrementing: int
    identity: Sequence[int]
    codec: TimestampCodec | None

    def of(self, row: Row) -> Place:
        """The row's place. Raises BadCursorError."""
        if self.codec is None:
            return (self._id(row),)
        return (self.codec.resume(self.moment(row)), LARGEST_ID if self.incrementing < 0 else self._id(row))

    def moment(self, row: Row) -> Any:
        """The cursor's timestamp as the database stores it: the first that is not NULL."""
        return next((row[place] for place in self.timestamps if row[place] is not None), None)

    def _id(self, row: Row) -> int:
        value = row[self.incrementing]
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
            number = int(value)
        else:
            raise BadCursorError(self.incrementing, row, f"{value!r} is not a whole number")
        if number > LARGEST_ID:
            raise BadCursorError(self.incrementing, row, f"{number} is more than an INT64 holds")
        return number

    def position(self, place: Place) -> Position:
        """A place as it is stored. Raises ValueError and OverflowError for a moment that cannot be."""
        if place == BEGINNING:
            return Position()
        if self.codec is None:
            return Position(incrementing=place[0])
        known = self.incrementing >= 0 and _SMALLEST_ID < place[1] < LARGEST_ID
        return Position(self.codec.to_moment(place[0]), place[1] if known else None)

    def place(self, position: Position) -> Place:
        """The other way round."""
        if self.codec is None:
            return BEGINNING if position.incrementing is None else (position.incrementing,)
        if position.timestamp is None:
            return BEGINNING
        stored = self.codec.to_stored(position.timestamp)
        if self.incrementing < 0:
            return (stored, LARGEST_ID)
        return (stored, _SMALLEST_ID if position.incrementing is None else position.incrementing)


@dataclass
class TableCursor:
    """Used from one thread. ``position`` is what was stored, later what may be stored.

    A read is :meth:`begin`, :meth:`take` and :meth:`confirm` for each of its batches, :meth:`finished`. A read that
    breaks off is simply followed by the next; nothing is lost by it, and little read twice.
    """

    relation: Relation
    cursor: Cursor
    database: Database
    reach: Lookback
    position: Position
    delay: timedelta
    chosen: bool = False
    """The position is what the configuration says, not where anybody was."""
    monotonic: Callable[[], float] = time.monotonic
    sightings: TransactionSnapshots | None = None
    """Shared with other tables; None = for this one alone."""
    settling: bool = field(init=False, default=False)
    """The last :meth:`begin` found that a first read had better wait a moment: call it again soon."""
    memory: SentRows = field(init=False)
    numbering: SequenceCheck = field(init=False)

    def __post_init__(self) -> None:
        self._sightings = self.sightings or TransactionSnapshots(self.database, self.monotonic)
        self._seen = 0  # number of the last sighting
        self._fenced: Place = BEGINNING  # the last fence's place, of ids
        self._places: CursorCodec | None = None
        self._watermark = Watermark()
        self._clock = DatabaseClock(self.monotonic)
        self._high: Place = BEGINNING  # of all rows that were sent
        self._began = False
        self._first = 0.0
        self._patient = self.reach.memory
        self._final: Place = BEGINNING  # rows up to here are never read again once this read has taken them
        self._taken: tuple[list[Entry], Sequence[Row], Row | None] | None = None  # what confirm() is about
        self.unplaced: str | None = None
        """Whose transaction kept :meth:`outset` from finding a position for a long reading."""
        self.moved = False
        """The position has moved since it was last given away."""
        self._transactions: dict[str, OpenTransaction] = {}
        self._since: dict[str, float] = {}
        self.memory = SentRows(self.reach.memory)
        self.numbering = SequenceCheck(self.relation, self.cursor.incrementing)
        self._numbered = -_NUMBERED

    def lay_out(self, places: CursorCodec) -> None:
        """Rows look so from now on."""
        self._places = places
        self.memory.identity = places.identity

    def restart(self) -> None:
        """The columns are known, or others than before: begin at the position again."""
        assert self._places is not None
        self._watermark = Watermark(self._places.place(self.position))
        self._high = self._watermark.start
        self._clock.forget()
        self._began = False
        self.memory = SentRows(self.reach.memory)
        self.memory.identity = self._places.identity

    # A read.

    def begin(self, connection: Connection, patient: int | None = None) -> Bounds | None:
        """What to read now, after asking the database; None = certainly nothing.

        ``patient``: with more rows than this a first reading is worth :attr:`settling`.
        """
        places = self._places
        assert places is not None
        self._patient = self.reach.memory if patient is None else patient
        bounds = self._moments(connection, places) if places.codec else self._ids(connection)
        self.memory.begin()
        if self.settling:
            return None
        self._began = True
        return bounds

    def outset(self, connection: Connection, rows: int) -> tuple[Bounds, Position] | None:
        """As :meth:`begin`, for reading everything in another order than the cursor's: what that is, and the position
        to go on from afterwards. It lies before all that is committed from now on, whoever writes it. With more than
        ``rows`` rows it is worth :attr:`settling`.

        None: call again soon (:attr:`settling`), or there is nothing to read, or there is no such position, because of
        a transaction that may write anywhere.
        """
        places = self._places
        bounds = self.begin(connection, rows)
        if bounds is None or places is None:
            return None
        found = self.database.row(connection, greatest(self.relation, self.cursor, bounds))
        if found is None:
            return None
        try:
            if places.codec is None:
                top: Place = (int(found[0]),)
                bounds = replace(bounds, up_to_id=top[0])
            else:
                # Rows that share the last timestamp are read again where an id orders them.
                top = (places.codec.resume(found[0]), LARGEST_ID if places.incrementing < 0 else _SMALLEST_ID)
            low = self._watermark.after(top)
            if low == BEGINNING and has_more_than(connection, self.relation, self.cursor, bounds, rows):
                unplaced = (name for name, place in self._watermark.open.items() if place == BEGINNING)
                self.unplaced = next((self._transactions[name].who for name in unplaced), None)
            return None if low == BEGINNING else (bounds, places.position(low))
        except (ValueError, ArithmeticError):
            return None  # whoever reads in the cursor's order meets the row, and says what is wrong with it

    def everything(self, connection: Connection) -> Bounds:
        """All rows that may be read now, from the first on."""
        assert self._places is not None
        codec = self._places.codec
        return Bounds() if codec is None else Bounds(before=codec.bound(self.database.now(connection) - self.delay))

    def _ids(self, connection: Connection) -> Bounds | None:
        mark = self._watermark
        if not self.reach.looks_back:
            if self.monotonic() - self._numbered >= _NUMBERED:
                self._numbered = self.monotonic()
                self._look_behind(connection, greatest_id(connection, self.relation, self.cursor))
            return Bounds(after_id=mark.resume[0] if mark.resume else None)
        # What is there now was numbered before the fence: whoever begins after the fence gets greater numbers.
        greatest = greatest_id(connection, self.relation, self.cursor)
        self._look_behind(connection, greatest)
        top = mark.start if greatest is None else max(mark.start, (greatest,))
        place = (top[0] - self.reach.ids,) if top and self.reach.ids else top
        grown = not self._began or place > self._fenced
        if not grown:
            if not mark.open and mark.resume >= top:
                return None  # as if nobody had asked: whoever began since then writes behind that place
            place = self._fenced
        open_now = self._open(connection, fresh=grown)
        self._fenced = place
        mark.observe(fence_at(place, open_now, lambda moment: BEGINNING))
        self._prune(place)
        if not top or mark.resume >= top:
            return None
        bounds = Bounds(after_id=mark.resume[0] if mark.resume else None, up_to_id=top[0])
        self._settle(connection, bounds)
        return bounds

    def _look_behind(self, connection: Connection, greatest: int | None) -> None:
        low = self._watermark.low

        def any_between(after: int, up_to: int) -> bool:
            return has_more_than(connection, self.relation, self.cursor, Bounds(after_id=after, up_to_id=up_to), 0)

        self.numbering.observe(greatest, low[0] if low else None, any_between)

    def _moments(self, connection: Connection, places: CursorCodec) -> Bounds:
        codec, mark = places.codec, self._watermark
        assert codec is not None
        open_now: Sequence[OpenTransaction] = ()
        if self.reach.asks:
            sighting = self._see(connection)
            now, open_now = sighting.now, sighting.transactions
            self._clock.read(*sighting.asked)
        else:
            with self._clock.reading():
                now = self.database.now(connection)
        before = codec.bound(now - self.delay)
        if self.reach.looks_back:
            back = max(self.reach.span, self.delay)

            def place_of(moment: datetime) -> Place:
                return (codec.bound(moment - back), LARGEST_ID)

            place = place_of(now)
            if (again := self._earliest(place[0], codec.bound(now))) is not None:
                mark.retreat((again, _SMALLEST_ID))
            mark.observe(fence_at(place, open_now, place_of))
            self._prune(place)
        bounds = Bounds(before=before)
        if mark.resume:
            after, identity = mark.resume
            bounds = Bounds(after, None if identity == _SMALLEST_ID or places.incrementing < 0 else identity, before)
        self._settle(connection, bounds)
        return bounds

    def _earliest(self, place: Any, now: Any) -> Any:
        """What was written since the last read stands behind this, if the clock was set back; else None."""
        again = self._clock.earliest(place)
        start = self._watermark.start
        if not self._began and not self.chosen and start and now < start[0]:
            return place  # set back while nobody looked
        return again

    def _open(self, connection: Connection, *, fresh: bool) -> Sequence[OpenTransaction]:
        return self._see(connection, fresh=fresh).transactions if self.reach.asks else ()

    def _see(self, connection: Connection, *, fresh: bool = False) -> TransactionSnapshot:
        """What is open, as another table has just seen it, or (``fresh``, or none has) asked now."""
        sighting = None if fresh else self._sightings.shared(self._seen)
        sighting = sighting or self._sightings.take(connection)
        self._seen = sighting.number
        # The next statement must see what has ended by now, also at isolation levels that keep one view of the data.
        connection.rollback()
        self._transactions = {item.name: item for item in sighting.transactions}
        now = self.monotonic()
        self._since = {name: self._since.get(name, now) for name in self._transactions}
        return sighting

    def _settle(self, connection: Connection, bounds: Bounds) -> None:
        """Before a long first read: transactions that may have written anywhere would have it all read again."""
        if self._began:
            self.settling = False
            return
        now = self.monotonic()
        self._first = self._first or now
        mark = self._watermark
        self.settling = (
            any(place <= mark.start for place in mark.open.values())
            and now - self._first < _SETTLE
            and has_more_than(connection, self.relation, self.cursor, bounds, self._patient)
        )

    def _prune(self, place: Place) -> None:
        self._final = min(place, self._watermark.oldest) if self._watermark.open else place
        self.memory.forget(self._watermark.low)

    def take(self, rows: Sequence[Row], following: Row | None) -> Sequence[Row]:
        """Those of ``rows`` that are new; ``following`` is the row that comes next. Changes nothing yet.

        Raises BadCursorError.
        """
        places = self._places
        assert places is not None
        if not self.reach.looks_back:
            self._taken = [], rows, following
            return rows
        # The rows are in order: those before ``fresh`` may have been sent, those from ``hold`` on may be read again.
        fresh = _first_behind(rows, self._high, places)
        hold = _first_behind(rows, self._final, places)
        entries: list[Entry] = []
        chosen: Sequence[Row] = rows
        if fresh or hold < len(rows):
            new = []
            for number, row in enumerate(rows):
                if not fresh <= number < hold:
                    entry = self.memory.entry(row, places.of(row))
                    if entry is None:
                        continue
                    entries.append(entry)
                new.append(row)
            chosen = new
        self._taken = entries, rows, following
        return chosen

    def confirm(self) -> None:
        """What :meth:`take` gave is sent: the position moves behind it. Raises BadCursorError."""
        assert self._taken is not None
        assert self._places is not None
        entries, rows, following = self._taken
        self.memory.remember(entries)
        if self.reach.looks_back:
            self._high = max(self._high, self._places.of(rows[-1]))
        self._reached(self._places, rows, following)
        self._taken = None

    def _reached(self, places: CursorCodec, rows: Sequence[Row], following: Row | None) -> None:
        """Go behind ``rows``, or to the last place in them where resuming loses nothing."""
        last = rows[-1]
        if places.codec is not None and places.incrementing < 0 and following is not None:
            moment = places.moment(last)
            if places.moment(following) == moment:
                # Equal timestamps go on: behind the one before. None before: where we are holds.
                earlier = next((row for row in reversed(rows) if places.moment(row) != moment), None)
                if earlier is None:
                    return
                last = earlier
        self._watermark.reached(places.of(last))
        self._store(places, last)

    def _store(self, places: CursorCodec, row: Row | None) -> None:
        low = self._watermark.low
        # A row's own place, where it is not behind the watermark, is what other connectors would store.
        place = min(low, self._high if row is None else places.of(row))
        try:
            position = places.position(place)
        except (ValueError, OverflowError) as error:
            raise BadCursorError(places.timestamps[0], row or (), str(error)) from error
        if position != self.position:
            self.position, self.moved = position, True

    def behind(self, bounds: Bounds, row: Row) -> Bounds:
        """What is left of ``bounds`` behind ``row``, whose cursor no row behind it shares."""
        places = self._places
        assert places is not None
        place = places.of(row)
        if places.codec is None:
            return replace(bounds, after_id=place[0])
        return replace(bounds, after=place[0], after_id=None if places.incrementing < 0 else place[1])

    def finished(self) -> None:
        """The read has come to its end."""
        if self._places is None or not self.reach.looks_back:
            return
        # No further than the last row there is: rows that are dated back, but not behind that one, are still found.
        self._watermark.reached(self._high)
        self._store(self._places, None)
        self.memory.forget(self._watermark.low)

    def give_position(self) -> Position:
        """For a batch."""
        self.moved = False
        return self.position

    # For people.

    def lag(self) -> tuple[int, int]:
        """How far the stored position is behind what was sent: milliseconds, and the rows a restart would send again.

        By an id the time is that for which an open transaction has held it back.
        """
        places, high, stored = self._places, self._high, self.position.timestamp
        if places is not None and places.codec is not None and high != BEGINNING and stored is not None:
            millis = (places.codec.to_moment(high[0]) - stored) // timedelta(milliseconds=1)
        else:
            found = blocker(self._watermark, self._transactions, self._since, self.monotonic())
            millis = 0 if found is None else round(found.age * 1000)
        return max(0, millis), len(self.memory)

    def waits_for(self, patience: float = 30.0) -> str | None:
        """The transaction that the stored position has waited for longer than ``patience`` seconds, in a sentence."""
        found = blocker(self._watermark, self._transactions, self._since, self.monotonic())
        if found is None or found.age < patience:
            return None
        return (
            f"rows of {self.relation} are sent, but the stored position waits for {found}: "
            f"a restart would send {len(self.memory)} rows again"
        )


def _first_behind(rows: Sequence[Row], place: Place, places: CursorCodec) -> int:
    return bisect_right(rows, place, key=places.of)
