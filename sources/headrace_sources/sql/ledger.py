"""The keys of a table that were sent: a file on this machine, in SQLite.

Written before the records are handed over, so it always holds at least what Kafka holds; a key too many costs a
tombstone for nobody, a key too few would leave a document for ever. Keys are what the database's driver gives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from headrace import EnvironmentFault

Key = tuple[Any, ...]

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS keys (key BLOB PRIMARY KEY, walk INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    INSERT OR IGNORE INTO state VALUES ('walk', 0);
"""
_ADD = "INSERT INTO keys VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET walk = excluded.walk WHERE walk <> excluded.walk"


class Ledger:
    """Used from one thread. ``walk``: number of the walk over the table's keys that is going on, or was the last.

    Each key bears the number of the walk in which it was seen last, in the table or among what was sent.
    """

    def __init__(self, path: Path) -> None:
        """Raises EnvironmentFault."""
        self.path = path
        self.new = not path.exists()
        """Nothing is known about what was sent before."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.executescript(_SCHEMA)
            [(self.walk,)] = self._file.execute("SELECT value FROM state WHERE name = 'walk'")
        except (OSError, sqlite3.Error) as error:
            raise _fault(path, error) from error

    def __len__(self) -> int:
        [(count,)] = self._run("SELECT count(*) FROM keys")
        return int(count)

    def begin_walk(self) -> None:
        """What is not added from now on until :meth:`missing` is asked is no longer there."""
        self.walk += 1
        self._run("UPDATE state SET value = ? WHERE name = 'walk'", [self.walk])

    def add(self, keys: Iterable[Key]) -> None:
        """They are in the table, or about to be sent. Keys with NULL in them are left out: they name no row."""
        walk = self.walk
        entries = [(encoded(key), walk) for key in keys if None not in key]
        try:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany(_ADD, entries)
            finally:
                self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise _fault(self.path, error) from error

    def missing_count(self) -> int:
        """How many keys this walk has not met."""
        [(count,)] = self._run("SELECT count(*) FROM keys WHERE walk < ?", [self.walk])
        return int(count)

    def missing(self, after: Key | None, limit: int) -> list[Key]:
        """Keys that this walk has not met, behind ``after`` in the order of this file."""
        start = b"" if after is None else encoded(after)
        found = self._run(
            "SELECT key FROM keys WHERE walk < ? AND key > ? ORDER BY key LIMIT ?", [self.walk, start, limit]
        )
        return [decoded(key) for (key,) in found]

    def remove(self, keys: Iterable[Key], walk: int) -> None:
        """Their tombstones are in Kafka. What was met since ``walk`` found it missing is kept: it is there again."""
        for key in keys:
            self._run("DELETE FROM keys WHERE key = ? AND walk < ?", [encoded(key), walk])

    def close(self) -> None:
        """Every change is in the file already."""
        self._file.close()

    def _run(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._file.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _fault(self.path, error) from error


def _fault(path: Path, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        f"the ledger of sent keys {path} cannot be used: {error}",
        code="sql.ledger",
        hint="is the disk full, may the worker write to delete.ledger.directory? A damaged file may be removed: it is "
        "made anew from the table",
    )


def encoded(key: Key) -> bytes:
    """A key as it stands in the file: JSON, each value with its type."""
    return orjson.dumps([_tagged(value) for value in key])


def decoded(text: bytes) -> Key:
    """Back."""
    return tuple(_READERS[tag](value) for tag, value in orjson.loads(text))


def _tagged(value: Any) -> tuple[str, Any]:
    for kind, tag, write in _WRITERS:
        if isinstance(value, kind):
            return tag, write(value)
    raise TypeError(f"a key of {type(value).__name__} cannot be kept")


# bool before int, datetime before date: each is an instance of the other, too.
_WRITERS: Sequence[tuple[type, str, Any]] = (
    (str, "s", lambda value: value),
    (bool, "b", int),
    (int, "i", str),
    (float, "f", float.hex),
    (Decimal, "d", str),
    (datetime, "t", datetime.isoformat),
    (date, "a", date.isoformat),
    (time, "m", time.isoformat),
    (timedelta, "v", lambda value: [value.days, value.seconds, value.microseconds]),
    (bytes, "x", bytes.hex),
)
_READERS: dict[str, Any] = {
    "s": str,
    "b": bool,
    "i": int,
    "f": float.fromhex,
    "d": Decimal,
    "t": datetime.fromisoformat,
    "a": date.fromisoformat,
    "m": time.fromisoformat,
    "v": lambda parts: timedelta(*parts),
    "x": bytes.fromhex,
}
