"""Rows partitioned by a hash of their name and stored in files, so that memory is bounded for any number of rows."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

BUCKETS = 512
ROWS_IN_MEMORY = 250_000
"""Default limit of one :class:`DiskBuckets`; a row takes about 100 bytes."""


class EntryRow(NamedTuple):
    """The fields of a ``StoredEntry`` and its record. ``place``: number of a partition, -1 = not from a topic."""

    name: bytes
    version: int
    digest: bytes
    place: int = -1
    offset: int = -1
    timestamp: int = -1
    """Epoch milliseconds."""


class DiskBuckets:
    """Accepts rows in any order and returns them one bucket at a time, each bucket in order of arrival."""

    def __init__(self, folder: Path, title: str, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        """``folder`` is used by this process only; its content is deleted with it."""
        self._folder = folder
        self._title = title
        self._rows_in_memory = rows_in_memory
        self._buckets: list[list[EntryRow]] = [[] for _ in range(BUCKETS)]
        self._in_memory = 0
        self.rows = 0

    def add(self, rows: Iterable[EntryRow]) -> None:
        count = 0
        for row in rows:
            self._buckets[zlib.crc32(row.name) % BUCKETS].append(row)
            count += 1
        self.rows += count
        self._in_memory += count
        if self._in_memory >= self._rows_in_memory:
            self._write()

    def bucket(self, number: int) -> Iterator[EntryRow]:
        path = self._path(number)
        if path.exists():
            with path.open("rb") as file:
                while file.peek(1):
                    # Safe to unpickle: this process wrote the file, into a folder that only it can read.
                    yield from map(EntryRow._make, pickle.load(file))
        yield from self._buckets[number]

    def _write(self) -> None:
        for number, rows in enumerate(self._buckets):
            if rows:
                with self._path(number).open("ab") as file:
                    pickle.dump([tuple(row) for row in rows], file, pickle.HIGHEST_PROTOCOL)
                rows.clear()
        self._in_memory = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._title}-{number}"
