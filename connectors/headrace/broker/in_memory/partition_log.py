"""One partition of the in-memory Kafka: records, transaction markers, and what a consumer may see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.records import EncodedBatch, Headers


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

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._entries: list[StoredRecord | None] = []  # None: a marker
        self._markers = 0
        self._aborted: set[int] = set()
        self._open: dict[object, list[int]] = {}  # by transaction: offsets of its records
        self.start = 0

    def append(self, batch: EncodedBatch, rows: Sequence[int], now: int, transaction: object = None) -> None:
        """Append these rows of a batch. ``now`` is the timestamp of a batch without timestamps."""
        keys, values, timestamps, headers = batch.keys, batch.values, batch.timestamps, batch.headers
        start = len(self._entries)
        self._entries.extend(
            StoredRecord(
                self._partition,
                offset,
                keys[row] if keys is not None else None,
                values[row],
                list(headers[row]) if headers is not None else [],
                timestamps[row] if timestamps is not None else now,
            )
            for offset, row in enumerate(rows, start)
        )
        if transaction is not None and rows:
            self._open.setdefault(transaction, []).extend(range(start, len(self._entries)))

    def end_transaction(self, transaction: object, *, committed: bool) -> None:
        """Write the marker of a transaction that has records here."""
        offsets = self._open.pop(transaction, None)
        if offsets is not None:
            if not committed:
                self._aborted.update(offsets)
            self._entries.append(None)
            self._markers += 1

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
        if not self._markers:  # no transaction has ended here: every entry is a record that may be delivered
            end = max(position, min(position + limit, end))
            return [record for record in self._entries[position:end] if record is not None], end
        found: list[StoredRecord] = []
        while position < end and len(found) < limit:
            record = self._entries[position]
            if record is not None and not (committed and position in self._aborted):
                found.append(record)
            position += 1
        return found, position
