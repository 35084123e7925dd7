"""Pages find the size that keeps the database busy for the wanted time; a reading tells how far it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_sources.sql.reading.paging import PageSize, Reading, share_of

DAY = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.floats(1e-7, 1e-2), st.floats(0.01, 10))
def test_the_size_comes_to_the_wanted_time(seconds_per_row: float, target: float) -> None:
    size = PageSize(1000, target)
    for _ in range(20):
        size.took(size.rows, size.rows * seconds_per_row)

    assert size.rows == pytest.approx(min(max(target / seconds_per_row, 1000), 64_000), rel=0.01)


@given(st.integers(1, 5000), st.floats(0, 100))
def test_one_measurement_changes_little(least: int, seconds: float) -> None:
    size = PageSize(least, 1.0)
    before = size.rows = least * 8
    size.took(before, seconds)

    assert before / 4 <= size.rows <= before * 2


def test_a_page_that_is_not_full_says_nothing() -> None:
    size = PageSize(1000, 1.0)
    size.took(10, 0.0001)

    assert size.rows == 1000


@pytest.mark.parametrize(
    ("first", "last", "end", "share"),
    [
        (1, 51, 101, 0.5),
        (DAY, DAY + timedelta(hours=1), DAY + timedelta(hours=4), 0.25),
        (1, 1, 101, None),
        (1, 150, 101, 1.0),
        (1, 51, None, None),
        (DAY, DAY.replace(tzinfo=None), DAY, None),
        ("2026", "2027", "2028", None),
    ],
)
def test_share(first: object, last: object, end: object, share: float | None) -> None:
    assert share_of(first, last, end) == share


def test_a_long_reading_tells_rate_and_rest() -> None:
    now = [0.0]
    reading = Reading("table shop.orders", lambda: now[0])

    assert reading.reached(1000, 1, 1000, 10_000) is None
    assert reading.remaining == pytest.approx(9_000, rel=0.01)
    now[0] = 10.0
    text = reading.reached(1000, 1001, 2000, 10_000)

    assert text is not None
    assert text.startswith("reading table shop.orders: 2,000 rows, 200 a second, about 8,0")
    assert text.endswith("to come, 40 s at this rate")
    assert reading.reached(1000, 2001, 3000, 10_000) is None


def test_a_reading_without_an_end_tells_what_it_knows() -> None:
    now = [0.0]
    reading = Reading("the query", lambda: now[0])
    now[0] = 6.0

    assert reading.reached(600, "a", "b", None) == "reading the query: 600 rows, 100 a second"
    assert reading.remaining is None
