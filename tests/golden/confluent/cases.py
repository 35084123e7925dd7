"""Schemas that Confluent's converters and headrace's translate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from headrace import Schema, Type
from headrace import schema as s
from headrace.converters.json_schemas import schema_to_json
from headrace.schema import Field


class SchemaCase(NamedTuple):
    """A schema of Connect that is written, or a text that is read."""

    format: str
    config: dict[str, str]
    connect: Schema | None = None
    text: str = ""

    def request(self) -> dict[str, Any]:
        """Return what the reference is given."""
        given: dict[str, Any] = {"format": self.format, "config": self.config}
        return given | ({"text": self.text} if self.connect is None else {"connect": schema_to_json(self.connect)})


SIMPLE = [s.BOOLEAN, s.INT8, s.INT16, s.INT32, s.INT64, s.FLOAT32, s.FLOAT64, s.STRING, s.BYTES]
LOGICAL = [s.DATE_SCHEMA, s.TIME_SCHEMA, s.TIMESTAMP_SCHEMA, s.decimal(2), s.decimal(4, 12)]
NAMED = s.struct({"ok": s.BOOLEAN}, name="com.example.Sub")
FIELDS = {f"f{place}": schema for place, schema in enumerate([*SIMPLE, *LOGICAL])}
STRUCTS = [
    s.struct(FIELDS, name="com.example.Row"),
    s.struct({name: schema.as_optional() for name, schema in FIELDS.items()}, name="com.example.Row"),
    s.struct({"a": s.INT64}),
    s.struct({"sub": NAMED, "maybe": NAMED.as_optional(), "list": s.array(NAMED)}, name="Row"),
    s.struct({"sub": s.struct({"x": s.STRING}), "other": s.struct({"y": s.STRING})}),
    s.struct({"list": s.array(s.STRING), "map": s.mapping(s.STRING, s.INT64)}, name="Row"),
    s.struct({"by_number": s.mapping(s.INT32, s.STRING)}, name="Row"),
    Schema(Type.STRUCT, name="Row", version=3, doc="a row", fields=(Field("a", s.STRING),), parameters=(("k", "v"),)),
    s.struct({"a": Schema(Type.STRING, optional=True, doc="text", version=2, parameters=(("k", "v"),))}, name="Row"),
]
WITH_DEFAULTS = [
    s.struct({"a": replace(s.STRING, default="x"), "b": Schema(Type.INT32, optional=True, default=7)}, name="Row"),
    s.struct({"a": replace(s.BOOLEAN, default=False), "b": replace(s.FLOAT64, default=0.5)}, name="Row"),
]


def _record(field: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [field]}


TEXTS = {
    "avro": [
        {"type": "record", "name": "R", "namespace": "n", "fields": [{"name": "a", "type": ["null", "string"]}]},
        {"type": "record", "name": "R", "fields": [{"name": "u", "type": ["int", "string", "null"]}]},
        {
            "type": "record",
            "name": "R",
            "fields": [{"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A"]}}],
        },
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "fixed", "name": "F", "size": 4}}]},
        {"type": "array", "items": {"type": "map", "values": "long"}},
        {"type": "record", "name": "R", "doc": "D", "fields": [{"name": "a", "type": "int", "default": 3, "doc": "d"}]},
        {
            "type": "record",
            "name": "R",
            "fields": [{"name": "d", "type": {"type": "long", "logicalType": "timestamp-micros"}}],
        },
    ],
    "json": [
        {"type": "integer"},
        {"type": ["null", "number"]},
        {"type": "string", "enum": ["a", "b"], "title": "E"},
        {"enum": ["a", None, 3]},
        {"const": "x"},
        {"type": "object", "properties": {"a": {"type": "string", "default": "x", "description": "D"}}, "title": "R"},
        {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]},
        {
            "allOf": [{"$ref": "#/definitions/a"}],
            "definitions": {"a": {"type": "object", "properties": {"x": {"type": "number"}}}},
        },
        {"type": "array", "items": {"$ref": "#/definitions/a"}, "definitions": {"a": {"type": "string", "title": "A"}}},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "null"}, {"type": "string"}]}}, "required": ["a"]},
        {"type": "object", "connect.type": "map", "additionalProperties": {"type": "integer", "connect.type": "int16"}},
    ],
}
PROTOS = [
    "message M { int32 a = 1; sint64 b = 2; fixed32 c = 3; uint64 d = 4; bytes e = 5; float f = 6; }",
    "message M { optional string a = 1; repeated int32 b = 3; map<string, int64> my_map = 5; }",
    "message M { oneof choice { string a = 1; int32 b = 2; } bool c = 3; enum E { X = 0; Y = 4; } E e = 6; }",
    "message M { message N { string s = 1; } repeated N ns = 2; map<int32, N> by_id = 3; }",
    'import "google/protobuf/timestamp.proto"; import "google/type/date.proto"; '
    'import "google/protobuf/wrappers.proto"; '
    "message M { google.protobuf.Timestamp t = 1; google.type.Date d = 2; google.protobuf.StringValue w = 3; }",
]


def cases() -> Iterator[SchemaCase]:
    """Yield all cases, in the order of the recorded answers."""
    for kind in ("avro", "json", "protobuf"):
        roots = [*SIMPLE, *LOGICAL] if kind != "protobuf" else SIMPLE
        for schema in (*roots, *STRUCTS, *(WITH_DEFAULTS if kind != "protobuf" else ())):
            yield SchemaCase(kind, {}, schema)
    for text in TEXTS["avro"]:
        for enhanced in ("false", "true"):
            yield SchemaCase("avro", {"enhanced.avro.schema.support": enhanced}, text=json.dumps(text))
    for text in TEXTS["json"]:
        yield SchemaCase("json", {}, text=json.dumps(text))
        yield SchemaCase("json", {"use.optional.for.nonrequired": "true"}, text=json.dumps(text))
    for schema in STRUCTS[:4]:
        yield SchemaCase("json", {"decimal.format": "NUMERIC", "object.additional.properties": "false"}, schema)
        for key in ("optional.for.nullables", "wrapper.for.nullables"):
            yield SchemaCase("protobuf", {key: "true"}, schema)
    keys = ["enhanced.protobuf.schema.support", "optional.for.nullables", "wrapper.for.nullables", "int.for.enums"]
    for body in PROTOS:
        text = f'syntax = "proto3"; package com.example; {body}'
        for key in ("", *keys, "flatten.unions"):
            yield SchemaCase("protobuf", {key: "true"} if key else {}, text=text)
