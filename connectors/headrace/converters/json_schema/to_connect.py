"""Translates JSON Schemas to Connect's, as JsonSchemaData does.

JSON Schema constrains values and does not type them. A schema is read as the types that it states; several statements
(a type and an ``enum``, an ``allOf``) are joined into one schema of Connect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headrace import DataError, Field, Schema, Type
from headrace.converters.json_schema.connect_names import (
    BYTES,
    ENUM,
    INDEX,
    MAP,
    NULL_SYMBOL,
    ONE_OF,
    PARAMETERS,
    TYPE,
    VERSION,
)
from headrace.converters.json_schema.decoding import decoding_column
from headrace.converters.json_schema.document import JsonSchemaDocument, Place, invalid

_NUMBERS = {
    "int8": Type.INT8,
    "int16": Type.INT16,
    "int32": Type.INT32,
    "int64": Type.INT64,
    "float32": Type.FLOAT32,
    "float64": Type.FLOAT64,
    BYTES: Type.BYTES,
}
_COMBINED = ("oneOf", "anyOf", "allOf")
# Keywords from which a schema without a type has one.
_TYPICAL = {
    "object": {
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "dependencies",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
    },
    "array": {"items", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
_OF_THE_WHOLE = frozenset({"title", "description", "default", TYPE, INDEX, VERSION, PARAMETERS})


class JsonConnectSchemas:
    """Translates one document."""

    def __init__(self, document: JsonSchemaDocument, *, optional_if_not_required: bool, flattens_single: bool) -> None:
        self._document = document
        self._optional_if_not_required = optional_if_not_required
        self._flattens_single = flattens_single
        self._open: list[Any] = []
        """Schemas of objects that are being translated."""

    def translate(self) -> Schema:
        """Return Connect's schema. Raise DataError for what Connect cannot express."""
        try:
            return self._translate(Place(self._document.root, ""))
        except RecursionError as error:
            raise invalid("it is nested too deeply") from error

    def _translate(self, place: Place, *, optional: bool = False) -> Schema:
        schema = place.schema
        if schema is True or schema == {}:
            raise DataError(
                "a JSON Schema that allows every type has no schema in Connect",
                code="json_schema.any_type",
                hint="state its type",
            )
        if not isinstance(schema, dict):
            raise invalid("a schema is an object")
        if "$ref" in schema:
            return self._translate(self._document.resolve(schema["$ref"], place.document), optional=optional)
        statements = _statements(schema)
        if not statements:
            raise invalid("it does not state a type")
        if len(statements) > 1:
            return self._all_of([place._replace(schema=item) for item in statements], optional)
        (statement,) = statements
        for word in _COMBINED:
            if word in statement:
                return self._combined(word, place._replace(schema=statement), optional)
        return self._completed(self._typed(place._replace(schema=statement)), schema, optional)

    def _combined(self, word: str, place: Place, optional: bool) -> Schema:
        members = [place._replace(schema=item) for item in _list(place.schema, word)]
        if len(members) == 1 and self._flattens_single:
            return self._translate(members[0], optional=optional)
        if word == "allOf":
            return self._all_of(members, optional)
        present = [member for member in members if not _is_null(member.schema)]
        if len(members) == 2 and len(present) == 1:
            return self._translate(present[0], optional=True)
        fields = tuple(
            Field(f"{ONE_OF}.field.{index}", self._translate(member, optional=True))
            for index, member in enumerate(present)
        )
        made = Schema(Type.STRUCT, name=ONE_OF, fields=fields, optional=len(present) < len(members))
        return self._completed(made, place.schema, optional)

    def _all_of(self, members: list[Place], optional: bool) -> Schema:
        """Return one schema for several that all hold: an object with all properties, or the most exact type."""
        properties: dict[str, tuple[Place, bool]] = {}
        for member in members:
            self._collect(member, properties, [])
        if properties:
            return Schema(Type.STRUCT, optional=optional, fields=self._fields(properties))
        kinds = {_kind(member.schema): member for member in members}
        if (combined := kinds.get("combined")) is not None:
            return self._translate(combined, optional=optional)
        typed = kinds.get("string") or kinds.get("number") or kinds.get("integer")
        if "const" in kinds and typed is not None:
            return self._translate(typed, optional=optional)
        if "enum" in kinds and typed is not None:
            chosen = kinds["enum"] if "string" in kinds else typed
            return self._translate(chosen, optional=optional)
        if (typed := kinds.get("number") or kinds.get("integer") or kinds.get("string")) is not None:
            return self._translate(typed, optional=optional)
        if (referred := kinds.get("reference")) is not None:
            return self._translate(referred, optional=optional)
        raise invalid("its allOf does not state a type that Connect has")

    def _collect(self, place: Place, found: dict[str, tuple[Place, bool]], visited: list[Any]) -> None:
        """Add the properties of an object, of the members of an allOf and of what they refer to."""
        schema = place.schema
        if not isinstance(schema, dict) or any(schema is known for known in visited):
            return
        visited.append(schema)
        if "$ref" in schema:
            self._collect(self._document.resolve(schema["$ref"], place.document), found, visited)
            return
        for item in _list(schema, "allOf") if "allOf" in schema else ():
            self._collect(place._replace(schema=item), found, visited)
        if isinstance(schema.get("properties"), dict):
            found |= self._properties(place)

    def _typed(self, place: Place) -> Schema:
        schema = place.schema
        if "enum" in schema:
            return _enum(_list(schema, "enum"))
        if "const" in schema:
            return _enum([schema["const"]])
        kind, connect = schema.get("type"), schema.get(TYPE)
        if kind == "boolean":
            return Schema(Type.BOOLEAN)
        if kind in ("integer", "number"):
            usual = Type.INT64 if kind == "integer" else Type.FLOAT64
            if connect is not None and connect not in _NUMBERS:
                raise invalid(f"{TYPE} has an unknown value")
            return Schema(usual if connect is None else _NUMBERS[connect])
        if kind == "string":
            return Schema(Type.BYTES if connect == BYTES else Type.STRING)
        if kind == "array":
            return self._array(place)
        if kind == "object":
            return self._object(place)
        raise invalid(f"the type '{kind}' has no schema in Connect")

    def _array(self, place: Place) -> Schema:
        items = place.schema.get("items")
        if items is None or isinstance(items, list):
            raise invalid("an array does not have one type of items")
        part = place._replace(schema=items)
        if place.schema.get(TYPE) == MAP and isinstance(items, dict) and isinstance(items.get("properties"), dict):
            entry = items["properties"]
            if not entry.keys() >= {"key", "value"}:
                raise invalid("the entries of a map have no key or value")
            keys, values = place._replace(schema=entry["key"]), place._replace(schema=entry["value"])
            return Schema(Type.MAP, keys=self._translate(keys), items=self._translate(values))
        return Schema(Type.ARRAY, items=self._translate(part))

    def _object(self, place: Place) -> Schema:
        schema = place.schema
        if schema.get(TYPE) == MAP:
            values = schema.get("additionalProperties")
            if not isinstance(values, dict):
                raise invalid("a map does not state the type of its values")
            return Schema(Type.MAP, keys=Schema(Type.STRING), items=self._translate(place._replace(schema=values)))
        return Schema(Type.STRUCT, fields=self._fields(self._properties(place)))

    def _properties(self, place: Place) -> dict[str, tuple[Place, bool]]:
        """Return the schemas of an object's properties by name, in Connect's order, and whether each is required."""
        given = place.schema.get("properties", {})
        if not isinstance(given, dict):
            raise invalid("'properties' is not an object")
        required = place.schema.get("required")
        names = frozenset(map(str, required)) if isinstance(required, list) else frozenset()
        indices = {name: _index(part, place_in_text) for place_in_text, (name, part) in enumerate(given.items())}
        return {
            name: (place._replace(schema=given[name]), name in names) for name in sorted(given, key=indices.__getitem__)
        }

    def _fields(self, properties: Mapping[str, tuple[Place, bool]]) -> tuple[Field, ...]:
        fields = []
        for name, (place, required) in properties.items():
            if any(place.schema is known for known in self._open):
                raise DataError(
                    f"the JSON Schema cannot be used: '{name}' contains itself",
                    code="json_schema.recursive_schema",
                    hint="Connect's schemas are trees; read the topic with JsonConverter or ByteArrayConverter",
                )
            self._open.append(place.schema)
            optional = self._optional_if_not_required and not required
            fields.append(Field(name, self._translate(place, optional=optional)))
            self._open.pop()
        return tuple(fields)

    def _completed(self, made: Schema, schema: dict[str, Any], optional: bool) -> Schema:
        """Return the schema with what JSON Schema says of a whole: title, description, default, Connect's own keys."""
        parameters = dict(made.parameters)
        given = schema.get(PARAMETERS) or {}
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise invalid(f"{PARAMETERS} are not texts")
        parameters |= given
        version = schema.get(VERSION)
        if version is not None and type(version) is not int:
            raise invalid(f"{VERSION} is no whole number")
        made = replace(
            made,
            name=made.name or _text(schema, "title"),
            version=version,
            doc=_text(schema, "description"),
            parameters=tuple(parameters.items()),
            optional=made.optional or optional,
        )
        default = schema.get("default")
        if default is None:
            return made
        try:
            return replace(made, default=decoding_column(replace(made, optional=True)).run([default])[0])
        except DataError as error:
            raise invalid("a default does not fit its schema") from error


