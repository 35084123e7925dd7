"""The cursor of one relation: the next bounds to read, which rows are new, and which position may be stored.

There are three ways, and one path through this module. Without a gap-free cursor the rows that were read count as all
there are (as in Kafka Connect). With one, the database names its open transactions at each poll, and :class:`Watermark`
keeps the stored position where none of them can still write. Where the database cannot name them, each poll goes back
by ``cursor.overlap``.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from headrace import RetriableError
from headrace_sources.sql.cursor.blocking_transaction import blocking_transaction
from headrace_sources.sql.cursor.lookback import Lookback
from headrace_sources.sql.cursor.position import (
    BEGINNING,
    SMALLEST_ID,
    BadCursorError,
    CursorCodec,
    CursorPosition,
    Row,
    StoredPosition,
)
from headrace_sources.sql.cursor.sent_rows import SentRow, SentRows
from headrace_sources.sql.cursor.sequence_check import SequenceCheck
from headrace_sources.sql.cursor.transaction_snapshots import (
    DatabaseClock,
    TransactionSnapshot,
    TransactionSnapshots,
    fence_at,
)
from headrace_sources.sql.cursor.watermark import Watermark
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.dialects.dialect import OpenTransaction
from headrace_sources.sql.tables.queries import (
    LARGEST_ID,
    Bounds,
    Cursor,
    Relation,
    greatest,
    greatest_id,
    has_more_than,
)
from headrace_sources.sql.tuning import Tuning


@dataclass
class TableCursor:
    """Used from one thread. ``position`` is what was stored, later what may be stored.

    A read is :meth:`begin`, then :meth:`take` and :meth:`confirm` for each of its batches, then :meth:`finished`. A
    read that is interrupted is followed by the next one; no row is lost by it, and few are read twice.
    """

    relation: Relation
    cursor: Cursor
    dialect: Dialect
    lookback: Lookback
    position: StoredPosition
    delay: timedelta
    configured: bool = False
    """The position comes from the configuration; no task has stored it."""
    monotonic: Callable[[], float] = time.monotonic
    transaction_snapshots: TransactionSnapshots | None = None
    """Shared with other tables; None = for this one alone."""
    tuning: Tuning = field(default_factory=Tuning)
    waiting_for_transactions: bool = field(init=False, default=False)
    """The last :meth:`begin` found that a first read should wait for open transactions: call it again soon."""
    sent: SentRows = field(init=False)
    sequence_check: SequenceCheck = field(init=False)

    def __post_init__(self) -> None:
        self._snapshots = self.transaction_snapshots or TransactionSnapshots(self.dialect, self.monotonic)
        self._looks_back = self.lookback.active
        self._settled = self.lookback.settled
        self.unfinished = False
        """The position is before some rows that were taken: the next row has the same position as the last one."""
        self._snapshot_number = 0  # of the last snapshot that was used
        self._fence: CursorPosition = BEGINNING  # the position of the last fence of ids
        self._codec: CursorCodec | None = None
        self._watermark = Watermark()
        self._clock = DatabaseClock(self.monotonic)
        self._high: CursorPosition = BEGINNING  # of all rows that were sent
        self._began = False
        self._wait_began = 0.0
        self._worth_waiting = self.lookback.memory_rows
        self._final: CursorPosition = BEGINNING  # rows up to here are not read again once this read has taken them
        self._taken: tuple[list[SentRow], Sequence[Row], Row | None] | None = None  # for confirm()
        self.unlocated_transaction: str | None = None
        """The transaction because of which :meth:`snapshot_start` found no position."""
        self.moved = False
        """The position has moved since it was last attached to a batch."""
        self._transactions: dict[str, OpenTransaction] = {}
        self._since: dict[str, float] = {}
        self.sent = SentRows(self.lookback.memory_rows)
        self.sequence_check = SequenceCheck(self.relation, self.cursor.incrementing)
        self._sequence_checked = -self.tuning.sequence_check_interval

    def use(self, codec: CursorCodec) -> None:
        """Read positions from rows by ``codec`` from now on."""
        self._codec = codec
        self.sent.identity = codec.identity

    def restart(self) -> None:
        """Begin at the position again: the columns are known, or have changed."""
        assert self._codec is not None
        self._watermark = Watermark(self._codec.from_stored(self.position))
        self._high = self._watermark.start
        self._clock.forget()
        self._began = False
        self.sent = SentRows(self.lookback.memory_rows)
        self.sent.identity = self._codec.identity

    # A read.

    def begin(self, connection: Connection, worth_waiting: int | None = None) -> Bounds | None:
        """Ask the database what is open and return what to read now; None = certainly nothing.

        ``worth_waiting``: a first read of more rows than this waits for open transactions.
        """
        codec = self._codec
        assert codec is not None
        if self._settled and self.unfinished:
            text = f"the read of {self.relation} was interrupted between rows of one position"
            raise RetriableError(text, code="sql.interrupted")
        self._worth_waiting = self.lookback.memory_rows if worth_waiting is None else worth_waiting
        bounds = self._timestamp_bounds(connection, codec) if codec.codec else self._id_bounds(connection)
        if self._looks_back:
            self.sent.begin()
        if self.waiting_for_transactions:
            return None
        self._began = True
        return bounds

    def snapshot_start(self, connection: Connection, rows: int) -> tuple[Bounds, StoredPosition] | None:
        """Begin a reading in another order than the cursor's; return its bounds and the position to go on from.

        The position is before every row that is committed from now on, whichever transaction writes it. A reading of
        more than ``rows`` rows waits for open transactions.

        None: call again soon (:attr:`waiting_for_transactions`); or there are no rows; or there is no such position,
        because of a transaction that may write anywhere (:attr:`unlocated_transaction`).
        """
        codec = self._codec
        bounds = self.begin(connection, rows)
        if bounds is None or codec is None:
            return None
        found = self.dialect.row(connection, greatest(self.relation, self.cursor, bounds))
        if found is None:
            return None
        try:
            if codec.codec is None:
                top: CursorPosition = (int(found[0]),)
                bounds = replace(bounds, up_to_id=top[0])
            else:
                # Rows that share the last timestamp are read again where an id orders them.
                top = (codec.codec.resume(found[0]), LARGEST_ID if codec.incrementing < 0 else SMALLEST_ID)
            low = self._watermark.low_after(top)
            if low == BEGINNING and has_more_than(connection, self.relation, self.cursor, bounds, rows):
                names = (name for name, after in self._watermark.open.items() if after == BEGINNING)
                self.unlocated_transaction = next((self._transactions[name].who for name in names), None)
            return None if low == BEGINNING else (bounds, codec.to_stored(low))
        except (ValueError, ArithmeticError):
            return None  # a reading in the cursor's order meets the row, and reports what is wrong with it

    def all_rows(self, connection: Connection) -> Bounds:
        """Return the bounds of all rows that may be read now."""
        assert self._codec is not None
        codec = self._codec.codec
        return Bounds() if codec is None else Bounds(before=codec.bound(self.dialect.now(connection) - self.delay))

    def _id_bounds(self, connection: Connection) -> Bounds | None:
        mark = self._watermark
        if not self._looks_back:
            if self.monotonic() - self._sequence_checked >= self.tuning.sequence_check_interval:
                self._sequence_checked = self.monotonic()
                self._check_sequence(connection, greatest_id(connection, self.relation, self.cursor))
            return Bounds(after_id=mark.resume[0] if mark.resume else None)
        # The rows that are there now got their ids before the fence: a transaction that begins later gets greater ids.
        greatest = greatest_id(connection, self.relation, self.cursor)
        self._check_sequence(connection, greatest)
        top = mark.start if greatest is None else max(mark.start, (greatest,))
        fence = (top[0] - self.lookback.ids,) if top and self.lookback.ids else top
        grown = not self._began or fence > self._fence
        if not grown:
            if not mark.open and mark.resume >= top:
                return None  # as if the database had not been asked: later transactions write after the fence
            fence = self._fence
        open_now = self._see(connection, fresh=grown).transactions if self.lookback.asks else ()
        self._fence = fence
        mark.observe(fence_at(fence, open_now, lambda began: BEGINNING))
        self._forget_final(fence)
        if not top or mark.resume >= top:
            return None
        if self._settled:
            top = mark.low_after(top)
            if top <= mark.resume:
                return None
        bounds = Bounds(after_id=mark.resume[0] if mark.resume else None, up_to_id=top[0])
        self._wait_for_transactions(connection, bounds)
        return bounds

    def _check_sequence(self, connection: Connection, greatest: int | None) -> None:
        low = self._watermark.low

        def any_between(after: int, up_to: int) -> bool:
            return has_more_than(connection, self.relation, self.cursor, Bounds(after_id=after, up_to_id=up_to), 0)

        self.sequence_check.observe(greatest, low[0] if low else None, any_between)

    def _timestamp_bounds(self, connection: Connection, codec: CursorCodec) -> Bounds | None:
        timestamps, mark = codec.codec, self._watermark
        assert timestamps is not None
        now = self._observe_timestamps(connection, timestamps) if self._looks_back else self.dialect.now(connection)
        before = timestamps.bound(now - self.delay)
        if self._settled and self._looks_back:
            low = mark.low_after((before, LARGEST_ID))
            if low <= mark.resume:
                return None
            before = low[0]
        bounds = Bounds(before=before)
        if mark.resume:
            after, identity = mark.resume
            bounds = Bounds(after, None if identity == SMALLEST_ID or codec.incrementing < 0 else identity, before)
        self._wait_for_transactions(connection, bounds)
        return bounds

    def _observe_timestamps(self, connection: Connection, timestamps: Any) -> datetime:
        """Let the watermark observe the fence of this moment; return the database's time."""
        open_now: Sequence[OpenTransaction] = ()
        if self.lookback.asks:
            snapshot = self._see(connection)
            now, open_now = snapshot.now, snapshot.transactions
            self._clock.read(*snapshot.asked)
        else:
            with self._clock.reading():
                now = self.dialect.now(connection)
        back = max(self.lookback.span, self.delay)

        def position_at(moment: datetime) -> CursorPosition:
            return (timestamps.bound(moment - back), LARGEST_ID)

        fence = position_at(now)
        if (again := self._earliest(fence[0], timestamps.bound(now))) is not None:
            self._watermark.retreat((again, SMALLEST_ID))
        self._watermark.observe(fence_at(fence, open_now, position_at))
        self._forget_final(fence)
        return now

    def _earliest(self, fence: Any, now: Any) -> Any:
        """Return the earliest timestamp of rows since the last read, if the clock was set back; else None."""
        again = self._clock.earliest(fence)
        start = self._watermark.start
        if not self._began and not self.configured and start and now < start[0]:
            return fence  # set back while no task was running
        return again

    def _see(self, connection: Connection, *, fresh: bool = False) -> TransactionSnapshot:
        """Return what is open: as another table has just seen it, or (``fresh``, or none has) by asking now."""
        snapshot = None if fresh else self._snapshots.shared(self._snapshot_number)
        snapshot = snapshot or self._snapshots.take(connection)
        self._snapshot_number = snapshot.number
        # The next statement must see what has ended by now, also at isolation levels that keep one view of the data.
        connection.rollback()
        self._transactions = {item.name: item for item in snapshot.transactions}
        now = self.monotonic()
        self._since = {name: self._since.get(name, now) for name in self._transactions}
        return snapshot

    def _wait_for_transactions(self, connection: Connection, bounds: Bounds) -> None:
        """Decide whether a long first read waits: a transaction that may have written anywhere would repeat it all."""
        if self._began or self._settled:
            self.waiting_for_transactions = False
            return
        now = self.monotonic()
        self._wait_began = self._wait_began or now
        mark = self._watermark
        self.waiting_for_transactions = (
            any(after <= mark.start for after in mark.open.values())
            and now - self._wait_began < self.tuning.transaction_wait
            and has_more_than(connection, self.relation, self.cursor, bounds, self._worth_waiting)
        )

    def _forget_final(self, fence: CursorPosition) -> None:
        self._final = min(fence, self._watermark.oldest) if self._watermark.open else fence
        self.sent.forget(self._watermark.low)

    def changed(self, row: Row) -> int | None:
        """See :meth:`CursorCodec.changed`."""
        assert self._codec is not None
        return self._codec.changed(row)

    def take(self, rows: Sequence[Row], following: Row | None) -> Sequence[Row]:
        """Return the new rows among ``rows``; ``following`` is the row that comes next. Change nothing yet.

        Raise BadCursorError.
        """
        codec = self._codec
        assert codec is not None
        if not self._looks_back:
            self._taken = [], rows, following
            return rows
        # The rows are in order: those before ``fresh`` may have been sent, those from ``hold`` on may be read again.
        fresh = _first_after(rows, self._high, codec)
        hold = _first_after(rows, self._final, codec)
        remembered: list[SentRow] = []
        chosen: Sequence[Row] = rows
        if fresh or hold < len(rows):
            new = []
            for number, row in enumerate(rows):
                if not fresh <= number < hold:
                    unsent = self.sent.unsent(row, codec.of(row))
                    if unsent is None:
                        continue
                    remembered.append(unsent)
                new.append(row)
            chosen = new
        self._taken = remembered, rows, following
        return chosen

    def confirm(self) -> None:
        """Move the position after the rows of :meth:`take`: they are sent. Raise BadCursorError."""
        assert self._taken is not None
        assert self._codec is not None
        remembered, rows, following = self._taken
        if self._looks_back:
            self.sent.remember(remembered)
            self._high = max(self._high, self._codec.of(rows[-1]))
        self._reached(self._codec, rows, following)
        self._taken = None

    def _reached(self, codec: CursorCodec, rows: Sequence[Row], following: Row | None) -> None:
        """Move after ``rows``, or to the last position in them from which resuming loses no row."""
        last = rows[-1]
        position = codec.of(last)
        self.unfinished = following is not None and _same_position(codec, last, following)
        if self.unfinished:
            # More rows have the last position: move to the position before. Without one the position stays.
            earlier = next((row for row in reversed(rows) if not _same_position(codec, row, last)), None)
            if earlier is None:
                return
            last, position = earlier, codec.of(earlier)
        self._watermark.reached(position)
        self._store(codec, last)

    def _store(self, codec: CursorCodec, row: Row | None) -> None:
        low = self._watermark.low
        # A row's own position, where it is not after the watermark, is what other connectors would store.
        position = min(low, self._high if row is None else codec.of(row))
        try:
            stored = codec.to_stored(position)
        except (ValueError, OverflowError) as error:
            raise BadCursorError(codec.timestamps[0], row or (), str(error)) from error
        if stored != self.position:
            self.position, self.moved = stored, True

    def rest(self, bounds: Bounds, row: Row) -> Bounds:
        """Return what is left of ``bounds`` after ``row``. No row after it has the same position."""
        codec = self._codec
        assert codec is not None
        position = codec.of(row)
        if codec.codec is None:
            return replace(bounds, after_id=position[0])
        return replace(bounds, after=position[0], after_id=None if codec.incrementing < 0 else position[1])

    def finished(self) -> None:
        """Note that the read has come to its end."""
        if self._codec is None or not self._looks_back:
            return
        # No further than the last row there is: rows that are dated back, but not before that one, are still found.
        self._watermark.reached(self._high)
        self._store(self._codec, None)
        self.sent.forget(self._watermark.low)

    def position_for_batch(self) -> StoredPosition:
        """Return the position to attach to a batch."""
        self.moved = False
        return self.position

    # The status.

    def lag(self) -> tuple[int, int]:
        """Return how far the stored position is behind the sent rows: milliseconds, and rows that a restart repeats.

        By an id the time is that for which an open transaction has held the position back.
        """
        codec, high, stored = self._codec, self._high, self.position.timestamp
        if codec is not None and codec.codec is not None and high != BEGINNING and stored is not None:
            millis = (codec.codec.to_moment(high[0]) - stored) // timedelta(milliseconds=1)
        else:
            found = blocking_transaction(self._watermark, self._transactions, self._since, self.monotonic())
            millis = 0 if found is None else round(found.age * 1000)
        return max(0, millis), len(self.sent)

    def blocked_reason(self) -> str | None:
        """Return which transaction the stored position has waited for; None where the wait is short."""
        found = blocking_transaction(self._watermark, self._transactions, self._since, self.monotonic())
        if found is None or found.age < self.tuning.blocked_after:
            return None
        if self._settled:
            return f"rows of {self.relation} wait for {found}, because exactly-once delivery reads only what is settled"
        return (
            f"rows of {self.relation} are sent, but the stored position waits for {found}: "
            f"a restart would send {len(self.sent)} rows again"
        )


def _same_position(codec: CursorCodec, row: Row, other: Row) -> bool:
    """Return whether both rows have one position. An id is unique unless tables inherit, or a query has it twice."""
    if codec.codec is not None and codec.timestamp(row) != codec.timestamp(other):
        return False
    return codec.incrementing < 0 or bool(row[codec.incrementing] == other[codec.incrementing])


def _first_after(rows: Sequence[Row], position: CursorPosition, codec: CursorCodec) -> int:
    return bisect_right(rows, position, key=codec.of)
