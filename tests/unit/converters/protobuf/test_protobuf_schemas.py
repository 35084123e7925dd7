"""Schemas of Connect become files of Protobuf as ProtobufData writes them, and files are read as it reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace import DataError, Schema, Type
from headrace import schema as s
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.protobuf_format import ProtobufFormat
from headrace.converters.schema_registry.registry_client import SchemaReference, SchemaText
from headrace.schema import Field

P = "io.confluent.connect.protobuf"
TAG, ENUM, UNION, TYPE = f"{P}.Tag", f"{P}.Enum", f"{P}.Union", f"{P}.Type"


def protobuf_format(**options: str) -> ProtobufFormat:
    given = {name.replace("_", "."): value for name, value in options.items()}
    return ProtobufFormat(ProtobufConverterConfig.parse({"schema.registry.url": "http://r", **given}))


FORMAT = protobuf_format()


def connect(text: str, path: tuple[int, ...] = (0,), *references: tuple[str, str], **options: str) -> Schema:
    mine = protobuf_format(**options)
    named = tuple(SchemaReference(*reference) for reference in references)
    return mine.connect_schema(mine.parse(SchemaText(text, named), path))


def tagged(schema: Schema, tag: int) -> Schema:
    return replace(schema, optional=True, parameters=(*schema.parameters, (TAG, str(tag))))


def enum(name: str, **values: int) -> Schema:
    parameters = ((ENUM, name), *((f"{ENUM}.{symbol}", str(number)) for symbol, number in values.items()))
    return Schema(Type.STRING, name=name, parameters=parameters)


ROW = Schema(
    Type.STRUCT,
    name="com.example.Row",
    fields=(
        Field("id", s.INT64),
        Field("small", s.INT8.as_optional()),
        Field("price", s.decimal(2, 10)),
        Field("at", s.TIMESTAMP_SCHEMA.as_optional()),
        Field("day", s.DATE_SCHEMA),
        Field("tags", s.mapping(s.STRING, s.FLOAT64)),
        Field("list", s.array(s.INT32)),
        Field("suit", enum("Suit", HEARTS=1, SPADES=0)),
        Field("sub", s.struct({"ok": s.BOOLEAN}, name="com.other.Sub")),
        Field("no_name", s.struct({"ok": s.BOOLEAN})),
    ),
)
ROW_TEXT = """syntax = "proto3";
package com.example;

import "confluent/meta.proto";
import "confluent/type/decimal.proto";
import "google/protobuf/timestamp.proto";
import "google/type/date.proto";

