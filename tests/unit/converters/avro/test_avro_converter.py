"""The Avro converter with a registry: what it asks for, under which names, and what it refuses."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from headrace import ConfigError, DataError, Schema, TaskError, Type
from headrace import schema as s
from headrace.converters.avro.avro_types import parse_avro
from headrace.converters.avro.configuration import AvroConverterConfig
from headrace.converters.avro.to_connect import ConnectSchemas
from headrace.registry import PluginKind, Registry
from tests.unit.converters.schema_registry.converters import avro_converter, read_one
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry

ROW = s.struct({"id": s.INT64, "n": s.STRING.as_optional()}, name="shop.Row")
RECORD = {"type": "record", "name": "shop.Row", "fields": [{"name": "id", "type": "long"}]}
WITH_NAME = {**RECORD, "fields": [*RECORD["fields"], {"name": "n", "type": ["null", "string"], "default": None}]}
"""The schema of ROW, written by hand."""
FIXED_SCHEMAS = {"auto_register_schemas": "false"}
LATEST = {**FIXED_SCHEMAS, "use_latest_version": "true"}


def test_the_jvms_class_name_selects_it() -> None:
    found = Registry().find(PluginKind.CONVERTER, "io.confluent.connect.avro.AvroConverter")
    assert found.name == "AvroConverter"


def test_records_have_the_id_of_their_schema_before_the_value(registry: FakeSchemaRegistry) -> None:
    with avro_converter(registry) as converter:
        rows = [{"id": 1, "n": None}, None, {"id": -1, "n": "x"}]
        texts = converter.to_bytes("wire", ROW, rows)
        head = b"\x00" + registry.subjects["wire-value"][0].to_bytes(4, "big")
        assert texts == [head + b"\x02\x00", None, head + b"\x01\x02\x02x"]
        runs = converter.from_bytes("wire", texts)
    assert [(run.start, run.schema, list(run.values)) for run in runs] == [
        (0, ROW, rows[:1]),
        (1, None, [None]),
        (2, ROW, rows[2:]),
    ]


def test_a_schema_is_asked_for_once(registry: FakeSchemaRegistry) -> None:
    schema = s.struct({"id": s.INT64}, name="shop.Once")
    rows = [{"id": number} for number in range(50)]
    with avro_converter(registry) as converter:
        for _ in range(3):
            texts = converter.to_bytes("once", schema, rows)
            converter.from_bytes("once", texts)
    number = registry.subjects["once-value"][0]
    assert registry.requests.count("POST /subjects/once-value/versions") == 1
    assert registry.requests.count(f"GET /schemas/ids/{number}") == 1


def test_a_batch_of_nulls_needs_no_registry() -> None:
    with avro_converter("http://127.0.0.1:1") as converter:
        assert converter.to_bytes("t", ROW, [None, None]) == [None, None]
        (run,) = converter.from_bytes("t", [None, None])
    assert (run.schema, run.values) == (None, [None, None])


@pytest.mark.parametrize(
    ("strategy", "is_key", "subject"),
    [
        ("TopicNameStrategy", False, "topic-a-value"),
        ("io.confluent.kafka.serializers.subject.TopicNameStrategy", True, "topic-a-key"),
        ("RecordNameStrategy", False, "shop.Row"),
        ("io.confluent.kafka.serializers.subject.TopicRecordNameStrategy", True, "topic-a-shop.Row"),
    ],
)
def test_the_strategy_names_the_subject(
    registry: FakeSchemaRegistry, strategy: str, is_key: bool, subject: str
) -> None:
    option = {"key_subject_name_strategy" if is_key else "value_subject_name_strategy": strategy}
    with avro_converter(registry, is_key, **option) as converter:
        converter.to_bytes("topic-a", ROW.as_optional(), [{"id": 1, "n": None}])
    assert subject in registry.subjects


def test_a_record_strategy_refuses_what_is_no_record(registry: FakeSchemaRegistry) -> None:
    option = {"value_subject_name_strategy": "RecordNameStrategy"}
    with avro_converter(registry, **option) as converter, pytest.raises(DataError) as caught:
        converter.to_bytes("t", s.STRING, ["x"])
    assert caught.value.code == "schema_registry.no_record_name"


def test_a_schema_that_is_not_registered_fails_the_task(registry: FakeSchemaRegistry) -> None:
    with avro_converter(registry, **FIXED_SCHEMAS) as converter:
        with pytest.raises(TaskError) as caught:
            converter.to_bytes("unregistered", ROW, [{"id": 1, "n": None}])
        assert caught.value.code == "schema_registry.not_registered"
        assert "unregistered-value" in str(caught.value)
    assert "unregistered-value" not in registry.subjects


def test_a_schema_that_the_registry_refuses_fails_the_task(registry: FakeSchemaRegistry) -> None:
    """No record is skipped for it, whatever errors.tolerance says."""
    registry.incompatible.add("refused-value")
    with avro_converter(registry) as converter, pytest.raises(TaskError) as caught:
        converter.to_bytes("refused", ROW, [{"id": 1, "n": None}])
    assert caught.value.code == "schema_registry.incompatible"
    assert "incompatible" in str(caught.value)


def test_an_unknown_id_is_a_bad_record(registry: FakeSchemaRegistry) -> None:
    with avro_converter(registry) as converter:
        for _ in range(2):
            with pytest.raises(DataError) as caught:
                converter.from_bytes("t", [b"\x00\x00\x0f\xff\xff\x02"])
    assert caught.value.code == "schema_registry.unknown_id"
    assert registry.requests.count(f"GET /schemas/ids/{0xFFFFF}") == 1


@pytest.mark.parametrize("text", [b"", b"\x00", b"\x00\x00\x00\x00", b'{"a":1}', b"\x01\x00\x00\x00\x01\x02"])
def test_bytes_in_another_format_are_refused(registry: FakeSchemaRegistry, text: bytes) -> None:
    with avro_converter(registry) as converter, pytest.raises(DataError) as caught:
        converter.from_bytes("t", [text])
    assert caught.value.code == "schema_registry.wire_format"


def test_only_bad_records_of_a_batch_are_refused(registry: FakeSchemaRegistry) -> None:
    head = b"\x00" + registry.add("mixed-value", RECORD).to_bytes(4, "big")
    good = [head + bytes([2 * number]) for number in range(4)]
    texts = [good[0], b"{}", good[1], head, head + b"\x02\x02", good[2], b"\x00\xff\xff\xff\xff\x02", good[3], None]
    with avro_converter(registry) as converter:
        read: list[Any] = []
        for text in texts:
            try:
                read.append(read_one(converter, text)[1])
            except DataError as error:
                read.append(error.code)
    assert read == [
        {"id": 0},
        "schema_registry.wire_format",
        {"id": 1},
        "avro.unreadable",
        "avro.unreadable",
        {"id": 2},
        "schema_registry.unknown_id",
        {"id": 3},
        None,
    ]


def test_a_schema_of_another_type_is_refused(registry: FakeSchemaRegistry) -> None:
    number = registry.add("json-value", "{}", kind="JSON")
    with avro_converter(registry) as converter, pytest.raises(DataError, match="type JSON"):
        converter.from_bytes("t", [b"\x00" + number.to_bytes(4, "big") + b"\x02"])


def test_a_schema_can_refer_to_schemas_of_other_subjects(registry: FakeSchemaRegistry) -> None:
    def reference(name: str, subject: str) -> dict[str, Any]:
        return {"name": name, "subject": subject, "version": 1}

    def record(name: str, kind: str) -> dict[str, Any]:
        return {"type": "record", "name": name, "fields": [{"name": "x", "type": kind}]}

    registry.add("c", record("geo.C", "int"))
    registry.add("b", record("geo.B", "geo.C"), [reference("geo.C", "c")])
    number = registry.add("a-value", record("geo.A", "B"), [reference("geo.B", "b"), reference("geo.C", "c")])
    with avro_converter(registry) as converter:
        _, value = read_one(converter, b"\x00" + number.to_bytes(4, "big") + b"\x0a")
    assert value == {"x": {"x": {"x": 5}}}


def test_versions_of_a_schema_follow_each_other_in_a_topic(registry: FakeSchemaRegistry) -> None:
    old = b"\x00" + registry.add("evolving-value", RECORD).to_bytes(4, "big") + b"\x02"
    new = b"\x00" + registry.add("evolving-value", WITH_NAME).to_bytes(4, "big") + b"\x04\x02\x02a"
    with avro_converter(registry) as converter:
        runs = converter.from_bytes("evolving", [old, new, new, old])
        assert [(run.start, list(run.values)) for run in runs] == [
            (0, [{"id": 1}]),
            (1, [{"id": 2, "n": "a"}] * 2),
            (3, [{"id": 1}]),
        ]
    with avro_converter(registry, **LATEST) as converter:
        runs = converter.from_bytes("evolving", [old, new, old])
        assert [value for run in runs for value in run.values] == [
            {"id": 1, "n": None},
            {"id": 2, "n": "a"},
            {"id": 1, "n": None},
        ]
        assert len({run.schema for run in runs}) == 1


def test_the_latest_version_is_written_and_followed(registry: FakeSchemaRegistry) -> None:
    first = registry.add("latest-value", WITH_NAME)
    with avro_converter(registry, **LATEST, latest_cache_ttl_sec="0") as converter:
        text = b"\x00" + first.to_bytes(4, "big") + b"\x02\x02\x02a"
        assert converter.to_bytes("latest", ROW, [{"id": 1, "n": "a"}]) == [text]
        assert converter.to_bytes("latest", None, [{"id": 1, "n": "a"}]) == [text]
        more = {**WITH_NAME, "fields": [*WITH_NAME["fields"], {"name": "z", "type": "int", "default": 9}]}
        second = registry.add("latest-value", more)
        text = b"\x00" + second.to_bytes(4, "big") + b"\x02\x02\x02a\x12"
        assert converter.to_bytes("latest", ROW, [{"id": 1, "n": "a"}]) == [text]
        assert converter.to_bytes("latest", None, [{"id": 1, "n": "a"}]) == [text]
    with avro_converter(registry, **LATEST) as converter:
        for _ in range(3):
            converter.to_bytes("latest", ROW, [{"id": 1, "n": "a"}])
    assert registry.requests.count("GET /subjects/latest-value/versions/latest") == 5


def test_a_field_that_the_latest_version_lacks_is_refused_or_left_out(registry: FakeSchemaRegistry) -> None:
    number = registry.add("narrow-value", RECORD)
    with avro_converter(registry, **LATEST) as converter, pytest.raises(DataError) as caught:
        converter.to_bytes("narrow", ROW, [{"id": 1, "n": "a"}])
    assert caught.value.code == "schema_registry.unknown_field"
    with avro_converter(registry, **LATEST, latest_compatibility_strict="false") as converter:
        (text,) = converter.to_bytes("narrow", ROW, [{"id": 1, "n": "a"}])
    assert text == b"\x00" + number.to_bytes(4, "big") + b"\x02"


def test_a_field_whose_type_differs_from_the_latest_version_is_named(registry: FakeSchemaRegistry) -> None:
    registry.add("other-value", WITH_NAME)
    other = s.struct({"id": s.STRING, "n": s.STRING.as_optional()}, name="shop.Row")
    with avro_converter(registry, **LATEST) as converter, pytest.raises(DataError) as caught:
        converter.to_bytes("other", other, [{"id": "secret", "n": None}])
    assert caught.value.code == "avro.unwritable"
    assert "field 'shop.Row.id'" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("value", "schema", "text"),
    [
        ("a", s.STRING, b"\x02a"),
        (5, s.INT64, b"\x0a"),
        (True, s.BOOLEAN, b"\x01"),
        (b"\xff", s.BYTES, b"\x02\xff"),
    ],
)
def test_simple_values_need_no_schema(registry: FakeSchemaRegistry, value: Any, schema: Schema, text: bytes) -> None:
    with avro_converter(registry, True) as converter:
        (written,) = converter.to_bytes(f"plain-{schema.type.value}", None, [value])
        assert written is not None
        assert written[5:] == text
        assert read_one(converter, written) == (schema, value)


@pytest.mark.parametrize("values", [[{"a": 1}], [[1]], [1, "a"]])
def test_other_values_without_a_schema_are_refused(registry: FakeSchemaRegistry, values: list[Any]) -> None:
    with avro_converter(registry) as converter, pytest.raises(DataError) as caught:
        converter.to_bytes("t", None, values)
    assert caught.value.code == "schema_registry.no_schema"


def test_names_are_scrubbed_in_rows_too(registry: FakeSchemaRegistry) -> None:
    schema = s.struct({"größe": s.INT32, "b": s.struct({"x y": s.INT32})})
    with avro_converter(registry, scrub_invalid_names="true") as converter:
        (text,) = converter.to_bytes("scrubbed", schema, [{"b": {"x y": 2}, "größe": 1}])
        assert read_one(converter, text)[1] == {"gr_C3_B6_C3_9Fe": 1, "b": {"x_y": 2}}


def test_a_text_of_an_enum_may_be_any_text_unless_enums_are_written(registry: FakeSchemaRegistry) -> None:
    """A transform may have changed it."""
    suit = parse_avro('{"type": "enum", "name": "Suit", "symbols": ["S", "H"]}')
    schema = ConnectSchemas(enhanced=True, meta_data=True).translate(suit)
    with avro_converter(registry) as converter:
        (text,) = converter.to_bytes("suits", schema, [""])
        assert read_one(converter, text)[1] == ""
    with avro_converter(registry, enhanced_avro_schema_support="true") as converter:
        (text,) = converter.to_bytes("enums", schema, ["H"])
        assert read_one(converter, text) == (schema, "H")
        with pytest.raises(DataError, match="no symbol"):
            converter.to_bytes("enums", schema, [""])


def test_defaults_of_optional_fields_can_be_ignored(registry: FakeSchemaRegistry) -> None:
    schema = s.struct({"a": Schema(Type.INT32, optional=True, default=7)})
    read = []
    for ignored in ("false", "true"):
        with avro_converter(registry, ignore_default_for_nullables=ignored) as converter:
            (text,) = converter.to_bytes("defaults", schema, [{"a": None}])
            read.append(read_one(converter, text)[1])
    assert read == [{"a": 7}, {"a": None}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"schema_registry_url": ""}, "schema.registry.url"),
        ({"schema_registry_url": "registry:8081"}, "http://"),
        ({"value_subject_name_strategy": "com.example.Mine"}, "TopicRecordNameStrategy"),
        ({"basic_auth_credentials_source": "USER_INFO"}, "user:password"),
        ({"basic_auth_credentials_source": "SASL_INHERIT"}, "USER_INFO"),
        ({"basic_auth_user_info": "a:b"}, "credentials.source"),
        ({"bearer_auth_token": "x"}, "need each other"),
        ({"schema_registry_ssl_truststore_type": "JKS"}, "PEM"),
        ({"use_schema_id": "5"}, "use.latest.version"),
        ({"auto_register_schema": "true"}, "auto.register.schemas"),
    ],
)
def test_wrong_configurations_say_what_is_wrong(options: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught, avro_converter("http://localhost:1", **options):
        pass
    assert says in str(caught.value)


def test_the_latest_version_is_only_read_while_schemas_are_registered(registry: FakeSchemaRegistry) -> None:
    registry.add("both-value", WITH_NAME)
    _, (finding,) = AvroConverterConfig.validate_properties(
        {"schema.registry.url": registry.url, "use.latest.version": "true"}
    )
    assert (finding.severity, finding.key) == ("warning", "use.latest.version")
    with avro_converter(registry, use_latest_version="true") as converter:
        (text,) = converter.to_bytes("both", s.struct({"id": s.INT64}, name="shop.Row"), [{"id": 1}])
        assert registry.text("both-value") == {**RECORD, "connect.name": "shop.Row"}
        registry.add("both-value", WITH_NAME | {"doc": "newer"})
    with avro_converter(registry, use_latest_version="true") as converter:
        assert read_one(converter, text, "both")[1] == {"id": 1, "n": None}


def test_a_missing_fastavro_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(ConfigError) as caught, avro_converter("http://localhost:1"):
        pass
    assert caught.value.code == "converter.missing_package"
    assert "pip install 'headrace[avro]'" in str(caught.value)
