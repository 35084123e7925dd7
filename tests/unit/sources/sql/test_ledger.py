"""The file of sent keys: what it keeps, and in which order."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace_sources.sql.deletes.ledger import Ledger
from headrace_sources.sql.rows.ledger_keys import decoded, encoded

VALUES = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.binary(),
)


@given(st.lists(VALUES, min_size=1, max_size=4).map(tuple))
def test_a_key_is_read_as_it_was_written(key: tuple[Any, ...]) -> None:
    back = decoded(encoded(key))

    assert back == key
    assert [type(value) for value in back] == [type(value) for value in key]


def test_keys_of_different_types_are_different() -> None:
    keys = [(1,), (True,), ("1",), (1.0,), (Decimal(1),), (date(1, 1, 1),), (datetime(1, 1, 1),), (time(1),), (b"1",)]

    assert len({encoded(key) for key in [*keys, (timedelta(1),)]}) == len(keys) + 1


def test_keys_with_null_are_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.add([(1, None), (1, 2)])

    assert len(ledger) == 1
    ledger.close()


COLUMNS = [
    st.integers(),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC)),
    st.floats(allow_nan=False).filter(lambda value: value != 0 or str(value) == "0.0"),
    st.booleans(),
    st.timedeltas(),
]


@given(st.data())
def test_keys_are_sorted_in_their_stored_form(data: st.DataObject) -> None:
    columns = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3))
    keys = data.draw(st.lists(st.tuples(*columns), min_size=2, max_size=6))

    assert sorted(keys) == [decoded(found) for found in sorted(map(encoded, keys))]


def test_a_key_that_was_sent_again_is_kept_when_its_tombstone_arrives(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.add([(1,), (2,)])
    ledger.begin_walk()
    found_gone_in = ledger.walk
    ledger.add([(1,)])
    ledger.remove([(1,), (2,)], found_gone_in)

    assert len(ledger) == 1
    part = ledger.part(b"", 10)
    assert part is not None
    assert decoded(part.last) == (1,)
    ledger.close()


def test_a_ledger_is_new_until_it_has_keys(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "l")
    assert first.new
    first.add([(1,)])
    first.close()
    again = Ledger(tmp_path / "l")

    assert not again.new
    again.close()
