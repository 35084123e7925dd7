"""One partition of the in-memory Kafka: records, transaction markers, and what a consumer may see of them."""

from __future__ import annotations

from typing import NamedTuple

from headrace.records import Headers


class StoredRecord(NamedTuple):
    """A stored record. ``timestamp`` in epoch milliseconds."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


class PartitionLog:
    """Records by offset. A transaction marker takes one offset, as in Kafka."""

    def __init__(self) -> None:
        self._entries: list[StoredRecord | None] = []  # None: a marker
        self._aborted: set[int] = set()
        self._open: dict[object, list[int]] = {}  # by transaction: offsets of its records
        self.start = 0

    def append(self, record: StoredRecord, transaction: object = None) -> None:
        if transaction is not None:
            self._open.setdefault(transaction, []).append(record.offset)
        self._entries.append(record)

    def end_transaction(self, transaction: object, *, committed: bool) -> None:
        """Write the marker of a transaction that has records here."""
        offsets = self._open.pop(transaction, None)
        if offsets is not None:
            if not committed:
                self._aborted.update(offsets)
            self._entries.append(None)

    def delete_before(self, offset: int) -> None:
        """Delete records as retention does."""
        self.start = max(self.start, offset)

    @property
    def high_watermark(self) -> int:
        return len(self._entries)

    @property
    def last_stable_offset(self) -> int:
        """The first offset of the oldest open transaction; the high watermark when none is open."""
        return min((offsets[0] for offsets in self._open.values()), default=self.high_watermark)

    def records(self) -> list[StoredRecord]:
        """Return all records, also those of open and aborted transactions."""
        return [record for record in self._entries[self.start :] if record is not None]

    def read(self, position: int, limit: int, *, committed: bool) -> tuple[list[StoredRecord], int]:
        """Return up to ``limit`` records from ``position``, and the next position: it passes markers."""
        end = self.last_stable_offset if committed else self.high_watermark
        position = max(position, self.start)
        found: list[StoredRecord] = []
        while position < end and len(found) < limit:
            record = self._entries[position]
            if record is not None and not (committed and position in self._aborted):
                found.append(record)
            position += 1
        return found, position
