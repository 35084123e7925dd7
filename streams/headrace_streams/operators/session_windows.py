"""Aggregates over sessions: records of a group that follow each other without a gap of event time.

Sessions, lateness and merging are those of Kafka Streams: a record is in a session if at most ``gap`` is between them,
and a record between two sessions merges them. A session closes when the stream time is more than the gap and the grace
after its last record.

State: sessions are in segments by the time of their last record, so that those that close are found without a search
over all groups. A segment is shorter than the gap, and sessions of a group that could be merged are, so a group has at
most one session in a segment. A session is a list: its first and last time, the number of its first record, and the
accumulators. Records are numbered, because the first or last record of two merged sessions may be in either of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace import Changes, Segments
from headrace_streams.operators.accumulators import RECORDS, AccumulatorFunctions, accumulator_functions
from headrace_streams.operators.grouping import NO_ORIGIN, TIME_SEGMENT, GroupedRows, Grouping, advanced_time
from headrace_streams.operators.operator import Operator, StepResult, Tables
from headrace_streams.operators.state_account import stored_account, time_and_account
from headrace_streams.rows import Rows

_SEGMENTS_PER_GAP = 4
"""More segments: fewer sessions are compared when the stream time advances, and more are searched for each record."""
_START, _END, _NUMBER, _ACCUMULATORS = 0, 1, 2, 3
Session = list[Any]


@dataclass(frozen=True)
class SessionWindow(Operator):
    """One result for each session, when it closes. Its aggregates are mergeable."""

    grouping: Grouping
    gap: int
    grace: int
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        return self.grouping.process(rows, lambda grouped: self._aggregate(grouped, state))

    def _aggregate(self, grouped: GroupedRows, state: Segments) -> StepResult:
        rows = grouped.rows
        batch = _SessionBatch(self, state, rows.times[0])
        late = grouped.late(batch.take)
        counts = {"received": len(rows), "late": len(late)}
        return StepResult({"": batch.close(counts), "late": rows.only(late)}, [], batch.changes, late=len(late))

    def advance_time(self, silent: int, sides: Collection[str], state: Segments) -> StepResult:
        if (now := advanced_time(state, silent)) is None:
            return StepResult({})
        batch = _SessionBatch(self, state, now)
        return StepResult({"": batch.close({"received": 0, "late": 0}, now)}, changes=batch.changes)

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        return {"": stored_account(state)}

    def open_records(self, state: Segments) -> Mapping[str, int]:
        segments = (segment for segment in state if segment != TIME_SEGMENT)
        return {"": sum(session[RECORDS] for segment in segments for session in state[segment].values())}

    def span(self) -> int:
        return self.gap + self.grace

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return the open sessions of a group as their results would be now, oldest first."""
        sessions = [entries[key] for _, entries in sorted(state.items())]
        return [self.grouping.result(key, item[_START], item[_END], self.functions.results(item)) for item in sessions]

    @cached_property
    def functions(self) -> AccumulatorFunctions:
        return accumulator_functions(self.grouping.aggregates, self.grouping.arguments.expressions, _ACCUMULATORS)

    def state_definition(self) -> str:
        return f"sessions with a gap of {self.gap} ms {self.grouping.definition()}"

    def describe(self) -> str:
        return f"sessions with a gap of {self.gap} ms, grace {self.grace} ms, {self.grouping.describe()}"


class _SessionBatch:
    """One batch of one partition: the changes of the state so far."""

    def __init__(self, window: SessionWindow, state: Segments, first: int) -> None:
        known = state.get(TIME_SEGMENT, {})
        self._window = window
        self._functions = window.functions
        self._width = max(1, window.gap // _SEGMENTS_PER_GAP)
        self._state = state
        self._now: int = known.get("time", first)
        self._number: int = known.get("records", 0)
        self._closed: list[tuple[Any, Session]] = []
        self.changes: Changes = {}

    def take(self, key: Any, moment: int, values: tuple[Any, ...]) -> bool:
        """Add a record to its session. Return False when it is late. Raise TypeError for what does not fit."""
        hash(key)
        number = self._number
        self._number += 1
        self._now = max(self._now, moment)
        found = self._near(key, moment)
        if found:
            session = self._merged(key, found)
            session[_START] = min(session[_START], moment)
            session[_END] = max(session[_END], moment)
        elif moment < self._first_open_end():
            return False
        else:
            session = [moment, moment, number, *self._functions.initial]
        self._functions.add(session, values, number)
        self._store(key, session)
        return True

    def close(self, counts: Mapping[str, int], now: int | None = None) -> Rows:
        """Delete the sessions that have closed, and return their results by the time of their end.

        ``counts``: how many records were received and late. ``now``: the stream time, if no record shows it.
        """
        self._now = self._now if now is None else now
        end = self._first_open_end()
        segments = {*self._state, *self.changes} - {TIME_SEGMENT}
        for segment in [item for item in segments if item * self._width < end]:
            content = {**self._state.get(segment, {}), **self.changes.get(segment, {})}
            closed = [(key, session) for key, session in content.items() if session is not None and session[_END] < end]
            self._closed += closed
            if closed:
                self.changes.setdefault(segment, {}).update((key, None) for key, _ in closed)
        results = sum(session[RECORDS] for _, session in self._closed)
        amounts = {**counts, "results": results, "open": counts["received"] - counts["late"] - results}
        self.changes[TIME_SEGMENT] = {
            **time_and_account(self._state, self._now, amounts),
            "records": self._number,
        }
        self._closed.sort(key=lambda item: (item[1][_END], item[1][_NUMBER]))
        grouping, made = self._window.grouping, self._functions.results
        return Rows(
            [grouping.record_key(key) for key, _ in self._closed],
            [grouping.result(key, item[_START], item[_END], made(item)) for key, item in self._closed],
            [item[_END] for _, item in self._closed],
            [NO_ORIGIN] * len(self._closed),
        )

    def _first_open_end(self) -> int:
        """Return the end of the oldest sessions that are open."""
        return self._now - self._window.gap - self._window.grace

    def _near(self, key: Any, moment: int) -> list[tuple[int, Session]]:
        """Return the open sessions that a record at this time belongs to, oldest first, with their segments."""
        gap, state, changes = self._window.gap, self._state, self.changes
        first = max(moment - gap, self._first_open_end())
        found = []
        for segment in range(first // self._width, self._now // self._width + 1):
            changed = changes.get(segment)
            if changed is not None and key in changed:
                session = changed[key]
            else:
                known = state.get(segment)
                session = known.get(key) if known is not None else None
            if session is None or session[_END] < first:
                continue
            if session[_START] > moment + gap:
                break  # sessions that end later also begin later
            found.append((segment, session))
        return found

    def _merged(self, key: Any, found: Sequence[tuple[int, Session]]) -> Session:
        """Return one session for these, which are deleted."""
        session = self._functions.copy(found[0][1])
        for _, other in found[1:]:
            session[_END] = other[_END]
            session[_NUMBER] = min(session[_NUMBER], other[_NUMBER])
            self._functions.merge(session, other)
        for segment, _ in found:
            self.changes.setdefault(segment, {})[key] = None
        return session

    def _store(self, key: Any, session: Session) -> None:
        segment = session[_END] // self._width
        changed = self.changes.setdefault(segment, {})
        previous = changed[key] if key in changed else self._state.get(segment, {}).get(key)
        if previous is not None:  # it has closed in this batch: an open one would have been merged
            self._closed.append((key, previous))
        changed[key] = session
