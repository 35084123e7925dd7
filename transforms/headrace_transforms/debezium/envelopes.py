"""Change events of Debezium: rows before and after a change, and facts about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from headrace import Schema, Type
from headrace_transforms.sides import basics

JVM = "io.debezium.transforms."
_TRANSACTION = frozenset({"id", "data_collection_order", "total_order"})
_OF_THE_EVENT = frozenset({"op", "ts_ms", "ts_us", "ts_ns"})


def is_envelope(schema: Schema | None, value: Any) -> bool:
    """Return whether the value is a change event; without a schema by the fields that all change events have."""
    if schema is not None:
        return schema.type is Type.STRUCT and (schema.name or "").endswith(".Envelope")
    return (
        isinstance(value, dict)
        and {"op", "source"} <= value.keys()
        and not value.keys().isdisjoint(("before", "after"))
    )


class EventField(NamedTuple):
    """A field of a change event that becomes a field or header of the record."""

    parent: str | None
    """``source``, ``transaction`` or another struct; None: the event itself."""
    name: str
    new_name: str

    def schema_in(self, event: Schema) -> Schema | None:
        """Return the optional schema of the field; None when the event does not have it."""
        parent = event.by_name.get(self.parent) if self.parent else event
        described = (parent.by_name.get(self.name) if parent is not None else None) or event.by_name.get(self.name)
        if described is None:
            return None
        return basics(described, optional=True, fields=described.fields, items=described.items, keys=described.keys)

    def is_in(self, event: Mapping[str, Any]) -> bool:
        """Return whether an event without a schema has the field."""
        return self.name in self._parent_in(event) or self.name in event

    def value_in(self, event: Mapping[str, Any]) -> Any:
        """Return the value of the field."""
        parent = self._parent_in(event)
        return parent[self.name] if self.name in parent else event.get(self.name)

    def _parent_in(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        found = event.get(self.parent) if self.parent else event
        return found if isinstance(found, dict) else {}


def event_fields(prefix: str, items: Iterable[str]) -> list[EventField]:
    """Return the fields that ``op,source.ts_ms,table:name`` lists. Raise ValueError."""
    return [_event_field(prefix, item) for item in items]


def _event_field(prefix: str, item: str) -> EventField:
    path, *renamed = item.split(":")
    if len(renamed) > 1 or not path or "" in renamed:
        raise ValueError(f"'{item}' is not a field, such as op, source.ts_ms or table:new_name")
    parent, dot, name = path.partition(".")
    if not dot:
        parent, name = _parent_of(path), path
    default = f"{parent}_{name}" if dot else name
    return EventField(parent or None, name, prefix + (renamed[0] if renamed else default))


def _parent_of(name: str) -> str:
    if name in _TRANSACTION:
        return "transaction"
    return "" if name in _OF_THE_EVENT else "source"


def without(schema: Schema, names: Iterable[str], *, optional_only: bool) -> Schema:
    """Return a struct's schema without fields; ``optional_only``: required ones stay."""
    dropped = frozenset(names)
    return replace(
        schema,
        fields=tuple(
            field
            for field in schema.fields
            if field.name not in dropped or (optional_only and not field.schema.optional)
        ),
    )
