"""Embeds JSON texts as JSON: a ``jsonb`` column becomes an object in the document instead of a text.

Numbers keep all their digits in these fields and, where the value is itself unparsed text, in the whole document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import orjson

from headrace import DataError, Schema, Type

SEMANTIC_TYPE = "io.debezium.data.Json"
"""Schema name of JSON texts in Debezium's schemas."""
BY_SCHEMA = "*"
_LONGEST_PLAIN_INTEGER = 18
"""Digits of an integer that always fits into 64 bits."""

Path = tuple[str, ...]


class JsonFields:
    """The configured fields (``payload``, ``customer.tags``) and those that a schema marks as JSON (``*``)."""

    def __init__(self, named: Iterable[str], schema: Schema | None) -> None:
        names = list(named)
        self.paths: list[Path] = [tuple(name.split(".")) for name in names if name != BY_SCHEMA]
        if BY_SCHEMA in names and schema is not None:
            self.paths += _paths_of(schema)

    def put_into(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the value with embedded JSON. Raise DataError naming the field whose text is not JSON."""
        for path in self.paths:
            value = _changed(value, path, ".".join(path))
        return value

    def mapped(self, kind: str) -> dict[str, Any]:
        """Return the mapping of these fields with type ``kind``."""
        properties: dict[str, Any] = {}
        for path in self.paths:
            inner = properties
            for name in path[:-1]:
                inner = inner.setdefault(name, {}).setdefault("properties", {})
            inner[path[-1]] = {"type": kind}
        return {"properties": properties} if properties else {}


def read_exactly(texts: Sequence[bytes | None]) -> list[Any]:
    """Parse JSON texts so that numbers are written again unchanged. Raise DataError."""
    try:
        return [None if text is None else _loads(text) for text in texts]
    except ValueError as error:
        raise DataError(f"not readable as JSON: {error}") from error


def _loads(text: bytes) -> Any:
    return json.loads(text, parse_float=orjson.Fragment, parse_int=_integer, parse_constant=_refuse)


def _integer(text: str) -> Any:
    return int(text) if len(text) <= _LONGEST_PLAIN_INTEGER else orjson.Fragment(text)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _changed(value: Any, path: Path, name: str) -> Any:
    first, *rest = path
    inner = value.get(first) if isinstance(value, dict) else None
    if isinstance(inner, str) and not rest:
        return {**value, first: _fragment(inner, name)}
    if isinstance(inner, dict) and rest:
        return {**value, first: _changed(inner, tuple(rest), name)}
    if isinstance(inner, list) and rest:
        return {**value, first: [_changed(item, tuple(rest), name) for item in inner]}
    return value


def _fragment(text: str, name: str) -> orjson.Fragment:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(
            f"the text of field '{name}' is not JSON: {error}",
            code="elasticsearch.field_not_json",
            hint="'json.fields' names fields whose texts are JSON; without it they stay text",
        ) from error
    # The document must stay on one line; in JSON, line breaks occur between tokens only.
    return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))


def _paths_of(schema: Schema) -> list[Path]:
    found: list[Path] = []
    for member in schema.fields:
        inner = member.schema.items if member.schema.type is Type.ARRAY else member.schema
        if inner is not None and inner.name == SEMANTIC_TYPE and inner is member.schema:
            found.append((member.name,))
        elif inner is not None and inner.type is Type.STRUCT:
            found += [(member.name, *path) for path in _paths_of(inner)]
    return found
