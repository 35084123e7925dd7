"""Joins of two streams whose records have equal keys and event times within an interval.

Each side has its own time: the highest event time that the partition has seen of it. A record that is more than the
grace behind its own side is late and changes nothing. A left record closes when the *right* time shows that every
further right record in its interval would be late; a right record is kept until the *left* time shows the same. So the
pairs of an inner join, and whether a left record has a match, do not depend on how fast the two topics are read: a
backlog in one of them never makes a left record unmatched.

State: segments of open left records and of right records, each for a part of the event time, key → its records; and a
segment for the times. Many records of one key within an interval are written to the changelog together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace import Changes, Segments
from headrace_streams.expressions import Projection
from headrace_streams.operators.grouping import NO_ORIGIN, TIME_SEGMENT
from headrace_streams.operators.operator import Operator, StepPlace, StepResult, Tables
from headrace_streams.operators.state_account import added, stored_account
from headrace_streams.operators.stateless import evaluate, record_key
from headrace_streams.rows import Rows

JoinKind = Literal["inner", "left"]
LEFT, RIGHT = "left", "right"

_ACCOUNTS = {LEFT: "left account", RIGHT: "right account"}
"""Keys in the segment of the times, which has those of the sides under ``left`` and ``right``."""
_ODD = {LEFT: 0, RIGHT: 1}
"""Whether the numbers of a side's segments are odd."""
_SEGMENTS_PER_INTERVAL = 8
_TIME, _VALUE, _MATCHED = 0, 1, 2
"""Places in a stored record; right records have no third."""


@dataclass(frozen=True)
class JoinSide(Operator):
    """Prepares the rows of one side: the keys become those of the join, and the values are marked with the side."""

    side: str
    by: Projection
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        rows, keys, refusals = evaluate(self.by, rows, self.place)
        odd = {row for row, key in enumerate(keys) if any(isinstance(item, (list, dict)) for item in key)}
        if odd:
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
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        batch = _JoinBatch(self, state)
        for key, value, moment, origin in zip(rows.keys, rows.values, rows.times, rows.origins, strict=True):
            if LEFT in value:
                batch.take_left(key, value[LEFT], moment, origin)
            else:
                batch.take_right(key, value[RIGHT], moment, origin)
        return batch.result()

    def advance_time(self, silent: int, sides: Collection[str], state: Segments) -> StepResult:
        if len(state) < 2 or TIME_SEGMENT not in state:
            return StepResult({})
        batch = _JoinBatch(self, state)
        for side in sides:
            batch.advance(side, silent)
        return batch.result()

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        return {side: stored_account(state, _ACCOUNTS[side]) for side in (LEFT, RIGHT)}

    def open_records(self, state: Segments) -> Mapping[str, int]:
        counts = dict.fromkeys((LEFT, RIGHT), 0)
        for segment, content in state.items():
            if segment == TIME_SEGMENT:
                continue
            if segment % 2 == _ODD[RIGHT]:
                counts[RIGHT] += sum(map(len, content.values()))
            else:
                counts[LEFT] += sum(not entry[_MATCHED] for entries in content.values() for entry in entries)
        return counts

    def span(self) -> int:
        return self.before + self.after + self.grace

    def state_definition(self) -> str:
        return f"{self.describe()}; with accounts"

    def describe(self) -> str:
        interval = f"from {self.before} ms before to {self.after} ms after the left record"
        return f"{self.kind} join by {', '.join(self.names)}, {interval}, grace {self.grace} ms, as {self.column}"


