"""Pages grow until a statement takes the desired time; the progress of a table is reported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_sources.sql.reading.read_progress import ReadProgress, share_of
from headrace_sources.sql.reading.table_reader import PageSize

DAY = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.floats(1e-7, 1e-2), st.floats(0.01, 10))
def test_the_page_size_converges_to_the_desired_time(seconds_per_row: float, target: float) -> None:
    size = PageSize(1000, target)
    for _ in range(20):
        size.took(size.rows, size.rows * seconds_per_row)

    assert size.rows == pytest.approx(min(max(target / seconds_per_row, 1000), 64_000), rel=0.01)


@given(st.integers(1, 5000), st.floats(0, 100))
def test_one_measurement_changes_the_page_size_by_a_bounded_factor(least: int, seconds: float) -> None:
    size = PageSize(least, 1.0)
    before = size.rows = least * 8
    size.took(before, seconds)

    assert before / 4 <= size.rows <= before * 2


def test_a_page_that_is_not_full_does_not_change_the_page_size() -> None:
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
def test_the_share_of_a_range_is_computed_for_numbers_and_times(
    first: object, last: object, end: object, share: float | None
) -> None:
    assert share_of(first, last, end) == share


def test_progress_with_a_known_share_has_rate_and_remaining_time() -> None:
    now = [0.0]
    progress = ReadProgress("table shop.orders", lambda: now[0])
    progress.rows = 2_000
    now[0] = 10.0
    share = share_of(1, 2000, 10_000)
    text = progress.describe(share)

    assert text.startswith("reading table shop.orders: 2,000 rows, 200 a second, about 8,0")
    assert text.endswith("to come, 40 s at this rate")
    assert progress.remaining(share) == pytest.approx(8_000, rel=0.01)


def test_progress_without_an_end_has_rows_and_rate() -> None:
    now = [0.0]
    progress = ReadProgress("the query", lambda: now[0])
    progress.rows = 600
    now[0] = 6.0

    assert progress.describe(share_of("a", "b", None)) == "reading the query: 600 rows, 100 a second"
    assert progress.remaining(None) == 0
