"""The keys of a table that were sent: a file on this machine, in SQLite.

Written before the records are handed over, so it always holds at least what Kafka holds; a key too many costs a
tombstone for nobody, a key too few would leave a document for ever. Keys are what the database's driver gives, in the
order of :mod:`headrace_sources.sql.rows.ledger_keys`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from headrace import InfrastructureError
from headrace_sources.sql.rows.ledger_keys import Key, decoded, encoded, key_hash

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS sent (key BLOB PRIMARY KEY, hash INTEGER NOT NULL, walk INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS gone (key BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    INSERT OR IGNORE INTO state VALUES ('walk', 0);
"""
_ADD = (
    "INSERT INTO sent VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET walk = excluded.walk WHERE walk <> excluded.walk"
)
_PART = "SELECT max(key), count(*), sum(hash) FROM (SELECT key, hash FROM sent WHERE key > ? ORDER BY key LIMIT ?)"
_LAST = b"\xff"
"""Behind every key: each begins with a letter."""


class Part(NamedTuple):
    """Keys that follow each other."""

    last: bytes
    """The last of them, encoded."""
    keys: int
    hashes: int
    """The sum of their hashes."""


class Ledger:
    """Used from one thread. ``walk``: number of the comparison that is going on, or was the last.

    Each key bears the number of the comparison in which it was sent last, or seen in the table.
    """

    def __init__(self, path: Path) -> None:
        """Raises InfrastructureError."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as on_failure:
                self._file = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
                on_failure.callback(self._file.close)
                self._file.execute("PRAGMA journal_mode = WAL")
                self._file.execute("PRAGMA synchronous = NORMAL")
                known = self._file.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sent'").fetchall()
                self.new = not known
                """Nothing is known about what was sent before."""
                self._file.executescript(_SCHEMA)
                [(self.walk,)] = self._file.execute("SELECT value FROM state WHERE name = 'walk'")
                on_failure.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise _fault(path, error) from error

    def __len__(self) -> int:
        [(count,)] = self._run("SELECT count(*) FROM sent")
        return int(count)

    def add(self, keys: Iterable[Key]) -> None:
        """They are in the table, or about to be sent. Keys with NULL in them are left out: they name no row."""
        walk = self.walk
        self._write(_ADD, [(encoded(key), key_hash(key), walk) for key in keys if None not in key])

    # A comparison.

    def begin_walk(self) -> None:
        """A new comparison: no key is known to be gone."""
        self.walk += 1
        self._run("UPDATE state SET value = ? WHERE name = 'walk'", [self.walk])
        self._run("DELETE FROM gone")

    def part(self, after: bytes, size: int) -> Part | None:
        """The next ``size`` keys behind ``after``, or fewer; None when there is none."""
        [(last, count, hashes)] = self._run(_PART, [after, size])
        return Part(last, count, hashes) if count else None

    def compare(self, after: bytes, up_to: bytes | None, found: Mapping[bytes, Key]) -> bool:
        """``found``: every key of the table behind ``after``, up to the other (None: all). Others there are gone.

        Returns whether there were differences.
        What was sent since the comparison began was there after it began: the next one will look at it.
        """
        up_to = _LAST if up_to is None else up_to
        known = self._run("SELECT key, walk FROM sent WHERE key > ? AND key <= ?", [after, up_to])
        keys = {key for key, _ in known}
        new = [key for place, key in found.items() if place not in keys]
        self.add(new)
        gone = [(key,) for key, walk in known if walk < self.walk and key not in found]
        self._write("INSERT OR IGNORE INTO gone VALUES (?)", gone)
        return bool(new or gone)

    def unmet_are_gone(self) -> None:
        """Every key that was not added since the comparison began is gone."""
        self._run("INSERT OR IGNORE INTO gone SELECT key FROM sent WHERE walk < ?", [self.walk])

    def gone_count(self) -> int:
        """How many keys this comparison has found gone."""
        [(count,)] = self._run("SELECT count(*) FROM gone")
        return int(count)

    def gone(self, after: Key | None, limit: int) -> list[Key]:
        """Keys that this comparison has found gone, behind ``after``, in order."""
        start = b"" if after is None else encoded(after)
        return [
            decoded(key)
            for (key,) in self._run("SELECT key FROM gone WHERE key > ? ORDER BY key LIMIT ?", [start, limit])
        ]

    def remove(self, keys: Iterable[Key], walk: int) -> None:
        """Their tombstones are in Kafka. What was met since ``walk`` found it gone is kept: it is there again."""
        self._write("DELETE FROM sent WHERE key = ? AND walk < ?", [(encoded(key), walk) for key in keys])

    def close(self) -> None:
        """Every change is in the file already."""
        self._file.close()

    def _run(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._file.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _fault(self.path, error) from error

    def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """In one transaction."""
        if not rows:
            return
        try:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany(statement, rows)
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise _fault(self.path, error) from error


def _fault(path: Path, error: Exception) -> InfrastructureError:
    return InfrastructureError(
        f"the ledger of sent keys {path} cannot be used: {error}",
        code="sql.ledger",
        hint="is the disk full, may the worker write to delete.ledger.directory? A damaged file may be removed: it is "
        "made anew from the table",
    )