class _JoinBatch:
    """One batch of one partition: the changes of the state, and the results so far."""

    def __init__(self, join: IntervalJoin, state: Segments) -> None:
        self._join = join
        self._state = state
        self._changes: Changes = {}
        self._width = max(1, -(-(join.before + join.after + join.grace) // _SEGMENTS_PER_INTERVAL))
        self._times: dict[str, int] = {
            side: moment for side, moment in state.get(TIME_SEGMENT, {}).items() if side in (LEFT, RIGHT)
        }
        self._made = _RowsBuilder()
        self._late = {LEFT: _RowsBuilder(), RIGHT: _RowsBuilder()}
        self._dropped = 0
        self._stored = dict.fromkeys((LEFT, RIGHT), 0)
        """How many records without a match were added to the state, less those that were removed."""
        self._right = self._expired = 0
        self._counts = dict.fromkeys(("left", "matched", "unmatched", "left_late"), 0)

    def take_left(self, key: Any, value: dict[str, Any], moment: int, origin: int) -> None:
        join = self._join
        self._counts["left"] += 1
        if self._is_late(LEFT, key, value, moment, origin):
            self._counts["left_late"] += 1
            return
        if not _can_match(key):
            self._without_match(key, value, moment, origin)
            return
        matches = self._find(RIGHT, key, moment - join.before, moment + join.after)
        for match in matches if join.kind == "inner" else matches[:1]:
            self._join_pair(key, value, match[_VALUE], max(moment, match[_TIME]), origin)
        if matches:
            self._counts["matched"] += 1
        else:
            self._stored[LEFT] += 1
        if join.kind == "inner" or not matches:
            self._store(LEFT, key, [moment, value, bool(matches)])

    def take_right(self, key: Any, value: dict[str, Any], moment: int, origin: int) -> None:
        join = self._join
        self._right += 1
        if self._is_late(RIGHT, key, value, moment, origin):
            return
        if not _can_match(key):
            self._dropped += 1
            return
        for match in self._find(LEFT, key, moment - join.after, moment + join.before):
            self._join_pair(key, match[_VALUE], value, max(moment, match[_TIME]), origin)
            if not match[_MATCHED]:
                self._counts["matched"] += 1
                self._stored[LEFT] -= 1
            self._matched(key, match)
        self._store(RIGHT, key, [moment, value])
        self._stored[RIGHT] += 1

    def advance(self, side: str, silent: int) -> None:
        """Advance the time of a side. One that has had no record yet takes that of the other side."""
        if side in self._times:
            self._times[side] += silent
        else:
            self._times[side] = self._times[LEFT if side == RIGHT else RIGHT]

    def result(self) -> StepResult:
        """Close the records that can have no further match, and return the result of the batch."""
        closed = self._close_left()
        self._forget_right()
        closed.add_all(self._made)
        left_late, right_late = self._late[LEFT].rows, self._late[RIGHT].rows
        self._changes[TIME_SEGMENT] = self._times_and_accounts(len(right_late))
        return StepResult(
            {"": closed.rows, "late": left_late, "late_right": right_late},
            changes=self._changes,
            dropped=self._dropped,
            late=len(left_late) + len(right_late),
            counts=self._counts,
        )

    def _times_and_accounts(self, right_late: int) -> dict[Any, Any]:
        counts = self._counts
        left = {"received": counts["left"], "matched": counts["matched"], "unmatched": counts["unmatched"]}
        left |= {"late": counts["left_late"], "open": self._stored[LEFT]}
        right = {"received": self._right, "expired": self._expired, "dropped": self._dropped}
        right |= {"late": right_late, "open": self._stored[RIGHT]}
        accounts = {LEFT: left, RIGHT: right}
        return self._times | {
            key: added(stored_account(self._state, key), accounts[side]) for side, key in _ACCOUNTS.items()
        }

    def _is_late(self, side: str, key: Any, value: dict[str, Any], moment: int, origin: int) -> bool:
        now = self._times.get(side)
        if now is not None and moment < now - self._join.grace:
            self._late[side].add(record_key_of(self._join.names, key), value, moment, origin)
            return True
        if now is None or moment > now:
            self._times[side] = moment
        return False

    def _join_pair(
        self, key: Any, left: dict[str, Any], right: dict[str, Any] | None, moment: int, origin: int
    ) -> None:
        value = {**left, self._join.column: right}
        self._made.add(record_key_of(self._join.names, key), value, moment, origin)

    def _without_match(self, key: Any, value: dict[str, Any], moment: int, origin: int) -> None:
        """Emit a row whose key has a null at once: it matches nothing, as in SQL."""
        self._counts["unmatched"] += 1
        if self._join.kind == "left":
            self._join_pair(key, value, None, moment, origin)

    # State

    def _segment(self, side: str, moment: int) -> int:
        return moment // self._width * 2 + _ODD[side]

    def _find(self, side: str, key: Any, first: int, last: int) -> list[list[Any]]:
        """Return the stored records in the interval, by event time, then in the order in which they were read."""
        width, odd, changes, state = self._width, _ODD[side], self._changes, self._state
        found: list[list[Any]] = []
        # For each record of a batch, most segments have no record of its key.
        for segment in range(first // width * 2 + odd, last // width * 2 + odd + 1, 2):
            changed = changes.get(segment)
            if changed is not None and key in changed:
                entries = changed[key]
            elif (known := state.get(segment)) is not None:
                entries = known.get(key)
            else:
                continue
            if entries:
                found += [entry for entry in entries if first <= entry[_TIME] <= last]
        if len(found) > 1:
            found.sort(key=_time_of)
        return found

    def _store(self, side: str, key: Any, entry: list[Any]) -> None:
        self._own(self._segment(side, entry[_TIME]), key).append(entry)

    def _own(self, segment: int, key: Any) -> list[list[Any]]:
        """Return the records of a key as a list that this batch may change; the state's own is not changed."""
        changed = self._changes.get(segment)
        if changed is None:
            changed = self._changes[segment] = {}
        entries: list[list[Any]] | None = changed.get(key)
        if entries is None:
            known = self._state.get(segment) if key not in changed else None
            entries = changed[key] = list(known.get(key, ())) if known is not None else []
        return entries

    def _matched(self, key: Any, match: list[Any]) -> None:
        segment = self._segment(LEFT, match[_TIME])
        entries = self._own(segment, key)
        place = next(number for number, entry in enumerate(entries) if entry is match)
        if self._join.kind == "inner":
            entries[place] = [match[_TIME], match[_VALUE], True]
            return
        del entries[place]
        if not entries:
            self._changes[segment][key] = None

    def _close_left(self) -> _RowsBuilder:
        """Delete the left records that can have no further match; return those of a left join, oldest first."""
        made = _RowsBuilder()
        if RIGHT not in self._times:
            return made
        join = self._join
        end = self._times[RIGHT] - join.grace - join.after  # the first moment that is still open
        closed: list[tuple[Any, list[Any]]] = []
        for segment in self._segments(LEFT, before=end):
            kept_keys: dict[Any, list[list[Any]] | None] = {}
            for key, entries in self._content(segment):
                if len(entries) == 1:  # the usual case
                    entry = entries[0]
                    if entry[_TIME] < end:
                        kept_keys[key] = None
                        closed.append((key, entry))
                    continue
                kept = [entry for entry in entries if entry[_TIME] >= end]
                if len(kept) < len(entries):
                    kept_keys[key] = kept or None
                    closed += [(key, entry) for entry in entries if entry[_TIME] < end]
            if kept_keys:
                self._changes.setdefault(segment, {}).update(kept_keys)
        unmatched = [item for item in closed if not item[1][_MATCHED]]
        self._counts["unmatched"] += len(unmatched)
        self._stored[LEFT] -= len(unmatched)
        if join.kind == "left":
            unmatched.sort(key=lambda item: item[1][_TIME])
            for key, (moment, value, _) in unmatched:
                made.add(record_key_of(join.names, key), {**value, join.column: None}, moment + join.after, NO_ORIGIN)
        return made

    def _forget_right(self) -> None:
        """Delete the segments of right records that can have no further match."""
        if LEFT not in self._times:
            return
        end = self._times[LEFT] - self._join.grace - self._join.before
        for segment in self._segments(RIGHT, before=end):
            if (segment // 2 + 1) * self._width <= end:
                content = list(self._content(segment))
                self._expired += sum(len(entries) for _, entries in content)
                self._changes.setdefault(segment, {}).update((key, None) for key, _ in content)
        self._stored[RIGHT] -= self._expired

    def _segments(self, side: str, *, before: int) -> list[int]:
        """Return the segments of a side that begin before a moment, oldest first."""
        odd = _ODD[side]
        return sorted(
            segment
            for segment in {*self._state, *self._changes}
            if segment != TIME_SEGMENT and segment % 2 == odd and segment // 2 * self._width < before
        )

    def _content(self, segment: int) -> Iterator[tuple[Any, list[list[Any]]]]:
        """Yield the keys of a segment and their records."""
        changed = self._changes.get(segment, {})
        for key, entries in self._state.get(segment, {}).items():
            if key not in changed:
                yield key, entries
        for key, entries in changed.items():
            if entries:
                yield key, entries


@dataclass
class _RowsBuilder:
    rows: Rows = field(default_factory=lambda: Rows([], [], [], []))

    def add(self, key: Any, value: dict[str, Any], moment: int, origin: int) -> None:
        self.rows.keys.append(key)
        self.rows.values.append(value)
        self.rows.times.append(moment)
        self.rows.origins.append(origin)

    def add_all(self, other: _RowsBuilder) -> None:
        self.rows.keys += other.rows.keys
        self.rows.values += other.rows.values
        self.rows.times += other.rows.times
        self.rows.origins += other.rows.origins


def record_key_of(names: tuple[str, ...], key: Any) -> Any:
    """Return the record key for the key of a join: of several columns it is an object."""
    return record_key(names, key if len(names) > 1 else (key,))


def _can_match(key: Any) -> bool:
    return None not in key if isinstance(key, tuple) else key is not None


def _time_of(entry: list[Any]) -> int:
    moment: int = entry[_TIME]
    return moment
