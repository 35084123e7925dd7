"""Schemas are translated as Confluent's converters translate them (tests/golden/confluent)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from headrace.converters.avro.avro_format import AvroFormat
from headrace.converters.avro.configuration import AvroConverterConfig
from headrace.converters.json_schema.configuration import JsonSchemaConverterConfig
from headrace.converters.json_schema.json_schema_format import JsonSchemaFormat
from headrace.converters.json_schemas import schema_to_json
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.messages import ProtobufMessage
from headrace.converters.protobuf.protobuf_format import ProtobufFormat
from headrace.converters.schema_registry.registry_client import SchemaText
from headrace.converters.schema_registry.wire_format import FIRST_MESSAGE
from tests.golden.confluent.cases import SchemaCase, cases

ANSWERS = Path(__file__).parents[2] / "golden" / "confluent" / "answers.jsonl"
URL = {"schema.registry.url": "http://r"}


def made(case: SchemaCase) -> Any:
    if case.format == "avro":
        return AvroFormat(AvroConverterConfig.parse(URL | case.config))
    if case.format == "json":
        return JsonSchemaFormat(JsonSchemaConverterConfig.parse(URL | case.config))
    return ProtobufFormat(ProtobufConverterConfig.parse(URL | case.config))


@cache
def message(text: str, place: tuple[int, ...]) -> ProtobufMessage:
    return ProtobufFormat(ProtobufConverterConfig.parse(URL)).parse(SchemaText(text), place)


def plain(schema: Any, namespace: str = "") -> Any:
    """Return a schema in one form: names with namespaces, parts whose order has no meaning sorted."""
    if isinstance(schema, list):
        return [plain(item, namespace) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    if found.get("type") in ("record", "enum", "fixed"):
        full = found["name"]
        if "." not in full and (space := found.pop("namespace", namespace)):
            full = f"{space}.{full}"
        found["name"], namespace = full, full.rpartition(".")[0]
    found = {name: plain(part, namespace) for name, part in found.items()}
    if "oneOf" in found:
        found["oneOf"] = sorted(found["oneOf"], key=lambda part: json.dumps(part, sort_keys=True))
    return found


def by_name(schema: Any) -> Any:
    """Return a schema of Connect with its fields sorted: a hash table orders those of JSON Schema."""
    if isinstance(schema, list):
        return [by_name(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: by_name(part) for name, part in schema.items()}
    if "fields" in found:
        found["fields"] = sorted(found["fields"], key=lambda field: str(field["field"]))
    return found


def compared(case: SchemaCase, answer: Any) -> tuple[Any, Any]:
    """Return the result of ours and of theirs in one form."""
    mine = made(case)
    if case.connect is None:
        parsed = (
            message(case.text, FIRST_MESSAGE) if case.format == "protobuf" else mine.parse(SchemaText(case.text), ())
        )
        read = schema_to_json(mine.connect_schema(parsed))
        return (by_name(read), by_name(answer["connect"])) if case.format == "json" else (read, answer["connect"])
    own = mine.own_schema(case.connect)
    if case.format != "protobuf":
        return plain(json.loads(own.text)), plain(json.loads(answer["text"]))
    theirs = message(answer["text"], own.parsed.path)
    return (own.parsed.name, mine.connect_schema(own.parsed)), (theirs.name, mine.connect_schema(theirs))


@pytest.mark.parametrize("kind", ["avro", "json", "protobuf"])
def test_schemas_are_translated_as_confluents_converters_do(kind: str) -> None:
    answers = [json.loads(line) for line in ANSWERS.read_text(encoding="utf-8").splitlines()]
    pairs = [pair for pair in zip(cases(), answers, strict=True) if pair[0].format == kind]
    assert len(pairs) > 30
    for case, answer in pairs:
        ours, theirs = compared(case, answer)
        assert ours == theirs, case
