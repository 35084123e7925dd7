"""The mapping that takes the values of two mappings, for an index that is built from records of several schemas.

A type only changes to one that accepts what it accepted before, and everything ends at keyword or object: an index that
is created again whenever its widened mapping changes is created a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace_sinks.elasticsearch.mappings.compatibility import is_compatible
from headrace_sinks.elasticsearch.mappings.schema_mapping import is_object

_ANY_SCALAR: dict[str, Any] = {"type": "keyword"}


def widened(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the fields of both. A field of both takes the values of both where a type can.

    Scalars that have no type in common, such as boolean and long, become keywords. An object remains an object:
    Elasticsearch refuses scalars there.
    """
    properties = dict(one.get("properties", {}))
    for name, definition in other.get("properties", {}).items():
        properties[name] = _both(properties[name], definition) if name in properties else definition
    result = dict(one)
    if properties:
        result["properties"] = properties
    return result


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    if is_object(one) and is_object(other):
        return widened(one, other)
    if is_object(one) or is_object(other):
        return one if is_object(one) else other
    if is_compatible(one["type"], other["type"]):
        return one
    return other if is_compatible(other["type"], one["type"]) else _ANY_SCALAR