message Row {
  int64 id = 1;
  int32 small = 2 [(confluent.field_meta) = { params: [{ key: "connect.type", value: "int8" }] }];
  confluent.type.Decimal price = 3 [(confluent.field_meta) = { params: [DECIMAL_PARAMS] }];
  google.protobuf.Timestamp at = 4;
  google.type.Date day = 5;
  repeated ConnectDefault1Entry tags = 6;
  repeated int32 list = 7;
  Suit suit = 8;
  Sub sub = 9;
  ConnectDefault2 no_name = 10;
  message ConnectDefault1Entry {
    string key = 1;
    double value = 2;
  }
  message Sub {
    bool ok = 1;
  }
  message ConnectDefault2 {
    bool ok = 1;
  }
  enum Suit {
    SPADES = 0;
    HEARTS = 1;
  }
}
""".replace("DECIMAL_PARAMS", '{ key: "precision", value: "10" }, { key: "scale", value: "2" }')


def test_a_schema_of_connect_is_written_as_a_file_of_proto3() -> None:
    own = FORMAT.own_schema(ROW)
    assert own.text == ROW_TEXT
    assert FORMAT.record_name(own.parsed) == "com.example.Row"
    assert FORMAT.path(own.parsed) == (0,)


def test_the_text_describes_the_same_message_as_the_bytes_are_written_with() -> None:
    own = FORMAT.own_schema(ROW)
    assert connect(own.text) == FORMAT.connect_schema(own.parsed)


def test_nullable_fields_are_optional_or_wrappers_when_configured() -> None:
    schema = s.struct({"a": s.STRING.as_optional(), "b": s.STRING, "c": s.INT64.as_optional()}, name="N")
    optional = protobuf_format(optional_for_nullables="true")
    assert "  optional string a = 1;\n  string b = 2;\n  optional int64 c = 3;" in optional.own_schema(schema).text
    wrapped = protobuf_format(wrapper_for_nullables="true")
    text = wrapped.own_schema(schema).text
    assert "  google.protobuf.StringValue a = 1;\n  string b = 2;\n  google.protobuf.Int64Value c = 3;" in text
    for mine in (optional, wrapped):
        read = mine.connect_schema(mine.own_schema(schema).parsed)
        assert [field.schema.optional for field in read.fields] == [True, False, True]


FILE = """
syntax = "proto3";
package com.example;
import "google/protobuf/wrappers.proto";
import "google/type/timeofday.proto";
message First { string a = 1; }
message Second {
  message Inner { uint32 n = 4; }
  oneof choice { string text = 1; Inner inner = 2; }
  map<int32, Inner> my_map = 3;
  optional sint64 maybe = 5;
  google.protobuf.StringValue wrapped = 6;
  google.type.TimeOfDay time = 7;
  repeated Suit suits = 8;
  enum Suit { S = 0; H = 1; }
}
"""


def test_a_message_of_another_producer_is_read_as_protobuf_data_reads_it() -> None:
    inner = Schema(
        Type.STRUCT,
        name="Inner",
        fields=(Field("n", Schema(Type.INT64, optional=True, parameters=((TYPE, "uint32"), (TAG, "4")))),),
    )
    choice = Schema(
        Type.STRUCT,
        name=f"{UNION}.choice",
        optional=True,
        fields=(Field("text", tagged(s.STRING, 1)), Field("inner", tagged(inner, 2))),
    )
    suit = enum("Suit", S=0, H=1).as_optional()
    my_map = Schema(Type.MAP, name="my_map", keys=tagged(s.INT32, 1), items=tagged(inner, 2))
    assert connect(FILE, (1,)) == Schema(
        Type.STRUCT,
        name="Second",
        fields=(
            Field("choice_0", choice),
            Field("my_map", tagged(my_map, 3)),
            Field("maybe", Schema(Type.INT64, optional=True, parameters=((TYPE, "sint64"), (TAG, "5")))),
            Field("wrapped", tagged(s.STRING, 6)),
            Field("time", tagged(s.TIME_SCHEMA, 7)),
            Field("suits", tagged(s.array(suit), 8)),
        ),
    )
    assert connect(FILE, (1, 0)) == inner
    assert connect(FILE, (1, 0), enhanced_protobuf_schema_support="true").name == "com.example.Second.Inner"


def test_unions_enums_and_wrappers_are_read_as_configured() -> None:
    flat = connect(FILE, (1,), flatten_unions="true", int_for_enums="true", wrapper_for_raw_primitives="false").by_name
    assert list(flat)[:2] == ["text", "inner"]
    assert list(flat["wrapped"].by_name) == ["value"]
    suits = flat["suits"].items
    assert suits is not None
    assert suits.type is Type.INT32
    assert "choice" in connect(FILE, (1,), generate_index_for_unions="false").by_name


def test_a_file_of_kafka_connect_is_read_though_it_does_not_import_its_options() -> None:
    option = '[(confluent.field_meta) = { params: [{ key: "connect.type", value: "int8" }] }]'
    text = f'syntax = "proto3"; message M {{ int32 a = 1 {option}; }}'
    assert connect(text).by_name["a"].type is Type.INT8


def test_imports_are_references_or_known_types() -> None:
    main = 'syntax = "proto3"; import "a/b.proto"; import "google/type/money.proto"; '
    main += "message M { x.B b = 1; google.type.Money price = 2; }"
    b = 'syntax = "proto3"; package x; import "c.proto"; message B { C c = 1; }'
    c = 'syntax = "proto3"; package x; message C { string s = 1; }'
    read = connect(main, (0,), ("c.proto", c), ("a/b.proto", b))
    assert list(read.by_name["b"].by_name["c"].by_name) == ["s"]
    assert list(read.by_name["price"].by_name) == ["currency_code", "units", "nanos"]


def test_proto2_has_optional_fields() -> None:
    text = 'syntax = "proto2"; message M { required int32 a = 1; optional int32 b = 2 [default = 5]; }'
    assert [field.schema.optional for field in connect(text, optional_for_nullables="true").fields] == [False, True]


@pytest.mark.parametrize(
    ("text", "path", "code"),
    [
        ('syntax = "proto3"; message A { A a = 1; }', (0,), "protobuf.recursive_schema"),
        ('syntax = "proto3"; message A { int32 a = 1; ', (0,), "protobuf.invalid_schema"),
        ('syntax = "proto3"; import "none.proto"; message A { int32 a = 1; }', (0,), "protobuf.invalid_schema"),
        ('syntax = "proto3"; message A { int32 a = 1; }', (1,), "protobuf.invalid_schema"),
        ('syntax = "proto3"; message A { int32 a = 1; }', (0, 0), "protobuf.invalid_schema"),
        ('syntax = "proto3";', (0,), "protobuf.invalid_schema"),
    ],
)
def test_a_file_that_connect_cannot_express_is_refused(text: str, path: tuple[int, ...], code: str) -> None:
    with pytest.raises(DataError) as caught:
        connect(text, path)
    assert caught.value.code == code


def test_an_imported_file_cannot_leave_its_folder() -> None:
    with pytest.raises(DataError, match="no name of an imported file"):
        connect('syntax = "proto3"; message A { int32 a = 1; }', (0,), ("../a.proto", ""))


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        (s.array(s.STRING), "protobuf.no_message"),
        (s.TIMESTAMP_SCHEMA, "protobuf.no_message"),
        (s.struct({"a": s.array(s.array(s.STRING))}), "protobuf.nested_list"),
        (s.struct({"a": s.mapping(s.FLOAT64, s.STRING)}), "protobuf.nested_list"),
        (s.struct({"a-b": s.STRING}), "protobuf.invalid_name"),
        (
            s.struct({"a": s.struct({"x": s.STRING}, name="S"), "b": s.struct({"y": s.STRING}, name="S")}),
            "protobuf.duplicate_name",
        ),
    ],
)
def test_a_schema_that_protobuf_cannot_express_is_refused(schema: Schema, code: str) -> None:
    with pytest.raises(DataError) as caught:
        FORMAT.own_schema(schema)
    assert caught.value.code == code


def test_names_that_protobuf_does_not_allow_are_replaced_when_configured() -> None:
    mine = protobuf_format(scrub_invalid_names="true")
    own = mine.own_schema(s.struct({"a-b c": s.STRING, "1st": s.STRING, "_x": s.STRING}, name="my-app.Row"))
    assert "package my_app;" in own.text
    assert [field.name for field in own.parsed.descriptor.fields] == ["a_b_c", "x1st", "x_x"]
