"""State and internal records are read back as they were written."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DataError
from headrace.pipeline.stream.state_codec import decode, encode

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    st.text(),
    st.sampled_from(["$decimal", "$object"]),
    st.binary(),
    st.dates(),
    st.times().map(lambda moment: moment.replace(fold=0)),
    st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0)),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$decimal", "$bytes", "$object"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.lists(values, max_size=4))
def test_values_are_read_back_with_value_and_type(written: list[Any]) -> None:
    read = [decode(text) for text in encode(written)]

    assert read == written
    assert repr(read) == repr(written)


def test_one_value_without_a_json_form_is_named() -> None:
    with pytest.raises(DataError, match="a value of type set cannot be stored"):
        encode([1, {2}])


def test_types_are_read_back_unchanged() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    written = [moment, date(2026, 1, 2), time(3, 4), 1 << 70, float("inf"), b"\xff"]
    assert [decode(text) for text in encode(written)] == written
