"""Descriptions of the records in topics, by which `headrace check` compares sources with sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.schema import Schema


@dataclass(frozen=True)
class ProducedTopic:
    """The records that a source sends to one topic, before its transforms."""

    name: str
    keyed: bool | None = None
    """Whether records have a key; None = unknown before the system is asked."""
    key_name: str = ""
    """The source's configuration key that determines it."""
    key_fix: str = ""
    """What to write into the source's file so that records have keys."""
    deletes_by: str = ""
    """The setting by which deleted rows become tombstones, such as ``delete.detection: soft``; empty = they do not."""
    fields: Mapping[str, Schema] = field(default_factory=dict)
    """Schemas of the value's fields, as far as they are known."""


@dataclass(frozen=True)
class TopicRequirements:
    """What a sink requires of the records of one topic, after its transforms."""

    keyless_fix: str = ""
    """What to write into the sink's file so that it accepts records without a key; empty = it accepts them."""
    tombstone_name: str = ""
    """The sink's configuration key by which tombstones are refused; empty = they are not."""
    tombstone_fix: str = ""
    """What to write into the sink's file so that tombstones delete."""
    typed_by_schema: bool = False
    """Whether dates and numbers get their types from the schema."""
    declared_fields: frozenset[str] = frozenset()
    """Fields whose type the configuration declares."""
    destination: str = ""
    """The system and the place in it that the records go to; empty = it depends on the record."""
