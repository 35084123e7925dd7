"""Stores the offsets of sources: keys ``["<connector>",{partition}]`` and values as in Connect's offsets topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.records import EncodedBatch, SourceOffset, SourcePartition
from headrace.stores.log import CompactedLog


class OffsetStore:
    """The source offsets of all connectors. As thread-safe as its log."""

    def __init__(self, log: CompactedLog) -> None:
        self._log = log

    def offsets(self, connector: str, partitions: Sequence[SourcePartition]) -> list[SourceOffset | None]:
        """Return the stored offset of each partition; None where nothing is stored. Raise RetriableError."""
        self._log.refresh()
        return [self._log.get(offset_key(connector, partition)) for partition in partitions]

    def set(self, connector: str, changes: Iterable[tuple[SourcePartition, SourceOffset | None]]) -> None:
        """Store all changes in one append; None deletes. Durable when it returns. Raise RetriableError."""
        entries = {offset_key(connector, partition): offset for partition, offset in changes}
        if entries:
            self._log.append(entries)

    def all(self, connector: str) -> list[tuple[SourcePartition, SourceOffset]]:
        """Return every partition of a connector with its offset. Raise RetriableError."""
        self._log.refresh()
        found = []
        for key, value in self._log.read().items():
            owner, partition = _parsed(key)
            if owner == connector:
                found.append((partition, value))
        return found

    def close(self) -> None:
        self._log.close()


@dataclass(frozen=True)
class ConnectorOffsets:
    """The offsets of one connector: the ``OffsetReader`` of its tasks, and the offset writer of its pipelines."""

    store: OffsetStore
    connector: str

    def offsets(self, partitions: Sequence[SourcePartition]) -> list[SourceOffset | None]:
        return self.store.offsets(self.connector, partitions)

    def set(self, changes: Iterable[tuple[SourcePartition, SourceOffset | None]]) -> None:
        self.store.set(self.connector, changes)


def offset_records(
    topic: str, connector: str, changes: Iterable[tuple[SourcePartition, SourceOffset | None]]
) -> EncodedBatch:
    """Return the records that store positions in an offset topic; None deletes."""
    entries = {offset_key(connector, partition): offset for partition, offset in changes}
    values = [None if offset is None else orjson.dumps(offset) for offset in entries.values()]
    return EncodedBatch(topic, values, [key.encode() for key in entries])


def offset_key(connector: str, partition: Mapping[str, Any]) -> str:
    """Return the key of a partition. Keys are equal if their bytes are, the order of names included, as in Connect."""
    return orjson.dumps([connector, dict(partition)]).decode()


def _parsed(key: str) -> tuple[str | None, SourcePartition]:
    """Return connector and partition; no connector for a key that is not of this form."""
    try:
        connector, partition = orjson.loads(key)
    except ValueError:
        return None, {}
    return (connector, partition) if isinstance(connector, str) and isinstance(partition, dict) else (None, {})
