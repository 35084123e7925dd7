"""``json.fields``: JSON texts are embedded with every digit; other texts are refused with the field's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError, SinkBatch, schema
from headrace.converters.json import JsonConverter
from headrace_sinks.elasticsearch.documents.document_encoder import encoder

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('ab\n\r"\\ä'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3),
    max_leaves=6,
)


def texts(*values: bytes) -> Any:
    """Return values as the JSON converter passes them to the sink."""
    converter = JsonConverter()
    converter.configure({"schemas.enable": "false"}, is_key=False)
    (run,) = converter.from_bytes("t", list(values))
    return run.values


def test_configured_fields_are_written_as_objects() -> None:
    encode = encoder(None, json_fields=["payload", "customer.tags", "lines.extra", "none"])
    value = {
        "id": 1,
        "payload": '{"a": [1, 2]}',
        "customer": {"name": "x", "tags": '["b"]'},
        "lines": [{"extra": '{"c":null}'}, {"extra": None}, {}],
    }
    (document,) = encode([value])
    assert json.loads(document) == {
        "id": 1,
        "payload": {"a": [1, 2]},
        "customer": {"name": "x", "tags": ["b"]},
        "lines": [{"extra": {"c": None}}, {"extra": None}, {}],
    }
    assert value["payload"] == '{"a": [1, 2]}'  # the record itself is unchanged, also for a retry


@given(st.lists(JSON, min_size=1, max_size=4), st.sampled_from([None, 1]))
def test_any_json_is_written_on_one_line(inner: list[Any], indent: int | None) -> None:
    values = [{"n": number, "j": json.dumps(each, indent=indent)} for number, each in enumerate(inner)]
    documents = encoder(None, json_fields=["j"])(values)
    assert [json.loads(document)["j"] for document in documents] == inner
    assert b"\n" not in b"".join(documents)


def test_all_digits_are_kept_inside_and_outside_json_fields() -> None:
    inside, beside = "123456789012345678901234567890.10", "0.1000000000000000000000001"
    value = b'{"j":"{\\"n\\":%b}","n":%b,"big":123456789012345678901}' % (inside.encode(), beside.encode())
    (document,) = encoder(None, json_fields=["j"])(texts(value))
    assert document == b'{"j":{"n":%b},"n":%b,"big":123456789012345678901}' % (inside.encode(), beside.encode())


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "NaN", '{"a":1} x', "/* c */ 1"])
def test_invalid_json_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(DataError, match=r"field 'a\.b'") as raised:
        encoder(None, json_fields=["a.b"])([{"a": {"b": text}}])
    assert raised.value.code == "elasticsearch.field_not_json"


@pytest.mark.parametrize("value", [b'{"j":NaN}', b'{"j":1,}'])
def test_a_value_that_is_not_json_is_refused(value: bytes) -> None:
    with pytest.raises(DataError, match="not readable as JSON"):
        encoder(None, json_fields=["j"])(texts(value))


NAMED = replace(schema.STRING, name="io.debezium.data.Json", optional=True)
SHAPE = schema.struct({"id": schema.INT32, "j": NAMED, "inner": schema.struct({"k": NAMED}), "text": schema.STRING})
VALUE = {"id": 1, "j": '{"a":1}', "inner": {"k": "[2]"}, "text": "{}"}


def test_fields_with_a_json_schema_are_written_as_objects(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(json_fields="*", schema_ignore="false", mapping_maps="flattened")
    assert sink.put(batch(VALUE, {**VALUE, "j": None}, schema=SHAPE)) == []
    assert server.found("orders")["k0"] == {"id": 1, "j": {"a": 1}, "inner": {"k": [2]}, "text": "{}"}
    assert server.found("orders")["k1"]["j"] is None
    properties = server.indices["orders"]["properties"]
    assert properties["j"] == properties["inner"]["properties"]["k"] == {"type": "flattened"}
    assert properties["text"]["type"] == "text"


def test_json_texts_stay_texts_unless_configured(make_sink: Make, batch: Batch, server: Any) -> None:
    assert make_sink(schema_ignore="false").put(batch(VALUE, schema=SHAPE)) == []
    assert server.found("orders")["k0"] == VALUE
    assert server.indices["orders"]["properties"]["j"]["type"] == "text"


def test_an_invalid_text_refuses_only_its_record(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(json_fields="j")
    refused = sink.put(batch({"j": "{}"}, {"j": "{"}, {"j": "[1]"}))
    assert refused == [("orders-0", 1, "elasticsearch.field_not_json")]
    assert server.found("orders") == {"k0": {"j": {}}, "k2": {"j": [1]}}
