"""``header.converter`` in the paths of sources and sinks."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError, SourceBatch
from headrace import schema as schemas
from headrace.freshness import HEADER as HOPS
from headrace.pipeline.fault_policy import Stage
from headrace.records import Headers
from headrace.registry import Plugin, PluginKind, Registry
from headrace_transforms.header_texts import parse_text
from headrace_transforms.simple_header_converter import SimpleHeaderConverter
from tests.unit.transforms.conftest import StageMaker
from tests.unit.transforms.test_in_tasks import JVM, consumed

STORAGE = "org.apache.kafka.connect.storage."
INSERT = {
    "transforms": "mark,number",
    "transforms.mark.type": f"{JVM}InsertHeader",
    "transforms.mark.header": "mark",
    "transforms.mark.value.literal": "1.50",
    "transforms.number.type": f"{JVM}HeaderFrom$Value",
    "transforms.number.fields": "n",
    "transforms.number.headers": "n",
    "transforms.number.operation": "copy",
}
VALUE = b'{"n":7}'


@pytest.mark.parametrize(
    ("converter", "written"),
    [
        ({}, [b"1.5", b"7"]),
        ({"header.converter": f"{STORAGE}SimpleHeaderConverter"}, [b"1.5", b"7"]),
        ({"header.converter": f"{STORAGE}StringConverter"}, [b"1.5", b"7"]),
        (
            {"header.converter": "org.apache.kafka.connect.json.JsonConverter"},
            [b'{"schema":{"type":"float","optional":false},"payload":1.5}', b'{"schema":null,"payload":7}'],
        ),
        ({"header.converter": "JsonConverter", "header.converter.schemas.enable": "false"}, [b"1.5", b"7"]),
        ({"header.converter": "StringConverter", "header.converter.converter.encoding": "UTF-16LE"}, None),
    ],
)
def test_a_source_writes_headers_by_its_header_converter(
    stage_maker: StageMaker, converter: dict[str, str], written: list[bytes] | None
) -> None:
    made = stage_maker.source({**INSERT, **converter}).encode(
        SourceBatch("t", [{"n": 7}], headers=[[("own", b"\xff")]])
    )

    (batch,) = made.batches
    assert batch.headers is not None
    expected = written or ["1.5".encode("utf-16le"), "7".encode("utf-16le")]
    assert list(batch.headers[0]) == [("own", b"\xff"), ("mark", expected[0]), ("n", expected[1])]


def test_a_value_that_the_header_converter_cannot_write_refuses_the_record_of_a_source(stage_maker: StageMaker) -> None:
    stages = stage_maker.source({**INSERT, "header.converter": "ByteArrayConverter"})
    made = stages.encode(SourceBatch("t", [{"n": 7}, {"n": 8}]))

    assert [failure.offset for failure in made.failures] == [0, 1]
    assert {failure.error.message for failure in made.failures} == {
        "header 'mark' cannot be written: Invalid schema type for ByteArrayConverter: FLOAT32"
    }


@pytest.mark.parametrize("converter", ["SimpleHeaderConverter", "StringConverter", "ByteArrayConverter"])
def test_a_sink_passes_the_bytes_of_texts_on_untouched(stage_maker: StageMaker, converter: str) -> None:
    given = [[("a", b"1.50"), ("b", b"\xff"), ("c", None)], ()]
    batch_read = consumed([VALUE, VALUE], given)
    (batch,), failures = stage_maker.sink({"header.converter": converter}).decode(batch_read)

    assert not failures
    assert batch.headers[0] is batch_read.headers[0]


def test_a_sink_adds_texts_whatever_its_header_converter_is(stage_maker: StageMaker) -> None:
    (batch,), _ = stage_maker.sink({**INSERT, "header.converter": "ByteArrayConverter"}).decode(consumed([VALUE]))
    assert list(batch.headers[0]) == [("mark", b"1.5"), ("n", b"7")]


@pytest.mark.parametrize(
    ("converter", "given", "text"),
    [
        ({"header.converter": "LongConverter"}, struct.pack(">q", 4711), b"4711"),
        ({"header.converter": "DoubleConverter"}, struct.pack(">d", 1e7), b"1.0E7"),
        ({"header.converter": "BooleanConverter"}, b"\x01", b"true"),
        ({"header.converter": "JsonConverter", "header.converter.schemas.enable": "false"}, b'"eu"', b"eu"),
        ({"header.converter": "JsonConverter"}, b'{"schema":{"type":"string"},"payload":"eu"}', b"eu"),
        ({"header.converter": "StringConverter", "header.converter.converter.encoding": "UTF-16LE"}, b"e\0u\0", b"eu"),
    ],
)
def test_a_sink_gets_texts_of_headers_in_another_form(
    stage_maker: StageMaker, converter: dict[str, str], given: bytes, text: bytes
) -> None:
    rows: list[Headers] = [[("h", given), (HOPS, b"1"), ("none", None)], ()]
    (batch,), failures = stage_maker.sink(converter).decode(consumed([VALUE, VALUE], rows))

    assert not failures
    assert [list(headers) for headers in batch.headers] == [[("h", text), (HOPS, b"1"), ("none", None)], []]


def test_a_header_that_cannot_be_read_refuses_its_record_alone(stage_maker: StageMaker) -> None:
    rows: list[Headers] = [[("h", struct.pack(">q", 1))], [("h", b"five")], [("h", struct.pack(">q", 3))]]
    batches, failures = stage_maker.sink({"header.converter": "LongConverter"}).decode(consumed([VALUE] * 3, rows))

    assert [(batch.offsets, [dict(headers) for headers in batch.headers]) for batch in batches] == [
        ([100, 102], [{"h": b"1"}, {"h": b"3"}])
    ]
    (failure,) = failures
    assert (failure.stage, failure.offset) == (Stage.HEADER_CONVERTER, 101)
    assert failure.error.message == "LongConverter reads 8 bytes, and found 4"


def test_a_transform_of_a_source_reads_headers_by_the_header_converter(stage_maker: StageMaker) -> None:
    stages = stage_maker.source(
        {
            "header.converter": "JsonConverter",
            "transforms": "topic",
            "transforms.topic.type": "io.confluent.connect.transforms.ExtractTopic$Header",
            "transforms.topic.field": "to",
        }
    )
    envelope = b'{"schema":{"type":"string"},"payload":"elsewhere"}'
    made = stages.encode(SourceBatch("t", [{"n": 7}], headers=[[("to", envelope)]]))

    assert [batch.topic for batch in made.batches] == ["elsewhere"]


def test_the_header_converter_of_the_worker_is_the_default(stage_maker: StageMaker) -> None:
    worker = {
        "bootstrap.servers": "b:1",
        "header.converter": "JsonConverter",
        "header.converter.schemas.enable": "true",
    }
    settings, findings = stage_maker.validator.worker(worker)
    assert settings is not None
    assert not findings
    maker = StageMaker(settings)
    (batch,) = maker.source(INSERT).encode(SourceBatch("t", [{"n": 7}])).batches

    assert batch.headers is not None
    assert dict(batch.headers[0])["n"] == b'{"schema":null,"payload":7}'


def test_an_unknown_header_converter_is_an_error(stage_maker: StageMaker) -> None:
    _, findings = stage_maker.validator.connector(
        {"name": "s", "connector.class": "ConsoleSink", "topics": "t", "header.converter": "StringConvertor"}
    )
    (finding,) = [item for item in findings if item.severity == "error"]
    assert (finding.key, finding.code) == ("header.converter", "plugin.unknown")
    assert "StringConverter" in finding.hint


HEADER_TEXTS = st.binary(max_size=40) | st.text(st.sampled_from('[]{},:"\\ 0159.eE+-truefalsnTZ')).map(str.encode)
"""Bytes of any kind, and texts that look like numbers, times, lists and maps."""


@pytest.mark.parametrize("plugin", Registry().plugins(PluginKind.HEADER_CONVERTER), ids=lambda plugin: plugin.name)
@given(value=HEADER_TEXTS)
def test_bytes_of_any_kind_are_a_value_or_a_refused_header(plugin: Plugin, value: bytes) -> None:
    converter, texts = plugin.cls(), SimpleHeaderConverter()
    converter.configure({}, is_key=False)
    with suppress(DataError):  # no other error may be raised
        for run in converter.from_bytes("t", [value], [()]):
            texts.to_bytes("t", run.schema, run.values)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 5_000, '{"a":' * 5_000, "[" * 200 + "]" * 200, "{[1]:2}", "{{}:1}"]
)
def test_texts_that_python_cannot_hold_as_lists_and_maps_stay_texts(text: str) -> None:
    assert parse_text(text) == (schemas.STRING, text)


@pytest.mark.parametrize("key", ["key.converter", "value.converter"])
def test_the_converter_of_headers_converts_no_records(stage_maker: StageMaker, key: str) -> None:
    _, findings = stage_maker.validator.connector(
        {"name": "s", "connector.class": "ConsoleSink", "topics": "t", key: f"{STORAGE}SimpleHeaderConverter"}
    )
    assert [item.key for item in findings if item.severity == "error"] == [key]
