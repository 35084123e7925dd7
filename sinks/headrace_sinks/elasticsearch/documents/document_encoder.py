"""Encodes record values as JSON documents.

===========================  ==================================================================
Decimal                      a number with all its digits (Kafka Connect: a double)
bytes                        base64 text
date, schema Date            ISO text ``2024-01-31`` (Kafka Connect: days, which Elasticsearch reads as 1970)
datetime, schema Timestamp   epoch milliseconds; in values without schema ISO text
time, schema Time            milliseconds of the day; in values without schema ISO text
MAP                          object, or list of ``{"key": …, "value": …}`` (``compact.map.entries``)
===========================  ==================================================================

Values that arrive as JSON text (``JsonValues``) pass unchanged, with all their digits. Elasticsearch parses them and
refuses most invalid JSON, so they are not parsed here; :mod:`json_text` refuses what its lenient parser would store.

What JSON cannot express (NaN, infinity, integers above 64 bits) is a DataError that names the field.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import orjson

from headrace import DataError, JsonValues, Schema, Type, json_bytes
from headrace_sinks.elasticsearch.documents.json_fields import JsonFields, read_exactly
from headrace_sinks.elasticsearch.documents.json_text import require_strict_json

Reshape = Callable[[Any], Any]
Encode = Callable[[Sequence[Any]], list[bytes]]

_LARGEST, _SMALLEST = (1 << 64) - 1, -(1 << 63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encoder(schema: Schema | None, *, compact_maps: bool = True, json_fields: Sequence[str] = ()) -> Encode:
    """Return the encoding function for values of a schema. It raises DataError when any value is invalid."""
    reshape = _reshape(schema, compact_maps) if schema is not None else None
    fields = JsonFields(json_fields, schema) if json_fields else None
    if fields is not None and not fields.paths:
        fields = None
    # Without a schema, orjson's ISO forms; with one, _plain decides.
    options = orjson.OPT_PASSTHROUGH_DATETIME if schema is not None else 0

    def encode(values: Sequence[Any]) -> list[bytes]:
        if isinstance(values, JsonValues):
            if reshape is None and schema is None and fields is None and None not in values.texts:
                texts: list[bytes] = list(values.texts)  # type: ignore[arg-type]
                require_strict_json(texts)
                return texts
            values = values.parsed() if fields is None or schema is not None else read_exactly(values.texts)
        if set(map(type, values)) - {dict}:
            raise _no_object(next(value for value in values if type(value) is not dict))
        shaped = values if reshape is None else [reshape(value) for value in values]
        if fields is not None:
            shaped = list(map(fields.put_into, shaped))
        try:
            documents = json_bytes(shaped, _plain, options)
        except TypeError as error:
            faults = filter(None, map(find_fault, shaped))
            raise _refusal(next(faults, str(error))) from error
        # orjson writes NaN and infinity as null. Inspect values with more nulls than their top level explains; a
        # text that contains the word only costs the inspection.
        for value, document in zip(shaped, documents, strict=True):
            if (
                b"null" in document
                and document.count(b"null") != list(value.values()).count(None)
                and (fault := find_fault(value))
            ):
                raise _refusal(fault)
        return documents

    return encode


def find_fault(value: Any, path: str = "") -> str | None:
    """Return why the value cannot be JSON, beginning with the field's path; None when it can."""
    name = f"field '{path}'" if path else "the value"
    match value:
        case dict():
            for key, inner in value.items():
                if not isinstance(key, str):
                    return f"{name} has a key that is {_kind(key)}, not text"
                if not _encodable(key):
                    return f"{name} has a name that is not valid Unicode"
                if fault := find_fault(inner, f"{path}.{key}" if path else key):
                    return fault
        case list() | tuple():
            for place, inner in enumerate(value):
                if fault := find_fault(inner, f"{path}[{place}]"):
                    return fault
        case float() if not math.isfinite(value):
            return f"{name} is {_number_name(value)}, which JSON cannot express"
        case Decimal() if not value.is_finite():
            return f"{name} is {_number_name(value)}, which JSON cannot express"
        case int() if not _SMALLEST <= value <= _LARGEST:
            return f"{name} is an integer of more than 64 bits"
        case str() if not _encodable(value):
            return f"{name} is text that is not valid Unicode"
        case None | bool() | int() | float() | str() | bytes() | bytearray() | Decimal() | date() | time():
            return None
        case _:
            try:
                orjson.dumps(value, _plain)
            except TypeError:
                return f"{name} is {_kind(value)}, which has no JSON form"
    return None


def _plain(value: Any) -> Any:
    """Return the JSON form of values that orjson does not serialise or passes through."""
    match value:
        case Decimal():
            if not value.is_finite():
                raise TypeError
            return orjson.Fragment(str(value))
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case datetime():
            moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            # Integer arithmetic: a float loses milliseconds far from 1970.
            elapsed = moment - _EPOCH
            return (elapsed.days * 86_400 + elapsed.seconds) * 1_000 + elapsed.microseconds // 1_000
        case date():
            return value.isoformat()
        case time():
            seconds = (value.hour * 60 + value.minute) * 60 + value.second
            return seconds * 1_000 + value.microsecond // 1_000
    raise TypeError


def _reshape(schema: Schema, compact: bool) -> Reshape | None:
    """Return the change to apply to values of a schema before encoding; None = none."""
    if schema.type is Type.STRUCT:
        inner = {field.name: change for field in schema.fields if (change := _reshape(field.schema, compact))}
        return _in_fields(inner) if inner else None
    if schema.items is None:
        return None
    each = _reshape(schema.items, compact)
    if schema.type is Type.ARRAY:
        return None if each is None else lambda value: [None if item is None else each(item) for item in value]
    if compact and schema.keys is not None and schema.keys.type is Type.STRING:
        return None if each is None else _in_values(each)
    key_change = _reshape(schema.keys, compact) if schema.keys is not None else None
    return _entries(key_change, each)


def _in_fields(changes: dict[str, Reshape]) -> Reshape:
    def reshape(value: dict[str, Any]) -> dict[str, Any]:
        changed = dict(value)
        for name, change in changes.items():
            if (inner := changed.get(name)) is not None:
                changed[name] = change(inner)
        return changed

    return reshape


def _in_values(change: Reshape) -> Reshape:
    return lambda value: {key: None if inner is None else change(inner) for key, inner in value.items()}


def _entries(key_change: Reshape | None, change: Reshape | None) -> Reshape:
    def reshape(value: dict[Any, Any]) -> list[dict[str, Any]]:
        return [
            {
                "key": key_change(key) if key_change is not None and key is not None else key,
                "value": change(inner) if change is not None and inner is not None else inner,
            }
            for key, inner in value.items()
        ]

    return reshape


def _no_object(value: Any) -> DataError:
    return DataError(
        f"the value is {_kind(value)}, and a document must be an object",
        code="elasticsearch.not_an_object",
        hint="use a converter that gives objects (JsonConverter), and write objects to the topic",
    )


def _refusal(fault: str) -> DataError:
    return DataError(f"the value has no JSON form: {fault}", code="elasticsearch.not_json")


def _kind(value: Any) -> str:
    return {"str": "text", "NoneType": "null", "int": "a number", "float": "a number", "list": "a list"}.get(
        type(value).__name__, f"of type {type(value).__name__}"
    )


def _number_name(value: float | Decimal) -> str:
    if value != value:
        return "NaN"
    return "infinity" if value > 0 else "-infinity"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
