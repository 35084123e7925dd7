"""Fetching one batch ahead keeps rows and order, raises errors at the right batch, and leaves no thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.testing.waiting import eventually
from headrace_sources.sql.dialects.read_ahead import ReadAhead


class Cursor:
    """Rows of a number and a text each. If it ``hangs``, fetches ahead last until they are cancelled."""

    def __init__(self, count: int, *, breaks_at: int | None = None, text: str = "", hangs: bool = False) -> None:
        self._count, self._breaks_at, self._text, self._hangs = count, breaks_at, text, hangs
        self.given = 0
        self.cancelled = threading.Event()
        self.closed = False
        self.now = 0.0  # each fetch takes a second
        self.threads: set[threading.Thread] = set()

    def fetchmany(self, size: int) -> Sequence[tuple[Any, ...]]:
        assert not self.closed
        self.threads.add(threading.current_thread())
        if self._hangs and threading.current_thread() is not threading.main_thread():
            self.cancelled.wait()
            raise ConnectionError("cancelled")
        end = min(self.given + size, self._count)
        if self._breaks_at is not None and end > self._breaks_at:
            raise ConnectionError("broken")
        self.now += 1.0
        found = [(number, self._text) for number in range(self.given, end)]
        self.given = end
        return found

    def all_given(self) -> bool:
        return self.given == self._count

    def close(self) -> None:
        self.closed = True

    def ahead(self) -> ReadAhead:
        return ReadAhead(self.fetchmany, self.close, self.cancelled.set, lambda: self.now)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    eventually(lambda: set(threading.enumerate()) <= before)


def test_the_time_of_prefetching_is_measured() -> None:
    """The duration of a page is the time in which the database works for it, not the time spent waiting."""
    cursor = Cursor(4)
    ahead = cursor.ahead()
    assert ahead.prefetch_seconds() == 0
    ahead.fetchmany(2)
    assert ahead.prefetch_seconds() == 0  # waited for from its beginning
    eventually(lambda: cursor.all_given() and len(cursor.threads) == 2)
    ahead.fetchmany(2)
    assert ahead.prefetch_seconds() == 1.0
    ahead.fetchmany(2)
    ahead.close()


@given(count=st.integers(0, 60), sizes=st.lists(st.integers(1, 13), min_size=1))
def test_all_rows_are_returned_once_and_in_order(count: int, sizes: list[int]) -> None:
    ahead = Cursor(count).ahead()
    found: list[int] = []
    for turn in range(count + 2):
        size = sizes[turn % len(sizes)]
        rows = ahead.fetchmany(size)
        assert len(rows) == min(size, count - len(found))
        found += [row[0] for row in rows]
    ahead.close()
    assert found == list(range(count))


def test_the_next_rows_are_fetched_before_they_are_requested() -> None:
    cursor = Cursor(10)
    ahead = cursor.ahead()
    ahead.fetchmany(3)
    eventually(lambda: cursor.given == 6)
    ahead.close()


def test_a_small_result_is_read_without_a_thread() -> None:
    cursor = Cursor(5)
    ahead = cursor.ahead()
    assert len(ahead.fetchmany(10)) == 5
    assert not ahead.fetchmany(10)
    ahead.close()
    assert cursor.threads == {threading.current_thread()}


def test_wide_rows_are_not_fetched_ahead() -> None:
    cursor = Cursor(100, text="x" * 1_000_000)
    ahead = cursor.ahead()
    assert sum(len(ahead.fetchmany(10)) for _ in range(10)) == 100
    ahead.close()
    assert cursor.threads == {threading.current_thread()}


def test_an_error_is_raised_when_its_rows_are_requested() -> None:
    ahead = Cursor(10, breaks_at=4).ahead()
    assert [row[0] for row in ahead.fetchmany(4)] == [0, 1, 2, 3]
    with pytest.raises(ConnectionError, match="broken"):
        ahead.fetchmany(4)
    ahead.close()


def test_closing_cancels_the_running_fetch() -> None:
    cursor = Cursor(100, hangs=True)
    ahead = cursor.ahead()
    ahead.fetchmany(10)  # the next fetch begins at once
    ahead.close()
    assert cursor.closed
