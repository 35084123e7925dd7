"""Rows in many buckets by a hash of their name, kept in files: any number of rows, bounded memory."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

BUCKETS = 512
_MOST_IN_MEMORY = 250_000
"""Rows of one spill, some 100 bytes each."""


class Row(NamedTuple):
    """An entry and where it comes from: ``place`` numbers partitions, -1 = not from a topic."""

    name: bytes
    version: int
    digest: bytes
    place: int = -1
    offset: int = -1


class Spill:
    """Takes rows in any order; gives them back a bucket at a time, each bucket's in the order they came."""

    def __init__(self, folder: Path, title: str) -> None:
        """``folder`` is ours alone, nothing in it outlives the process."""
        self._folder = folder
        self._title = title
        self._buckets: list[list[Row]] = [[] for _ in range(BUCKETS)]
        self._in_memory = 0
        self.rows = 0

    def add(self, rows: Iterable[Row]) -> None:
        count = 0
        for row in rows:
            self._buckets[zlib.crc32(row.name) % BUCKETS].append(row)
            count += 1
        self.rows += count
        self._in_memory += count
        if self._in_memory >= _MOST_IN_MEMORY:
            self._write()

    def bucket(self, number: int) -> Iterator[Row]:
        path = self._path(number)
        if path.exists():
            with path.open("rb") as file:
                while file.peek(1):
                    # Our own file in a folder that only we may read.
                    yield from map(Row._make, pickle.load(file))
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
