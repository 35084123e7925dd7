"""The output of converters takes little more memory than its bytes, so that a limit on buffered bytes bounds memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import json_bytes
from headrace import schema as s
from headrace.converters.json import JsonConverter
from headrace.schema import Schema
from headrace_sinks.elasticsearch.documents.document_encoder import encoder

COUNT = 2_000
SCHEMA = s.struct({"id": s.INT64, "text": s.STRING})
ROWS = [{"id": number, "text": "x" * 20} for number in range(COUNT)]


def convert(schema: Schema | None, enveloped: bool) -> Sequence[bytes | None]:
    converter = JsonConverter()
    converter.configure({"schemas.enable": str(enveloped).lower()}, is_key=False)
    return converter.to_bytes("t", schema, ROWS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: convert(SCHEMA, enveloped=False),
        lambda: convert(SCHEMA, enveloped=True),
        lambda: convert(None, enveloped=False),
        lambda: encoder(SCHEMA)(ROWS),
        lambda: encoder(None)(ROWS),
    ],
    ids=["schema", "envelope", "plain", "documents", "plain documents"],
)
def test_the_memory_of_a_batch_is_close_to_the_size_of_its_bytes(make: Callable[[], Sequence[bytes | None]]) -> None:
    make()  # fill the caches
    tracemalloc.start()
    try:
        made = make()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == COUNT
    size = sum(len(text) for text in made if text is not None)
    assert held < size + COUNT * 64 + 20_000  # overhead of a bytes object and of its list entry, and of the interpreter


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers(-(2**63), 2**63) | st.text(),
            lambda inner: st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_texts_are_equal_to_those_of_orjson(values: list[Any]) -> None:
    assert json_bytes(values) == [orjson.dumps(value) for value in values]
