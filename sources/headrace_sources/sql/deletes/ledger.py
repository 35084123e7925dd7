"""The keys of a table that were sent: a SQLite file on this machine.

Keys are written before their records are returned, so the ledger always holds at least what Kafka holds: a key too many
costs a needless tombstone, a key too few would leave a document permanently. Keys are values of the driver, in the
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
"""After every key: each begins with a letter."""


class LedgerPart(NamedTuple):
    """Consecutive keys."""

    last: bytes
    """The last key, encoded."""
    keys: int
    hashes: int
    """The sum of their hashes."""


class Ledger:
    """Used from one thread. ``walk``: the number of the current comparison, or of the last one.

    Each key has the number of the comparison in which it was last sent, or seen in the table.
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
                """The file did not exist: the keys that were sent before are unknown."""
                self._file.executescript(_SCHEMA)
                [(self.walk,)] = self._file.execute("SELECT value FROM state WHERE name = 'walk'")
                on_failure.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise _fault(path, error) from error

    def __len__(self) -> int:
        [(count,)] = self._run("SELECT count(*) FROM sent")
        return int(count)

    def add(self, keys: Iterable[Key]) -> None:
        """Add keys that are in the table or about to be sent. Keys with NULL in them name no row and are left out."""
        walk = self.walk
        self._write(_ADD, [(encoded(key), key_hash(key), walk) for key in keys if None not in key])

    # A comparison.

    def begin_walk(self) -> None:
        """Begin a comparison: no key is known to be gone."""
        self.walk += 1
        self._run("UPDATE state SET value = ? WHERE name = 'walk'", [self.walk])
        self._run("DELETE FROM gone")

    def part(self, after: bytes, size: int) -> LedgerPart | None:
        """Return the next ``size`` keys after ``after``, or fewer; None when there are none."""
        [(last, count, hashes)] = self._run(_PART, [after, size])
        return LedgerPart(last, count, hashes) if count else None

    def compare(self, after: bytes, up_to: bytes | None, found: Mapping[bytes, Key]) -> bool:
        """Compare with ``found``, every key of the table after ``after`` up to ``up_to`` (None: all).

        Other keys in that range are gone. Return whether there were differences. Keys that were sent since the
        comparison began existed after it began: they are left to the next one.
        """
        up_to = _LAST if up_to is None else up_to
        known = self._run("SELECT key, walk FROM sent WHERE key > ? AND key <= ?", [after, up_to])
        keys = {key for key, _ in known}
        new = [key for encoded_key, key in found.items() if encoded_key not in keys]
        self.add(new)
        gone = [(key,) for key, walk in known if walk < self.walk and key not in found]
        self._write("INSERT OR IGNORE INTO gone VALUES (?)", gone)
        return bool(new or gone)

    def unmarked_are_gone(self) -> None:
        """Note that every key that was not added since the comparison began is gone."""
        self._run("INSERT OR IGNORE INTO gone SELECT key FROM sent WHERE walk < ?", [self.walk])

    def gone_count(self) -> int:
        """Return how many keys this comparison has found gone."""
        [(count,)] = self._run("SELECT count(*) FROM gone")
        return int(count)

    def gone(self, after: Key | None, limit: int) -> list[Key]:
        """Return keys that this comparison has found gone, after ``after``, in order."""
        start = b"" if after is None else encoded(after)
        return [
            decoded(key)
            for (key,) in self._run("SELECT key FROM gone WHERE key > ? ORDER BY key LIMIT ?", [start, limit])
        ]

    def remove(self, keys: Iterable[Key], walk: int) -> None:
        """Remove keys whose tombstones are in Kafka, but not those that were added since comparison ``walk``."""
        self._write("DELETE FROM sent WHERE key = ? AND walk < ?", [(encoded(key), walk) for key in keys])

    def close(self) -> None:
        """Close the file; every change is already in it."""
        self._file.close()

    def _run(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._file.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _fault(self.path, error) from error

    def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute ``statement`` for each row, in one transaction."""
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
        hint="check that the disk is not full and that the worker may write to delete.ledger.directory. A damaged file "
        "may be removed: it is created again from the table",
    )
