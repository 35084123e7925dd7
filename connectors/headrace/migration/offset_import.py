"""Imports the offsets of a JVM standalone worker into the offset file of a standalone worker of headrace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import ConfigError, ConflictError
from headrace.migration.connect_state import StoredOffset, grouped_offsets
from headrace.stores.log import CompactedLog
from headrace.stores.offsets import offset_key


@dataclass(frozen=True)
class ImportedOffsets:
    """What an offset file holds, by connector. ``written``: how many of them were not stored before."""

    offsets: Mapping[str, Sequence[StoredOffset]]
    written: int = 0


def parse_entries(entries: Mapping[bytes, bytes | None], file: str) -> ImportedOffsets:
    """Return the offsets of a file's entries. Raise ConfigError for an entry of another form: it could be a position
    that would be lost silently."""
    offsets, unread = grouped_offsets(entries)
    if unread:
        key, why = unread[0]
        raise ConfigError(
            f"{file} has an entry that is not an offset of Kafka Connect, {why}: {key[:100].decode(errors='replace')}",
            code="migrate.offset_file",
            hint="name the file in offset.storage.file.filename of the JVM worker",
        )
    return ImportedOffsets(offsets)


def import_offsets(found: ImportedOffsets, log: CompactedLog, target: str) -> ImportedOffsets:
    """Append the offsets that ``log`` does not have. Raise ConflictError, and write nothing, when it has another
    offset of a partition: it may be newer. ``target`` is the log's name."""
    wanted: dict[str, Any] = {
        offset_key(name, item.partition): item.offset for name, items in found.offsets.items() for item in items
    }
    known = log.read()
    differing = [key for key, offset in wanted.items() if key in known and known[key] != offset]
    if differing:
        raise ConflictError(
            f"{target} has other offsets of {len(differing)} partitions already, the first one is {differing[0]}: "
            f"{known[differing[0]]}; nothing was written",
            code="migrate.offsets_differ",
            hint="if the file of the JVM worker is right, start with a new offset file; a single offset is set with "
            "`headrace connectors offsets NAME --set`",
        )
    new = {key: offset for key, offset in wanted.items() if key not in known}
    if new:
        log.append(new)
    return ImportedOffsets(found.offsets, len(new))
