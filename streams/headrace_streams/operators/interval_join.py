"""Joins of two streams whose records have equal keys and event times within an interval.

Each side has its own time: the highest event time that the partition has seen of it. A record that is more than the
grace behind its own side is late and changes nothing. A left record closes when the *right* time shows that every
further right record in its interval would be late; a right record is kept until the *left* time shows the same. So the
pairs of an inner join, and whether a left record has a match, do not depend on how fast the two topics are read: a
backlog in one of them never makes a left record unmatched.

State: the records (:mod:`headrace_streams.operators.join_records`), the times and the accounts of both sides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from headrace import Segments
from headrace_streams.expressions import Projection
from headrace_streams.operators.grouping import NO_ORIGIN, TIME_SEGMENT
from headrace_streams.operators.join_records import LEFT, MATCHED, RIGHT, TIME, VALUE, JoinRecords, open_records
from headrace_streams.operators.join_stages import JoinStages
from headrace_streams.operators.operator import Operator, StepPlace, StepResult, Tables
from headrace_streams.operators.state_account import added, stored_account
from headrace_streams.operators.stateless import evaluate, record_key
from headrace_streams.rows import Rows

JoinKind = Literal["inner", "left"]
_ACCOUNTS = {LEFT: "left account", RIGHT: "right account"}
"""Keys in the segment of the times, which has those of the sides under ``left`` and ``right``."""
STAGE = "stage"
"""The column of a provisional result: the age in milliseconds."""
_NEVER = 1 << 62
"""Later than all event times."""


@dataclass(frozen=True)
class JoinSide(Operator):
    """Prepares the rows of one side: the keys become those of the join, and the values are marked with the side."""

    side: str
    by: Projection
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, keys, refusals = evaluate(self.by, rows, self.place)
        if {item.__class__ for key in keys for item in key} & {list, dict}:
            odd = {row for row, key in enumerate(keys) if any(isinstance(item, (list, dict)) for item in key)}
            what = ", ".join(item.text for item in self.by.expressions.values())
            error = "the key of a join is an array or an object"
            refusals += [self.place.refusal(rows.origins[row], what, error, "stream.wrong_type") for row in sorted(odd)]
            good = [row for row in range(len(rows)) if row not in odd]
            rows, keys = rows.only(good), [keys[row] for row in good]
        made: list[Any] = [key[0] for key in keys] if len(self.by.expressions) == 1 else list(keys)
        values = [{self.side: value} for value in rows.values]
        return StepResult({"": Rows(made, values, rows.times, rows.origins)}, refusals)

    def describe(self) -> str:
        return f"{self.side} side of the join, by " + ", ".join(item.text for item in self.by.expressions.values())


@dataclass(frozen=True)
class IntervalJoin(Operator):
    """Joins left records with right records from ``before`` earlier to ``after`` later.

    ``inner``: a result for each pair. ``left``: exactly one result for each left record that is not late: with the
    first right record that matches, or without one when it closes.
    """

    kind: JoinKind
    names: tuple[str, ...]
    """Of the key's columns."""
    column: str
    """The column of a result that has the right record, or null."""
    before: int
    after: int
    grace: int
    stages: tuple[int, ...] = ()
    """Of a left join: ages at which a left record without a match has a provisional result, ascending."""
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        batch = _JoinBatch(self, state)
        if self.stages:
            moments = [moment for moment, value in zip(rows.times, rows.values, strict=True) if RIGHT in value]
            batch.prepare_stages(batch.times.get(RIGHT), moments)
        for side, places in groupby(range(len(rows)), lambda place: LEFT in rows.values[place]):
            (batch.take_left if side else batch.take_right)(rows, list(places))
        return batch.result()

    def advance_time(self, silent: int, sides: Collection[str], state: Segments) -> StepResult:
        if len(state) < 2 or TIME_SEGMENT not in state:
            return StepResult({})
        batch = _JoinBatch(self, state)
        known = batch.times.get(RIGHT)
        for side in sides:
            batch.advance(side, silent)
        if self.stages:
            batch.prepare_stages(known)
        return batch.result()

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        return {side: stored_account(state, _ACCOUNTS[side]) for side in (LEFT, RIGHT)}

    def open_records(self, state: Segments) -> Mapping[str, int]:
        return open_records(state)

    def span(self) -> int:
        return self.before + self.after + self.grace

    def state_definition(self) -> str:
        return f"{self._join()}; with accounts"

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return the open left records and the right records of a key, by time. Odd segments are of the right side."""
        shown: list[dict[str, Any]] = []
        for segment, entries in state.items():
            for entry in entries[key]:
                side = {"side": RIGHT} if segment % 2 else {"side": LEFT, "matched": entry[MATCHED]}
                shown.append({**side, "time": entry[TIME], "record": entry[VALUE]})
        return sorted(shown, key=lambda item: (item["time"], item["side"]))

    def describe(self) -> str:
        stages = ", ".join(f"{stage} ms" for stage in self.stages)
        return f"{self._join()}, provisional results after {stages}" if stages else self._join()

    def _join(self) -> str:
        interval = f"from {self.before} ms before to {self.after} ms after the left record"
        return f"{self.kind} join by {', '.join(self.names)}, {interval}, grace {self.grace} ms, as {self.column}"


class _JoinBatch:
    """One batch of one partition: the records of the state, and the results so far."""

    def __init__(self, join: IntervalJoin, state: Segments) -> None:
        self._join = join
        self._state = state
        self._records = JoinRecords(state, join.before + join.after + join.grace)
        self._known: Mapping[str, int] = state.get(TIME_SEGMENT, {})
        self.times: dict[str, int] = {side: self._known[side] for side in (LEFT, RIGHT) if side in self._known}
        self._made = _RowsBuilder(join.names)
        self._pending = _RowsBuilder(join.names)
        self._stages: JoinStages | None = None
        self._late = {side: _RowsBuilder(join.names) for side in (LEFT, RIGHT)}
        self._oldest = _NEVER
        """The event time of the oldest left record that was added to the state."""
        self._left = dict.fromkeys(("received", "matched", "unmatched", "late", "open"), 0)
        self._right = dict.fromkeys(("received", "expired", "dropped", "late", "open"), 0)
        """Changes of the accounts."""

    def prepare_stages(self, known: int | None, moments: Iterable[int] = ()) -> None:
        """Find what may reach a stage. ``known``: the right side's time before the batch; ``moments``: of its right
        records."""
        now = self.times.get(RIGHT)
        last = max((*moments, -_NEVER if now is None else now))
        self._stages = JoinStages(self._join.stages, self._join.grace, self._records, known, last)

    def _emit_stages(self) -> None:
        if self._stages is None:
            return
        for item in self._stages.reached(self.times.get(RIGHT)):
            moment, value, _ = item.record
            pending = {**value, self._join.column: None, STAGE: item.stage}
            self._pending.add(item.key, pending, moment + item.stage, NO_ORIGIN)

    def take_left(self, rows: Rows, places: Sequence[int]) -> None:
        """Take left records, in order."""
        join, times, counts, records = self._join, self.times, self._left, self._records
        is_inner, before, after, grace = join.kind == "inner", join.before, join.after, join.grace
        newest = times.get(RIGHT, -_NEVER)  # of the records that can be found
        counts["received"] += len(places)
        for place in places:
            key, moment = rows.keys[place], rows.times[place]
            value: dict[str, Any] = rows.values[place][LEFT]
            if LEFT not in times or moment > times[LEFT]:
                times[LEFT] = moment
            elif moment < times[LEFT] - grace:
                self._late[LEFT].add(key, value, moment, rows.origins[place])
                continue
            if not _can_match(key):  # it matches nothing, as in SQL
                counts["unmatched"] += 1
                if not is_inner:
                    self._join_pair(key, value, None, moment, rows.origins[place])
                continue
            first = moment - before
            matches = records.find(RIGHT, key, first, min(moment + after, newest)) if first <= newest else []
            for match in matches if is_inner else matches[:1]:
                self._join_pair(key, value, match[VALUE], max(moment, match[TIME]), rows.origins[place])
            counts["matched" if matches else "open"] += 1
            if is_inner or not matches:
                record = [moment, value, bool(matches)]
                records.add(LEFT, key, record)
                self._oldest = min(self._oldest, moment)
                if self._stages is not None:
                    self._stages.added(key, record)
                    self._emit_stages()

    def take_right(self, rows: Rows, places: Sequence[int]) -> None:
        """Take right records, in order."""
        join, times, counts, records = self._join, self.times, self._right, self._records
        before, after, grace = join.before, join.after, join.grace
        newest = times.get(LEFT, -_NEVER)
        counts["received"] += len(places)
        for place in places:
            key, moment = rows.keys[place], rows.times[place]
            value: dict[str, Any] = rows.values[place][RIGHT]
            if RIGHT not in times or moment > times[RIGHT]:
                times[RIGHT] = moment
                self._emit_stages()
            elif moment < times[RIGHT] - grace:
                self._late[RIGHT].add(key, value, moment, rows.origins[place])
                continue
            if not _can_match(key):
                counts["dropped"] += 1
                continue
            for match in records.find(LEFT, key, moment - after, min(moment + before, newest)):
                self._join_pair(key, match[VALUE], value, max(moment, match[TIME]), rows.origins[place])
                if not match[MATCHED]:
                    self._left["matched"] += 1
                    self._left["open"] -= 1
                records.set_matched(key, match, keep=join.kind == "inner")
            records.add(RIGHT, key, [moment, value])
            counts["open"] += 1

    def advance(self, side: str, silent: int) -> None:
        """Advance the time of a side. One that has had no record yet takes that of the other side."""
        if side in self.times:
            self.times[side] += silent
        else:
            self.times[side] = self.times[LEFT if side == RIGHT else RIGHT]

    def result(self) -> StepResult:
        """Close the records that can have no further match, and return the result of the batch."""
        self._emit_stages()  # of a time without records
        closed = self._close_left()
        self._expire_right()
        closed.add_all(self._made)
        left, right, late_left, late_right = self._left, self._right, self._late[LEFT].rows, self._late[RIGHT].rows
        left["late"], right["late"] = len(late_left), len(late_right)
        accounts = {
            key: added(stored_account(self._state, key), self._left if side == LEFT else self._right)
            for side, key in _ACCOUNTS.items()
        }
        counts = {"left": left["received"], "matched": left["matched"], "unmatched": left["unmatched"]}
        return StepResult(
            {"": closed.rows, "late": late_left, "late_right": late_right, "pending": self._pending.rows},
            changes={**self._records.changes, TIME_SEGMENT: {**self.times, **accounts}},
            dropped=right["dropped"],
            late=len(late_left) + len(late_right),
            counts={**counts, "left_late": len(late_left)},
        )

    def _join_pair(
        self, key: Any, left: dict[str, Any], right: dict[str, Any] | None, moment: int, origin: int
    ) -> None:
        self._made.add(key, {**left, self._join.column: right}, moment, origin)

    def _close_left(self) -> _RowsBuilder:
        """Delete the left records that can have no further match; return those of a left join, oldest first."""
        join, made = self._join, _RowsBuilder(self._join.names)
        if RIGHT not in self.times:
            return made
        end = self.times[RIGHT] - join.grace - join.after  # the first moment that is still open
        if self._known.get(RIGHT) == self.times[RIGHT] and self._oldest >= end:
            return made
        closed = [item for item in self._records.close_left(end) if not item[1][MATCHED]]
        self._left["unmatched"] += len(closed)
        self._left["open"] -= len(closed)
        if join.kind == "left":
            closed.sort(key=lambda item: item[1][TIME])
            for key, (moment, value, _) in closed:
                made.add(key, {**value, join.column: None}, moment + join.after, NO_ORIGIN)
        return made

    def _expire_right(self) -> None:
        """Delete right records that can have no further match."""
        if LEFT in self.times:
            expired = self._records.expire_right(self.times[LEFT] - self._join.grace - self._join.before)
            self._right["expired"] += expired
            self._right["open"] -= expired


@dataclass
class _RowsBuilder:
    names: tuple[str, ...]
    """Of the key's columns."""
    rows: Rows = field(default_factory=lambda: Rows([], [], [], []))

    def add(self, key: Any, value: dict[str, Any], moment: int, origin: int) -> None:
        """Add a row. ``key``: of the join; that of the row is an object if it has several columns."""
        self.rows.keys.append(key if len(self.names) == 1 else record_key(self.names, key))
        self.rows.values.append(value)
        self.rows.times.append(moment)
        self.rows.origins.append(origin)

    def add_all(self, other: _RowsBuilder) -> None:
        self.rows.keys += other.rows.keys
        self.rows.values += other.rows.values
        self.rows.times += other.rows.times
        self.rows.origins += other.rows.origins


def _can_match(key: Any) -> bool:
    return None not in key if isinstance(key, tuple) else key is not None
