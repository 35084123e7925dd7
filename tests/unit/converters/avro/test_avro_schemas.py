"""Schemas are translated as Connect's AvroData does, in both directions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from headrace import DataError, Schema, Type
from headrace import schema as s
from headrace.converters.avro.avro_types import parse_avro
from headrace.converters.avro.from_connect import AvroSchemas
from headrace.converters.avro.to_connect import ConnectSchemas
from headrace.schema import Field

DATA = "org.apache.kafka.connect.data."
AVRO = "io.confluent.connect.avro."


def to_avro(schema: Schema, **options: bool) -> Any:
    given = {"enhanced": False, "meta_data": True, "scrub_names": False, "optional_map_keys": False} | options
    return AvroSchemas(**given).translate(schema)


def to_connect(written: Any, references: tuple[str, ...] = (), *, enhanced: bool = False, meta: bool = True) -> Schema:
    described = parse_avro(orjson.dumps(written).decode(), references)
    return ConnectSchemas(enhanced=enhanced, meta_data=meta).translate(described)


def logical(kind: str, name: str, logical_type: str) -> dict[str, Any]:
    return {"type": kind, "connect.version": 1, "connect.name": DATA + name, "logicalType": logical_type}


BOTH_WAYS: list[tuple[Schema, Any]] = [
    (s.BOOLEAN, "boolean"),
    (s.INT8, {"type": "int", "connect.type": "int8"}),
    (s.INT16, {"type": "int", "connect.type": "int16"}),
    (s.INT32, "int"),
    (s.INT64, "long"),
    (s.FLOAT32, "float"),
    (s.FLOAT64, "double"),
    (s.STRING, "string"),
    (s.BYTES, "bytes"),
    (s.STRING.as_optional(), ["null", "string"]),
    (s.DATE_SCHEMA, logical("int", "Date", "date")),
    (s.TIME_SCHEMA, logical("int", "Time", "time-millis")),
    (s.TIMESTAMP_SCHEMA, logical("long", "Timestamp", "timestamp-millis")),
    (
        s.decimal(2, 10),
        {
            **logical("bytes", "Decimal", "decimal"),
            "scale": 2,
            "precision": 10,
            "connect.parameters": {"scale": "2", "connect.decimal.precision": "10"},
        },
    ),
    (
        s.decimal(2),
        {
            **logical("bytes", "Decimal", "decimal"),
            "scale": 2,
            "precision": 64,
            "connect.parameters": {"scale": "2"},
        },
    ),
    (s.array(s.INT64), {"type": "array", "items": "long"}),
    (s.mapping(s.STRING, s.INT64), {"type": "map", "values": "long"}),
    (
        s.mapping(s.INT32, s.STRING.as_optional()),
        {
            "type": "array",
            "items": {
                "type": "record",
                "name": f"{AVRO}MapEntry",
                "fields": [
                    {"name": "key", "type": "int"},
                    {"name": "value", "type": ["null", "string"], "default": None},
                ],
            },
        },
    ),
    (
        s.struct({"id": s.INT64, "n": s.STRING.as_optional()}, name="com.example.Row"),
        {
            "type": "record",
            "name": "com.example.Row",
            "fields": [{"name": "id", "type": "long"}, {"name": "n", "type": ["null", "string"], "default": None}],
            "connect.name": "com.example.Row",
        },
    ),
    (
        s.struct({"a": s.struct({"x": s.INT32}), "b": s.struct({"y": s.INT32}), "c": s.struct({"x": s.INT32})}),
        {
            "type": "record",
            "name": f"{AVRO}ConnectDefault",
            "fields": [
                {
                    "name": "a",
                    "type": {
                        "type": "record",
                        "name": f"{AVRO}ConnectDefault2",
                        "fields": [{"name": "x", "type": "int"}],
                    },
                },
                {
                    "name": "b",
                    "type": {
                        "type": "record",
                        "name": f"{AVRO}ConnectDefault3",
                        "fields": [{"name": "y", "type": "int"}],
                    },
                },
                {"name": "c", "type": f"{AVRO}ConnectDefault2"},
            ],
        },
    ),
    (
        Schema(Type.INT32, name="N", version=3, doc="d", parameters=(("p", "v"), ("avro.java", "x")), default=7),
        {
            "type": "int",
            "connect.doc": "d",
            "connect.version": 3,
            "connect.parameters": {"p": "v", "avro.java": "x"},
            "connect.default": 7,
            "connect.name": "N",
            "avro.java": "x",
        },
    ),
    (
        Schema(Type.STRING, optional=True, default="x"),
        [{"type": "string", "connect.default": "x"}, "null"],
    ),
    (
        Schema(
            Type.STRUCT,
            optional=True,
            name=f"{AVRO}Union",
            fields=(Field("int", s.INT32.as_optional()), Field("string", s.STRING.as_optional())),
        ),
        ["null", "int", "string"],
    ),
]


@pytest.mark.parametrize(("schema", "written"), BOTH_WAYS)
def test_schemas_are_translated_in_both_directions(schema: Schema, written: Any) -> None:
    assert to_avro(schema) == written
    assert to_connect(written) == schema


def test_a_default_of_a_field_is_written_for_avro_and_for_connect() -> None:
    schema = s.struct({"b": Schema(Type.BYTES, default=b"\xff"), "d": Schema(Type.INT32, optional=True, default=1)})
    written = to_avro(schema)
    assert written["fields"] == [
        {"name": "b", "type": {"type": "bytes", "connect.default": "ÿ"}, "default": "ÿ"},
        {"name": "d", "type": [{"type": "int", "connect.default": 1}, "null"], "default": 1},
    ]
    assert to_connect(written) == schema


def test_a_default_of_avro_alone_is_marked_and_written_back_as_it_was() -> None:
    written = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "default": 5}]}
    schema = to_connect(written)
    assert schema.by_name["a"] == Schema(Type.INT32, default=5, parameters=((f"{AVRO}field.default", "true"),))
    assert to_avro(schema) == {**written, "connect.name": "R"}


SUIT = {"type": "enum", "name": "a.Suit", "doc": "of cards", "symbols": ["S", "H"], "default": "S"}


def test_an_enum_is_a_text_and_with_enhanced_support_an_enum_again() -> None:
    schema = to_connect(SUIT)
    assert (schema.type, schema.name) == (Type.STRING, "a.Suit")
    assert dict(schema.parameters) == {
        f"{AVRO}enum.doc.Suit": "of cards",
        f"{AVRO}enum.default.Suit": "S",
        f"{AVRO}Enum": "a.Suit",
        f"{AVRO}Enum.S": "S",
        f"{AVRO}Enum.H": "H",
    }
    assert to_avro(schema)["type"] == "string"
    again = to_avro(schema, enhanced=True)
    assert {name: again[name] for name in SUIT} == SUIT


def test_documentation_of_records_and_fields_is_kept() -> None:
    written = {"type": "record", "name": "R", "doc": "r", "fields": [{"name": "a", "type": "int", "doc": "f"}]}
    schema = to_connect(written)
    assert dict(schema.parameters) == {f"{AVRO}record.doc": "r", f"{AVRO}field.doc.a": "f"}
    again = to_avro(schema)
    assert (again["doc"], again["fields"]) == ("r", written["fields"])
    assert to_connect(written, meta=False) == Schema(Type.STRUCT, name="R", fields=(Field("a", s.INT32),))


def test_a_fixed_is_bytes_of_its_size() -> None:
    written = {"type": "fixed", "name": "a.Hash", "size": 16}
    schema = to_connect(written)
    assert schema == Schema(Type.BYTES, name="a.Hash", parameters=(("connect.fixed.size", "16"),))
    assert {name: to_avro(schema)[name] for name in written} == written


@pytest.mark.parametrize("kind", ["timestamp-micros", "local-timestamp-millis"])
def test_logical_types_that_connect_does_not_have_stay_numbers(kind: str) -> None:
    assert to_connect({"type": "long", "logicalType": kind}) == s.INT64


@pytest.mark.parametrize(
    ("enhanced", "names"), [(False, ["string", "P", "fixed"]), (True, ["string", "a.b.P", "fixed"])]
)
def test_members_of_a_union_are_named_as_avro_data_names_them(enhanced: bool, names: list[str]) -> None:
    record = {"type": "record", "name": "P", "namespace": "a.b", "fields": [{"name": "x", "type": "int"}]}
    schema = to_connect(["string", record], enhanced=enhanced)
    assert [field.name for field in schema.fields] == names[:2]
    assert not schema.optional
    assert all(field.schema.optional for field in schema.fields)


def test_names_are_resolved_in_their_namespaces_and_in_references() -> None:
    point = '{"type": "record", "name": "geo.Point", "fields": [{"name": "x", "type": "int"}]}'
    line = {
        "type": "record",
        "name": "Line",
        "namespace": "geo",
        "fields": [{"name": "a", "type": "Point"}, {"name": "b", "type": "geo.Point"}],
    }
    schema = to_connect(line, (point,))
    assert schema.name == "geo.Line"
    assert schema.by_name["a"] == schema.by_name["b"] == s.struct({"x": s.INT32}, name="geo.Point")


def in_record(field: str) -> str:
    return '{"type": "record", "name": "R", "fields": [' + field + "]}"


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("{", "avro.invalid_schema"),
        ("7", "avro.invalid_schema"),
        ('{"type": "recrod"}', "avro.invalid_schema"),
        ('{"type": "record", "name": "R"}', "avro.invalid_schema"),
        ('{"type": "record", "name": "1", "fields": []}', "avro.invalid_schema"),
        ('{"type": "enum", "name": "E", "symbols": []}', "avro.invalid_schema"),
        ('{"type": "fixed", "name": "F", "size": -1}', "avro.invalid_schema"),
        ('{"type": "array"}', "avro.invalid_schema"),
        ('["string", "string"]', "avro.invalid_schema"),
        ('[["null", "string"]]', "avro.invalid_schema"),
        ("[]", "avro.invalid_schema"),
        ('{"type": "int", "connect.parameters": 5}', "avro.invalid_schema"),
        ('{"type": "bytes", "logicalType": "decimal", "scale": "x"}', "avro.invalid_schema"),
        (in_record('{"name": "a", "type": "int", "default": "x"}'), "avro.invalid_schema"),
        ('"null"', "avro.null_type"),
        (in_record('{"name": "next", "type": ["null", "R"]}'), "avro.recursive_schema"),
        # Ten bytes of such an array would be billions of items.
        ('{"type": "array", "items": {"type": "record", "name": "R", "fields": []}}', "avro.invalid_schema"),
        ('{"type": "array", "items": ' * 5000 + '"int"' + "}" * 5000, "avro.invalid_schema"),
        (
            '[{"type": "fixed", "name": "a.F", "size": 1}, {"type": "fixed", "name": "b.F", "size": 1}]',
            "avro.ambiguous_union",
        ),
    ],
)
def test_schemas_that_cannot_be_used_are_refused(written: str, code: str) -> None:
    with pytest.raises(DataError) as caught:
        ConnectSchemas(enhanced=False, meta_data=True).translate(parse_avro(written))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        (s.struct({"a b": s.INT32}), "avro.invalid_name"),
        (s.struct({"a": s.INT32}, name="com.9"), "avro.invalid_name"),
        (
            s.struct({"a": s.struct({"x": s.INT32}, name="R"), "b": s.struct({"y": s.INT32}, name="R")}),
            "avro.duplicate_name",
        ),
        (Schema(Type.ARRAY), "avro.invalid_schema"),
        (Schema(Type.BYTES, name=f"{DATA}Decimal"), "avro.invalid_schema"),
        (Schema(Type.INT32, default="x"), "avro.invalid_schema"),
    ],
)
def test_schemas_that_avro_cannot_express_are_refused(schema: Schema, code: str) -> None:
    with pytest.raises(DataError) as caught:
        to_avro(schema)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "scrubbed"), [("a b", "a_b"), ("größe", "gr_C3_B6_C3_9Fe"), ("1st", "x1st"), ("a-b.c", "a_b_c"), ("", "x")]
)
def test_names_are_scrubbed_as_avro_data_scrubs_them(name: str, scrubbed: str) -> None:
    (field,) = to_avro(s.struct({name: s.INT32}), scrub_names=True)["fields"]
    assert field["name"] == scrubbed


def test_two_fields_must_not_become_one() -> None:
    with pytest.raises(DataError, match="one name"):
        to_avro(s.struct({"a b": s.INT32, "a-b": s.INT32}), scrub_names=True)


def test_optional_map_keys_can_be_written_as_maps() -> None:
    schema = s.mapping(s.STRING.as_optional(), s.INT32)
    assert to_avro(schema)["type"] == "array"
    assert to_avro(schema, optional_map_keys=True) == {"type": "map", "values": "int"}