def _statements(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of a schema that each would be a schema of its own; none when it states no type."""
    found: list[dict[str, Any]] = []
    rest = {word: value for word, value in schema.items() if word not in ("enum", "const", *_COMBINED)}
    whole = {word: value for word, value in schema.items() if word in _OF_THE_WHOLE}
    for word in ("enum", "const", *_COMBINED):
        if word in schema:
            found.append({word: schema[word]})
    kind = schema.get("type")
    if isinstance(kind, list):
        parts = {word: value for word, value in rest.items() if word not in _OF_THE_WHOLE}
        found.append({"anyOf": [{**parts, "type": item} for item in kind]})
    elif kind is not None:
        found.append(rest)
    else:
        found += [{**rest, "type": name} for name, words in _TYPICAL.items() if words & rest.keys()]
    return [{**whole, **found[0]}] if len(found) == 1 else found


def _kind(schema: Any) -> str:
    """Return what a member of an allOf states."""
    if not isinstance(schema, dict):
        return "none"
    if "$ref" in schema:
        return "reference"
    statements = _statements(schema)
    if len(statements) != 1:
        return "combined" if statements else "none"
    (statement,) = statements
    for word in ("enum", "const"):
        if word in statement:
            return word
    return "combined" if statement.keys() & set(_COMBINED) else str(statement.get("type"))


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _enum(symbols: list[Any]) -> Schema:
    parameters = {ENUM: ""}
    for symbol in symbols:
        text = NULL_SYMBOL if symbol is None else symbol if isinstance(symbol, str) else str(symbol)
        parameters[f"{ENUM}.{text}"] = text
    return Schema(Type.STRING, parameters=tuple(parameters.items()))


def _index(part: Any, place: int) -> tuple[int, int]:
    """Return where a property stands: Connect's index, or its place in the text."""
    given = part.get(INDEX) if isinstance(part, dict) else None
    return (given if type(given) is int else place, place)


def _list(schema: dict[str, Any], word: str) -> list[Any]:
    value = schema.get(word)
    if not isinstance(value, list) or not value:
        raise invalid(f"'{word}' is not a list")
    return value


def _text(schema: dict[str, Any], word: str) -> str | None:
    value = schema.get(word)
    return value if isinstance(value, str) else None
