"""Cases as records of headrace, and answers in a form that can be compared. ``Transforms.java`` describes the form."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from headrace import Field, Record, Schema, Type
from headrace import schema as schemas
from headrace_transforms.header_texts import header_bytes
from headrace_transforms.java_numbers import single
from headrace_transforms.times import date_of, milliseconds_of, time_of, timestamp_of

FILES = ("answers.jsonl", "debezium.jsonl")
_TYPES = {kind.name.lower(): kind for kind in Type}
_LOGICAL = {"date": schemas.DATE_SCHEMA, "time": schemas.TIME_SCHEMA, "timestamp": schemas.TIMESTAMP_SCHEMA}
_READ = {schemas.DATE: date_of, schemas.TIME: time_of, schemas.TIMESTAMP: timestamp_of}
_WHOLE = ("Byte", "Short", "Integer", "Long", "BigInteger")
_REAL = ("Float", "Double")


class GoldenCase(NamedTuple):
    """A case and the answer of Kafka Connect."""

    id: str
    transform: str | None
    config: Mapping[str, str]
    predicate: str | None
    predicate_config: Mapping[str, str]
    negate: bool
    record: Mapping[str, Any]
    answer: Any

    @property
    def is_source(self) -> bool:
        return self.record.get("kind") == "source"


def golden_cases() -> Iterator[GoldenCase]:
    folder = Path(__file__).parent
    for line in (line for name in FILES for line in (folder / name).read_text(encoding="utf-8").splitlines()):
        case = json.loads(line)
        yield GoldenCase(
            case["id"],
            case.get("class"),
            case.get("config", {}),
            case.get("predicate"),
            case.get("predicateConfig", {}),
            case.get("negate", False),
            case["record"],
            case["out"],
        )


def record_of(case: GoldenCase) -> Record:
    """Return the record that the case is about."""
    given = case.record
    key_schema, value_schema = schema_of(given.get("keySchema")), schema_of(given.get("valueSchema"))
    headers = []
    for name, kind, value in given.get("headers", ()):
        described = schema_of(kind)
        headers.append((name, header_bytes(described, value_of(value, described))))
    return Record(
        given.get("topic", "t"),
        value_of(given.get("value"), value_schema),
        value_schema,
        value_of(given.get("key"), key_schema),
        key_schema,
        given.get("timestamp", 1_700_000_000_123),
        headers,
        None if case.is_source else given.get("partition", 0),
        None if case.is_source else 42,
    )


def schema_of(given: Any) -> Schema | None:
    if given is None:
        return None
    if isinstance(given, str):
        return _named(given.removesuffix("?"), optional=given.endswith("?"))
    made = _named(given["type"], optional=given.get("optional", False))
    parts: dict[str, Any] = {name: given[name] for name in ("name", "version", "doc") if name in given}
    if "params" in given:
        parts["parameters"] = tuple(given["params"].items())
    if made.type is Type.STRUCT:
        parts["fields"] = tuple(Field(name, _described(kind)) for name, kind in given["fields"].items())
    elif made.type is Type.ARRAY:
        parts["items"] = schema_of(given["items"])
    elif made.type is Type.MAP:
        parts["keys"], parts["items"] = schema_of(given["keys"]), schema_of(given["values"])
    made = Schema(**{**_fields(made), **parts})
    if "default" in given:
        made = Schema(**{**_fields(made), "default": value_of(given["default"], made)})
    return made


def _described(given: Any) -> Schema:
    schema = schema_of(given)
    assert schema is not None
    return schema


def _fields(schema: Schema) -> dict[str, Any]:
    names = ("type", "optional", "name", "version", "doc", "parameters", "default", "fields", "items", "keys")
    return {name: getattr(schema, name) for name in names}


def _named(name: str, *, optional: bool) -> Schema:
    if name.startswith("decimal("):
        made = schemas.decimal(int(name[8:-1]))
    else:
        made = _LOGICAL.get(name) or Schema(_TYPES[name])
    return made.as_optional() if optional else made


def value_of(given: Any, schema: Schema | None) -> Any:
    """Return a value of headrace."""
    if isinstance(given, dict):
        if len(given) == 1:
            ((kind, value),) = given.items()
            if kind in _WHOLE:
                return int(value)
            if kind in _REAL:
                return single(float(value)) if kind == "Float" else float(value)
            if kind in ("bytes", "ByteBuffer"):
                return b64decode(value)
            if kind == "Date":
                return _READ.get(schema.name or "" if schema else "", timestamp_of)(value)
            if kind == "BigDecimal":
                return Decimal(value)
            if kind == "Map":
                return {value_of(name, None): value_of(item, None) for name, item in value}
        if schema is not None and schema.type is Type.STRUCT:
            return {name: value_of(item, schema.by_name.get(name)) for name, item in given.items()}
        items = schema.items if schema is not None else None
        return {name: value_of(item, items) for name, item in given.items()}
    if isinstance(given, list):
        items = schema.items if schema is not None else None
        return [value_of(item, items) for item in given]
    if schema is not None and schema.type in (Type.FLOAT32, Type.FLOAT64) and given is not None:
        return single(float(given)) if schema.type is Type.FLOAT32 else float(given)
    return given


def compared_answer(answer: Any) -> Any:
    """Return Kafka Connect's answer in the form of :func:`compared`."""
    if not isinstance(answer, dict):
        return answer
    if "error" in answer:
        return {"error": answer["phase"]}
    return {
        "topic": answer["topic"],
        "timestamp": answer["timestamp"],
        "key": _compared_written(answer["key"]),
        "key schema": answer["keySchema"],
        "value": _compared_written(answer["value"]),
        "value schema": answer["valueSchema"],
        "headers": answer["headers"],
    }


