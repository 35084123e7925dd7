"""Parsed JSON Schemas and what their references (``$ref``) name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

import orjson

from headrace import DataError
from headrace.converters.schema_registry.registry_client import SchemaText


class Place(NamedTuple):
    """A schema, and the document in which its references are resolved."""

    schema: Any
    document: str


@dataclass(frozen=True, eq=False, slots=True)
class JsonSchemaDocument:
    """A schema with the documents that it refers to by name."""

    root: Any
    documents: dict[str, Any]
    """By name and by ``$id``; the schema itself has the empty name."""

    @property
    def title(self) -> str:
        title = self.root.get("title") if isinstance(self.root, dict) else None
        return title if isinstance(title, str) else ""

    def resolve(self, reference: Any, document: str) -> Place:
        """Return the schema that a reference in a document names. Raise DataError."""
        if not isinstance(reference, str):
            raise invalid("a $ref is no text")
        name, fragment = urldefrag(reference)
        if name:
            document = self._document(name, document)
        found = self.documents[document]
        if fragment and not fragment.startswith("/"):
            return Place(_anchored(found, fragment, reference), document)
        for escaped in unquote(fragment).split("/")[1:]:
            step = escaped.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise _unknown(reference) from None
        return Place(found, document)

    def _document(self, name: str, within: str) -> str:
        """Return the name of a document, which is written as it is referred to, or relative to ``$id``."""
        known = self.documents[within]
        base = known.get("$id", within) if isinstance(known, dict) else within
        for candidate in (name, urljoin(base, name) if isinstance(base, str) else name):
            if candidate in self.documents:
                return candidate
        raise _unknown(name)


def parse_json_schema(text: SchemaText) -> JsonSchemaDocument:
    """Parse a schema and those that it refers to. Raise DataError."""
    try:
        root = orjson.loads(text.text)
        documents = {reference.name: orjson.loads(reference.text) for reference in text.references}
    except orjson.JSONDecodeError as error:
        raise invalid(f"it is not JSON ({error})") from error
    named = {found["$id"].rstrip("#"): found for found in [root, *documents.values()] if _has_id(found)}
    return JsonSchemaDocument(root, {**named, **documents, "": root})


def invalid(reason: str) -> DataError:
    return DataError(f"the JSON Schema cannot be used: {reason}", code="json_schema.invalid_schema")


def _has_id(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("$id"), str)


def _anchored(found: Any, anchor: str, reference: str) -> Any:
    for schema in _objects(found):
        if schema.get("$anchor") == anchor or schema.get("$id") == f"#{anchor}":
            return schema
    raise _unknown(reference)


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        yield found
        for part in found.values():
            yield from _objects(part)
    elif isinstance(found, list):
        for part in found:
            yield from _objects(part)


def _unknown(reference: str) -> DataError:
    return DataError(
        f"the JSON Schema refers to '{reference}', which neither it nor its references define",
        code="schema_registry.unknown_reference",
        hint="register the schema with a reference of this name",
    )
