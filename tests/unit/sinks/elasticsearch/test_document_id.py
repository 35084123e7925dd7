import json
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError
from headrace_sinks.elasticsearch.documents.document_id import document_id, document_ids
from headrace_sinks.elasticsearch.naming.name_rules import index_name

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("key", "ident"),
    [
        ("k1", "k1"),
        (42, "42"),
        (-1, "-1"),
        (True, "true"),
        (Decimal("12345678901234567890"), "12345678901234567890"),
        (date(2024, 1, 31), "2024-01-31"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"id": 7}, "7"),
        ({"id": "a+b"}, "a+b"),
        ({"order": 7, "line": "x"}, "7+x"),
        ({"a": "1+", "b": "\\2"}, "1\\++\\\\2"),
    ],
)
def test_a_key_is_converted_to_a_document_id(key: Any, ident: str) -> None:
    assert json.loads(document_id(key)) == ident


@pytest.mark.parametrize("key", [None, "", 1.5, b"k", [], {}, {"id": None}, {"a": 1, "b": {}}, "\ud800", "ä" * 257])
def test_a_key_without_an_id_is_refused(key: Any) -> None:
    with pytest.raises(DataError) as raised:
        document_id(key)

    assert raised.value.code == "elasticsearch.unusable_key"


KEYS = st.one_of(st.integers(-(2**63), 2**63), TEXT, st.booleans())


@given(st.lists(st.dictionaries(TEXT, KEYS, min_size=1, max_size=2) | KEYS, max_size=6))
def test_ids_of_a_column_are_those_of_each_key(keys: list[Any]) -> None:
    assert document_ids(keys) == [document_id(key) for key in keys]


def test_an_id_of_512_bytes_is_accepted() -> None:
    assert json.loads(document_id("ä" * 256)) == "ä" * 256
    assert json.loads(document_id('"' * 512)) == '"' * 512


@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_different_keys_have_different_ids(one: tuple[str, str], other: tuple[str, str]) -> None:
    same = document_id(dict(zip("ab", one, strict=True))) == document_id(dict(zip("ab", other, strict=True)))

    assert same == (one == other)


@pytest.mark.parametrize(
    ("topic", "index"),
    [
        ("inventory.offers", "inventory.offers"),
        ("_MyTopic", "mytopic"),
        ("-x", "x"),
        ("x" * 300, "x" * 255),
        (".", "dot"),
        ("..", "dotdot"),
    ],
)
def test_a_topic_name_is_converted_to_an_index_name(topic: str, index: str) -> None:
    assert index_name(topic) == index


@pytest.mark.parametrize("topic", ["a b", "a/b", "a*", "__x", "+x", "", "_", "a:b", "a\n"])
def test_a_topic_without_a_valid_index_name_is_refused(topic: str) -> None:
    with pytest.raises(DataError, match=r"index\.name") as raised:
        index_name(topic)

    assert raised.value.code == "elasticsearch.invalid_index_name"


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_index_names_are_valid_or_refused(topic: str) -> None:
    try:
        name = index_name(topic)
    except DataError:
        return
    assert 1 <= len(name.encode()) <= 255
    assert name == name.lower()
    assert name[0] not in "-_+"
    assert not set(name) & set('\\/*?"<>| ,#:')
