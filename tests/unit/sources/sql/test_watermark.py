"""The watermark and a model of a database with concurrent transactions: no row is missed, for any sequence of steps.

Hypothesis chooses the steps: transactions begin, draw numbers from one sequence (some of which they never use),
commit in any order or roll back; prepared ones change their name. The reader takes fences, reads the visible rows in
between, stops in the middle, and is killed and started again at its stored position.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace_sources.sql.cursor.position import BEGINNING, CursorPosition
from headrace_sources.sql.cursor.watermark import Fence, Transaction, Watermark
from headrace_sources.sql.dialects.dialect import ANYONE
from tests.unit.examples import examples

# Weights of the steps; transactions without writes are rare.
WHAT = ["begin and draw"] * 4 + ["draw"] * 3 + ["commit"] * 4 + ["begin", "draw and lose", "roll back", "prepare"]
ACTIONS = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 3)), max_size=6)


class ConcurrentTransactions(RuleBasedStateMachine):
    settled = False
    """Whether the reader reads only rows before which none can appear, as with exactly-once delivery."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence = self.names = 0
        self.open: dict[str, list[int]] = {}
        self.began_at: dict[str, int] = {}
        self.committed: set[int] = set()
        self.sent: set[int] = set()
        self.mark = Watermark()
        self.stored: CursorPosition = BEGINNING

    # The database.

    def act(self, actions: list[tuple[str, int]]) -> None:
        """Run one step of a transaction; the number selects an open one."""
        for action, number in actions:
            if action.startswith("begin") or not self.open:
                self.names += 1
                name = f"t{self.names}"
                self.open[name], self.began_at[name] = [], self.sequence
                if action == "begin and draw":
                    self.sequence += 1
                    self.open[name].append(self.sequence)
                continue
            name = list(self.open)[number % len(self.open)]
            if action.startswith("draw") and not name.startswith("prepared"):
                self.sequence += 1
                if action == "draw":
                    self.open[name].append(self.sequence)
            elif action == "commit":
                self.committed.update(self.open.pop(name))
            elif action == "roll back":
                del self.open[name]
            elif action == "prepare" and not name.startswith("prepared"):
                # It continues under another name.
                self.open[f"prepared {name}"] = self.open.pop(name)

    # The reader.

    def fence(self, top: int, tells_start: bool) -> Fence:
        return Fence(
            (top,) if top else self.mark.start,
            [
                Transaction(name, continues=ANYONE)
                if name.startswith("prepared")
                else Transaction(name, (self.began_at[name],) if tells_start else BEGINNING)
                for name in self.open
            ],
        )

    @rule(
        before=ACTIONS,
        first=ACTIONS,
        second=ACTIONS,
        tells_start=st.booleans(),
        taken=st.sampled_from([0, 1, 2, 99, 99, 99, 99, 99]),
    )
    def poll(
        self,
        before: list[tuple[str, int]],
        first: list[tuple[str, int]],
        second: list[tuple[str, int]],
        tells_start: bool,
        taken: int,
    ) -> None:
        """Take position, fence and rows, in this order; other steps run between them, and it may be interrupted."""
        self.act(before)
        top = max(self.committed, default=0)
        self.act(first)
        self.mark.observe(self.fence(top, tells_start))
        self.act(second)
        visible = sorted(row for row in self.committed if (row,) > self.mark.resume)
        if self.settled:
            limit = self.mark.low_after((top,) if top else self.mark.start)
            visible = [row for row in visible if (row,) <= limit]
        for row in visible[:taken]:
            assert not self.settled or row not in self.sent, f"{row} is sent twice"
            self.sent.add(row)
            self.mark.reached((row,))
            self.stored = self.mark.low

    @rule(seldom=st.integers(0, 4))
    def kill(self, seldom: int) -> None:
        """Restart the reader at the stored position; sent rows stay sent."""
        if not seldom:
            self.mark = Watermark(self.stored)

    @invariant()
    def nothing_is_missing_up_to_what_is_stored(self) -> None:
        assert not {row for row in self.committed if (row,) <= self.stored} - self.sent

    @invariant()
    def nothing_can_turn_up_before_what_is_stored(self) -> None:
        assert not [row for rows in self.open.values() for row in rows if (row,) <= self.stored]

    def teardown(self) -> None:
        """In the end all rows were sent and no transaction blocks the position."""
        for name in list(self.open):
            self.committed.update(self.open.pop(name))
        for _ in range(2):
            self.poll([], [], [], False, len(self.committed))
        assert self.committed <= self.sent
        assert self.mark.low == ((max(self.committed),) if self.committed else BEGINNING)


ConcurrentTransactions.TestCase.settings = settings(max_examples=examples(2), stateful_step_count=12, deadline=None)
TestConcurrentTransactions = ConcurrentTransactions.TestCase


class SettledReads(ConcurrentTransactions):
    """No row is missed, and none is sent twice, also by a reader that is killed and starts at its stored position."""

    settled = True


SettledReads.TestCase.settings = ConcurrentTransactions.TestCase.settings
TestSettledReads = SettledReads.TestCase


def test_a_position_waits_for_the_oldest_transaction_and_then_moves_on() -> None:
    mark = Watermark((5,))
    mark.observe(Fence((10,), [Transaction("old")]))
    mark.reached((10,))
    assert (mark.resume, mark.low) == ((10,), (5,))
    mark.observe(Fence((20,), [Transaction("old"), Transaction("new")]))
    mark.reached((20,))
    assert (mark.resume, mark.low) == ((20,), (5,))
    mark.observe(Fence((30,), [Transaction("new")]))
    assert mark.resume == (5,)
    mark.reached((30,))
    assert (mark.resume, mark.low) == ((30,), (10,))


def test_a_short_transaction_repeats_only_rows_read_while_it_was_open() -> None:
    """Regardless of how long another one has been open."""
    mark = Watermark()
    mark.observe(Fence((10,), [Transaction("old")]))
    mark.reached((10,))
    mark.observe(Fence((20,), [Transaction("old"), Transaction("short")]))
    mark.reached((20,))
    mark.observe(Fence((30,), [Transaction("old")]))

    assert mark.resume == (10,)
    assert mark.low == BEGINNING


def test_rows_read_after_the_fence_are_read_again() -> None:
    mark = Watermark()
    mark.observe(Fence((10,)))
    mark.reached((15,))
    mark.reached((10,))

    assert mark.resume == (10,)


def test_without_fences_the_position_is_that_of_the_rows_read() -> None:
    mark = Watermark((3,))
    mark.reached((15,))
    mark.reached((10,))

    assert (mark.resume, mark.low) == ((15,), (15,))


@pytest.mark.parametrize(("lineage", "expected"), [("7", (4,)), ("8", (10,))])
def test_a_renamed_transaction_continues_its_lineage(lineage: str, expected: Any) -> None:
    mark = Watermark((4,))
    mark.observe(Fence((10,), [Transaction("statement", lineage="7")]))
    mark.observe(Fence((20,), [Transaction("transaction", continues=(lineage,))]))

    assert mark.open == {"transaction": expected}


def test_a_clock_that_is_set_back_moves_every_position_back() -> None:
    mark = Watermark((4,))
    mark.observe(Fence((10,), [Transaction("open", (8,))]))
    mark.reached((10,))
    mark.retreat((6,))
    mark.observe(Fence((12,), [Transaction("open", (8,)), Transaction("new", (11,))]))

    assert mark.resume == (6,)
    assert mark.open == {"open": (6,), "new": (11,)}
