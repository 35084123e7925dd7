"""Compatibility of an index's mapping with the desired one. Pure functions over mapping bodies.

::

    have        mapping of the index          want   mapping from schema and declaration

    additions   fields of want that have lacks, as a body for PUT _mapping
    conflicts   fields that would refuse the values or index them wrongly
    count       fields as index.mapping.total_fields.limit counts them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from headrace_sinks.elasticsearch.mappings.schema_mapping import is_object

_TEXTS = frozenset({"text", "keyword", "match_only_text", "wildcard", "search_as_you_type", "annotated_text"})
_INTEGERS = ("byte", "short", "integer", "long")
_FLOATS = frozenset({"half_float", "float", "double", "scaled_float"})
_DATES = frozenset({"date", "date_nanos"})
_NO_TEXT = frozenset({*_INTEGERS, *_FLOATS, "unsigned_long", "boolean", "binary", "alias", "token_count"})
"""Types that refuse any text. Others, such as date or ip, may accept it."""

_ANY_OBJECT = frozenset(
    {"flattened", "geo_point", "geo_shape", "point", "shape", "histogram", "aggregate_metric_double", "join",
     "completion", "percolator", "rank_features", "sparse_vector", "semantic_text",
     "integer_range", "float_range", "long_range", "double_range", "date_range", "ip_range"}
)  # fmt: skip
"""Types whose values may be objects of their own form; Elasticsearch checks each value."""
_ANY_NUMBERS = frozenset(
    {"geo_point", "point", "dense_vector", "rank_vectors", "rank_feature", "integer_range", "float_range", "long_range",
     "double_range"}
)  # fmt: skip
"""Types whose values may be numbers or lists of numbers, which are mapped as their items."""


class MappingConflict(NamedTuple):
    """An incompatible field. ``has`` and ``wants`` are types, with options where only these differ."""

    path: str
    has: str
    wants: str


def additions(have: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties to add; nothing is added below a field that accepts any object."""
    missing: dict[str, Any] = {}
    present = have.get("properties", {})
    for name, definition in want.get("properties", {}).items():
        if name not in present:
            missing[name] = definition
        elif is_object(definition) and _has_fields(present[name]) and (inner := additions(present[name], definition)):
            kind = {"type": "nested"} if present[name].get("type") == "nested" else {}
            missing[name] = {**kind, "properties": inner}
    return missing


def conflicts(
    have: Mapping[str, Any], want: Mapping[str, Any], declared: Mapping[str, Any], prefix: str = ""
) -> Iterator[MappingConflict]:
    """Yield incompatible fields. Declared fields must equal their declaration; others must accept the values.

    ``declared`` is the declared part of ``want``.
    """
    present, wishes = have.get("properties", {}), declared.get("properties", {})
    for name, definition in want.get("properties", {}).items():
        if (mine := present.get(name)) is None:
            continue
        path, wish = f"{prefix}{name}", wishes.get(name)
        if wish is not None and (difference := _difference(mine, wish)):
            yield MappingConflict(path, *difference)
        elif is_object(definition):
            if is_object(mine):
                yield from conflicts(mine, definition, wish or {}, f"{path}.")
            elif mine["type"] not in _ANY_OBJECT:
                yield MappingConflict(path, mine["type"], definition.get("type", "object"))
        elif wish is None and not is_compatible(mine.get("type", "object"), definition["type"]):
            yield MappingConflict(path, mine.get("type", "object"), definition["type"])


def count(mapping: Mapping[str, Any]) -> int:
    """Count fields, objects, subfields and runtime fields.

    https://www.elastic.co/docs/reference/elasticsearch/index-settings/mapping-limit
    """
    total = len(mapping.get("runtime", {}))
    for definition in mapping.get("properties", {}).values():
        total += 1 + len(definition.get("fields", {})) + count({"properties": definition.get("properties", {})})
    return total


def covers(have: Any, want: Any) -> bool:
    """Return whether ``have`` contains all of ``want``. Scalars are compared as texts, as settings are."""
    if isinstance(want, Mapping):
        return isinstance(have, Mapping) and all(name in have and covers(have[name], want[name]) for name in want)
    if isinstance(want, list):
        return isinstance(have, list) and len(have) == len(want) and all(map(covers, have, want))
    return _text(have) == _text(want)


def _difference(mine: Mapping[str, Any], wish: Mapping[str, Any]) -> tuple[str, str] | None:
    has, wants = mine.get("type", "object"), wish.get("type", "object")
    if has != wants:
        return has, wants
    for name, value in wish.items():
        if name in ("properties", "fields", "type") or covers(_effective(mine, name), value):
            continue
        shown = "its default" if mine.get(name) is None else _text(mine[name])
        return f"{has} ({name}: {shown})", f"{wants} ({name}: {_text(value)})"
    return None


_DEFAULTS: Mapping[str, Any] = {"index": True, "doc_values": True, "store": False, "enabled": True, "coerce": True}
"""Elasticsearch omits parameters that have their default."""


def _has_fields(definition: Mapping[str, Any]) -> bool:
    return is_object(definition) and definition.get("enabled") not in (False, "false")


def _effective(definition: Mapping[str, Any], name: str) -> Any:
    return definition.get(name, _DEFAULTS.get(name))


def is_compatible(has: str, wants: str) -> bool:
    """Return whether a field of type ``has`` accepts values mapped as ``wants`` and indexes them correctly."""
    if has == wants:
        return True
    if has in _TEXTS:
        return wants not in ("object", "nested")
    if wants in _TEXTS:
        return has not in _NO_TEXT and not is_object({"type": has})
    if wants == "flattened":
        return has == "object" or has in _ANY_OBJECT
    if has in _ANY_NUMBERS and (wants in _INTEGERS or wants in _FLOATS):
        return True
    if wants in _INTEGERS:
        wider = has in _INTEGERS and _INTEGERS.index(has) >= _INTEGERS.index(wants)
        return wider or has in _FLOATS or has in _DATES or has == "unsigned_long"
    if wants in _FLOATS:
        return has in _FLOATS
    if wants in _DATES:
        return has in _DATES
    return False


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