def compared(record: Record) -> Any:
    """Return a record of headrace in a form that is equal when the records are."""
    return {
        "topic": record.topic,
        "timestamp": record.timestamp,
        "key": _compared(record.key, record.key_schema),
        "key schema": written_schema(record.key_schema),
        "value": _compared(record.value, record.value_schema),
        "value schema": written_schema(record.value_schema),
        "headers": [[name, None if value is None else value.decode()] for name, value in record.headers],
    }


def written_schema(schema: Schema | None) -> Any:
    """Return the form in which ``Transforms.java`` writes schemas."""
    if schema is None:
        return None
    made: dict[str, Any] = {"type": schema.type.name.lower()}
    if schema.type is Type.STRUCT:
        made["fields"] = {field.name: written_schema(field.schema) for field in schema.fields}
    elif schema.type is Type.ARRAY:
        made["items"] = written_schema(schema.items)
    elif schema.type is Type.MAP:
        made["keys"], made["values"] = written_schema(schema.keys), written_schema(schema.items)
    if schema.optional:
        made["optional"] = True
    made |= {name: value for name in ("name", "version", "doc") if (value := getattr(schema, name)) is not None}
    if schema.default is not None:
        made["default"] = _tagged_default(schema.default, schema)
    if schema.parameters:
        made["params"] = dict(schema.parameters)
    if len(made) == 1:
        return made["type"]
    return f"{made['type']}?" if len(made) == 2 and "optional" in made else made


_TAGS = {
    Type.INT8: "Byte",
    Type.INT16: "Short",
    Type.INT32: "Integer",
    Type.INT64: "Long",
    Type.FLOAT32: "Float",
    Type.FLOAT64: "Double",
}


def _tagged_default(value: Any, schema: Schema) -> Any:
    if isinstance(value, Decimal):
        return {"BigDecimal": str(value)}
    if isinstance(value, (date, time)):
        return {"Date": milliseconds_of(value)}
    if schema.type in (Type.FLOAT32, Type.FLOAT64):
        return {_TAGS[schema.type]: str(value)}
    if schema.type in _TAGS:
        return {_TAGS[schema.type]: value}
    if schema.type is Type.STRUCT:
        fields = {field.name: value.get(field.name) for field in schema.fields}
        return {
            "Struct": {
                name: None if item is None else _tagged_default(item, schema.by_name[name])
                for name, item in fields.items()
            }
        }
    return value


def _compared_written(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_compared_written(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    ((kind, value),) = answer.items()
    if kind in _WHOLE:
        return int(value)
    if kind in _REAL:
        return f"real {single(float(value)) if kind == 'Float' else float(value)}"
    if kind == "BigDecimal":
        return f"decimal {Decimal(value)}"
    if kind == "Date":
        return f"moment {value}"
    if kind == "Map":
        return {str(_compared_written(name)): _compared_written(item) for name, item in value}
    if kind == "Struct":
        return {name: _compared_written(item) for name, item in value.items()}
    return f"{kind} {value}"


def _compared(value: Any, schema: Schema | None) -> Any:
    match value:
        case bool() | None | str() | int():
            return value
        case float():
            return f"real {value}"
        case Decimal():
            return f"decimal {value}"
        case date() | time():
            return f"moment {milliseconds_of(value)}"
        case bytes():
            return "bytes " + b64encode(value).decode()
        case list():
            return [_compared(item, schema.items if schema else None) for item in value]
    if schema is not None and schema.type is Type.STRUCT:
        return {field.name: _compared(value.get(field.name), field.schema) for field in schema.fields}
    return {str(name): _compared(item, schema.items if schema else None) for name, item in value.items()}


class HeaderCase(NamedTuple):
    """A header that a converter reads (``data``) or writes, and the answer of Kafka Connect."""

    id: str
    converter: str
    config: Mapping[str, str]
    reads: bool
    data: bytes | None
    schema: Schema | None
    value: Any
    answer: Any


def header_cases() -> Iterator[HeaderCase]:
    for line in (Path(__file__).parent / "header_converters.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        reads, written = "read" in case, case.get("write", {})
        schema = schema_of(written.get("schema"))
        yield HeaderCase(
            case["id"],
            case["headerConverter"],
            case.get("config", {}),
            reads,
            b64decode(case["read"]) if reads and case["read"] is not None else None,
            schema,
            value_of(written.get("value"), schema),
            compared_header_answer(case["out"], reads=reads),
        )


def compared_header_answer(answer: Any, *, reads: bool) -> Any:
    """Return Kafka Connect's answer in the form of :func:`compared_header`."""
    if "error" in answer:
        return "refused"
    if not reads:
        return None if answer["bytes"] is None else b64decode(answer["bytes"])
    return answer["schema"], _compared_written(answer["value"])


def compared_header(schema: Schema | None, value: Any) -> Any:
    """Return a header of headrace in a form that is equal when the headers are."""
    return written_schema(schema), _compared(value, schema)
