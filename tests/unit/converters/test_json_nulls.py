"""NaN and infinity are refused wherever they are in a value, although orjson writes them as null."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace import DataError
from headrace.converters.json import JsonConverter
from headrace.pipeline.stream import state_codec

VALUES = st.recursive(
    st.none() | st.floats() | st.integers(-9, 9) | st.sampled_from(["null", "x null y", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.sampled_from(["a", "null"]), inner)
    ),
    max_leaves=6,
)


def has_other_numbers(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (list, tuple)) and any(map(has_other_numbers, value))


def lists(value: Any) -> Any:
    """Return the value with lists in place of tuples."""
    if isinstance(value, dict):
        return {name: lists(item) for name, item in value.items()}
    return [lists(item) for item in value] if isinstance(value, (list, tuple)) else value


@given(st.dictionaries(st.sampled_from(["a", "b"]), VALUES))
@example({"a": None, "b": math.nan})
@example({"a": [None, (math.inf,)], "b": "null"})
def test_only_values_with_nan_or_infinity_are_refused(value: dict[str, Any]) -> None:
    converter = JsonConverter()
    converter.configure({"schemas.enable": "false"}, is_key=False)
    if has_other_numbers(value):
        with pytest.raises(DataError, match="NaN and infinity"):
            converter.to_bytes("t", None, [value])
    else:
        assert converter.to_bytes("t", None, [value]) == [orjson.dumps(value)]


@given(st.dictionaries(st.sampled_from(["a", "b"]), VALUES))
@example({"a": None, "b": math.nan})
def test_a_state_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    (text,) = state_codec.encode([value])
    assert repr(state_codec.decode(text)) == repr(lists(value))
