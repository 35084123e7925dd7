"""operations 7 and 17: the mapping of an index that is built from records of several schemas takes all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_sinks.elasticsearch.mappings.compatibility import conflicts
from headrace_sinks.elasticsearch.mappings.widened_mapping import widened

SCALARS = ["boolean", "byte", "short", "integer", "long", "float", "double", "date", "binary", "text", "keyword"]


def fields(**types: str) -> dict[str, Any]:
    return {"properties": {name: {"type": kind} for name, kind in types.items()}}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("integer", "long", "long"),
        ("long", "integer", "long"),
        ("long", "double", "double"),
        ("double", "long", "double"),
        ("integer", "text", "text"),
        ("text", "integer", "text"),
        ("boolean", "long", "keyword"),
        ("date", "double", "keyword"),
    ],
)
def test_a_field_gets_the_type_that_accepts_both(one: str, other: str, both: str) -> None:
    assert widened(fields(n=one), fields(n=other)) == fields(n=both)


def test_fields_of_both_are_kept() -> None:
    inner = {"properties": {"shop": fields(a="long", b="integer")}}
    more = {"properties": {"shop": fields(b="long", c="text")}}

    assert widened(inner, more) == {"properties": {"shop": fields(a="long", b="long", c="text")}}


@pytest.mark.parametrize("order", [1, -1])
def test_an_object_stays_an_object(order: int) -> None:
    one, other = [fields(n="long"), {"properties": {"n": fields(a="long")}}][::order]

    assert widened(one, other) == {"properties": {"n": fields(a="long")}}


mappings = st.recursive(
    st.sampled_from(SCALARS).map(lambda kind: {"type": kind}),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(lambda found: {"properties": found}),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from("abc"), mappings, min_size=1).map(lambda found: {"properties": found})


@given(st.lists(documents, min_size=1, max_size=8))
def test_widening_ends_and_only_scalars_in_place_of_objects_conflict(seen: list[dict[str, Any]]) -> None:
    """However often the records are read, the mapping changes at most as often as types can grow."""
    mapping: dict[str, Any] = {}
    for _ in range(8):
        before = mapping
        for each in seen:
            mapping = widened(mapping, each)
        if mapping == before:
            break
    assert mapping == before
    for each in seen:
        assert all(item.has == "object" for item in conflicts(mapping, each, {}))
