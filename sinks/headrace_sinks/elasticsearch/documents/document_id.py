"""Document ids from record keys: distinct keys have distinct ids, and the id of a key never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from headrace import DataError, TopicPartition, json_bytes

LONGEST = 512
"""Bytes; Elasticsearch refuses a whole request that contains a longer id."""


def document_id(key: Any) -> bytes:
    """Return the id as JSON text, quotes included. Raise DataError.

    Text and whole numbers are used as they are; an object with one field is that field's value; with several fields,
    their values in the key's order joined by ``+``, with ``\\`` before a ``+`` or ``\\`` inside a value.
    """
    kind = key.__class__
    if kind is int:
        return b'"%d"' % key
    if kind is dict:
        if len(key) == 1:
            (value,) = key.values()
            if value.__class__ is int:
                return b'"%d"' % value
            return _as_json(_text(value, "the key's field"))
        return _as_json(_joined(key))
    return _as_json(_text(key, "the key"))


def document_ids(keys: Sequence[Any]) -> list[bytes]:
    """Return :func:`document_id` of each key; keys of one whole number, the most common case, as a column."""
    if set(map(type, keys)) == {dict} and set(map(len, keys)) == {1}:
        numbers = [number for key in keys for number in key.values()]
        if set(map(type, numbers)) == {int}:
            return [b'"%d"' % number for number in numbers]
    return [document_id(key) for key in keys]


def coordinates(topic_partition: TopicPartition) -> bytes:
    """Return ``"topic+partition+`` as JSON text without the closing quote; the offset and a quote complete the id.

    The topic is the one the record was read from: where a transform routes several topics into one index, offsets of
    two topics must not collide.
    """
    return orjson.dumps(f"{topic_partition.topic}+{topic_partition.partition}+")[:-1]


def _joined(key: Mapping[str, Any]) -> str:
    if not key:
        raise _unusable("the key is an empty object")
    parts = (_text(value, f"the key's field '{name}'") for name, value in key.items())
    return "+".join(part.replace("\\", "\\\\").replace("+", "\\+") for part in parts)


def _text(value: Any, what: str) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | Decimal() | UUID():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case None:
            raise _unusable(f"{what} is null", "set a key where the records come from, or key.ignore: true")
        case float():
            raise _unusable(f"{what} is a floating point number, which has more than one spelling")
        case bytes():
            raise _unusable(f"{what} is bytes", "a key.converter that gives text (StringConverter) makes it an id")
    raise _unusable(f"{what} is a {type(value).__name__}")


def _as_json(text: str) -> bytes:
    if not text:
        raise _unusable("the key is empty text")
    try:
        (quoted,) = json_bytes([text])
    except TypeError as error:
        raise _unusable("the key is text that is not valid Unicode") from error
    if len(quoted) > LONGEST and (size := len(text.encode())) > LONGEST:
        raise _unusable(f"the id has {size} bytes, and Elasticsearch allows {LONGEST}")
    return quoted


def _unusable(why: str, hint: str = "") -> DataError:
    return DataError(f"the key makes no document id: {why}", code="elasticsearch.unusable_key", hint=hint)
