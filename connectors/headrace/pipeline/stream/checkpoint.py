"""Copies of changelogs on the worker's disk, so that a restart reads only what was written since.

Each partition of a changelog has one SQLite file with the last value of each key and an offset, changed together. Rows
are written after Kafka has committed the transaction that they are of, and the offset is one that was the end of the
changelog before: what is read from it on brings the rows of the file to the end of the changelog, whether they are
older or newer. So a file is never ahead of Kafka, and losing one costs the time of reading the changelog.

A file is not used when the changelog was created again, when another process has it, and when it is so old that Kafka
may have removed the marks of deleted keys since.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import structlog

from headrace.records import ConsumedBatch, TopicPartition

_OLDEST = 12 * 3600.0
"""Seconds. Kafka keeps the marks of deleted keys for a day (``delete.retention.ms``)."""
_FORMAT = 1
_ROWS = 10_000


class Checkpoints:
    """The files of one task. Used from the task's thread. A partition whose file fails does without it."""

    def __init__(
        self,
        directory: Path | None,
        log: structlog.stdlib.BoundLogger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``directory`` None: there are no files."""
        self._directory = directory
        self._log = log
        self._clock = clock
        self._files: dict[TopicPartition, sqlite3.Connection] = {}

    @property
    def enabled(self) -> bool:
        return self._directory is not None

    def open(self, changelog: TopicPartition, topic_id: str, end: int) -> int:
        """Open the file of a partition, or create it. Return the offset from which its changelog has to be read.

        ``end``: the end of the changelog. ``topic_id`` is another one after the topic was created again.
        """
        self.close([changelog])
        if self._directory is None:
            return 0
        try:
            return self._open(changelog, self._path(changelog), topic_id, end)
        except (sqlite3.Error, OSError) as error:
            self._give_up(changelog, error)
            return 0

    def _open(self, changelog: TopicPartition, path: Path, topic_id: str, end: int) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._files[changelog] = file
        # Exclusive: a second process that is configured with the same directory must not use the file.
        for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
            file.execute(f"PRAGMA {setting}")
        file.execute("BEGIN IMMEDIATE")
        file.execute("CREATE TABLE IF NOT EXISTS position (topic_id TEXT, next INTEGER, written REAL, format INTEGER)")
        file.execute("CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        found = file.execute("SELECT topic_id, next, written, format FROM position").fetchone()
        usable = (
            found is not None
            and (found[0], found[3]) == (topic_id, _FORMAT)
            and found[1] <= end
            and 0 <= self._clock() - found[2] < _OLDEST
        )
        if not usable:
            file.execute("DELETE FROM entries")
            file.execute("DELETE FROM position")
            file.execute("INSERT INTO position VALUES (?, 0, ?, ?)", (topic_id, self._clock(), _FORMAT))
        file.execute("COMMIT")
        return int(found[1]) if usable else 0

    def entries(self, changelog: TopicPartition) -> Iterator[ConsumedBatch]:
        """Yield the entries of an open file as records of the changelog."""
        file = self._files.get(changelog)
        if file is None:
            return
        cursor = file.execute("SELECT key, value FROM entries")
        while rows := cursor.fetchmany(_ROWS):
            count = len(rows)
            keys, values = [key for key, _ in rows], [value for _, value in rows]
            yield ConsumedBatch(changelog, [0] * count, keys, values, [0] * count, [()] * count)

    def write(self, changelog: TopicPartition, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Write committed records of a changelog; a null value deletes its key."""
        file = self._files.get(changelog)
        if file is None:
            return
        rows = {key: value for key, value in zip(keys, values, strict=True) if key is not None}
        try:
            file.execute("BEGIN")
            present = [(key, value) for key, value in rows.items() if value is not None]
            file.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", present)
            file.executemany(
                "DELETE FROM entries WHERE key = ?", [(key,) for key, value in rows.items() if value is None]
            )
            file.execute("UPDATE position SET written = ?", (self._clock(),))
            file.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(changelog, error)

    def note_ends(self, ends: Mapping[TopicPartition, int]) -> None:
        """Note ends of changelogs up to which every committed record is written here."""
        for changelog, end in ends.items():
            file = self._files.get(changelog)
            if file is None:
                continue
            try:
                file.execute("UPDATE position SET next = ?, written = ?", (end, self._clock()))
            except sqlite3.Error as error:
                self._give_up(changelog, error)

    def changelogs(self) -> Collection[TopicPartition]:
        """Return the partitions with an open file."""
        return self._files.keys()

    def close(self, changelogs: Collection[TopicPartition] | None = None) -> None:
        """Close files; by default all."""
        for changelog in list(self._files) if changelogs is None else changelogs:
            file = self._files.pop(changelog, None)
            if file is not None:
                file.close()

    def _give_up(self, changelog: TopicPartition, error: Exception) -> None:
        """Remove a file that cannot be read or written: the changelog has everything."""
        self.close([changelog])
        self._log.warning("checkpoint not used", partition=str(changelog), reason=f"{type(error).__name__}: {error}")
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return  # another process uses it
        for suffix in ("", "-wal", "-shm"):
            path = self._path(changelog)
            try:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            except OSError as problem:
                self._log.warning("checkpoint not removed", file=str(path), reason=str(problem))

    def _path(self, changelog: TopicPartition) -> Path:
        assert self._directory is not None
        return self._directory / f"{quote(changelog.topic, safe='')}-{changelog.partition}.sqlite"
