"""What was sent and may be read again: the last version of each row behind the watermark, within a bound.

Forgetting is harmless: a forgotten row is sent once more. Remembering wrongly would lose rows, so a version is a
digest of the whole row, and only the *last* one that was sent of a row counts: a row that went from A to B and back to
A is three versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

from headrace_sources.sql.cursor.watermark import Place

Row = Sequence[Any]
Entry = tuple[Any, Place, bytes]
"""Name of a row, its place, the version."""


class SentRows:
    """``identity``: places of the columns that tell rows apart; empty where rows have no name but their content.

    Asking (:meth:`entry`) changes nothing: what is sent is remembered by :meth:`remember`, once it is sure to be sent.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.identity: Sequence[int] = ()
        self._sent: dict[Any, tuple[Place, bytes]] = {}
        self._seen: Counter[bytes] = Counter()  # equal rows without a name: how many this read has met
        self.forgotten = 0
        """Rows that the bound pushed out; each may be sent a second time."""

    def __len__(self) -> int:
        return len(self._sent)

    def begin(self) -> None:
        """A new read begins."""
        self._seen.clear()

    def entry(self, row: Row, place: Place) -> Entry | None:
        """What to remember of ``row`` when it is sent; None when this version of it was sent last."""
        version = blake2b(repr(tuple(row)).encode(errors="surrogatepass"), digest_size=16).digest()
        if self.identity:
            name: Any = tuple(row[column] for column in self.identity)
        else:
            # Two equal rows are two rows: the first of this read is the first that was sent, and so on.
            self._seen[version] += 1
            name = (version, self._seen[version])
        known = self._sent.get(name)
        return None if known is not None and known[1] == version else (name, place, version)

    def remember(self, entries: Iterable[Entry]) -> None:
        """They are sent."""
        for name, place, version in entries:
            self._sent.pop(name, None)  # the newest stand last
            if len(self._sent) >= self._limit:
                self.forgotten += 1
                del self._sent[next(iter(self._sent))]
            self._sent[name] = (place, version)

    def forget(self, low: Place) -> None:
        """What stands up to ``low`` will not be read again."""
        self._sent = {name: item for name, item in self._sent.items() if item[0] > low}
