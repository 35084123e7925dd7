"""The rows that were sent and may be read again: the last version of each row after the watermark, within a bound.

Forgetting is harmless: a forgotten row is sent once more. A wrong memory would lose rows, so a version is a digest of
the whole row, and only the version of a row that was sent *last* counts: a row that went from A to B and back to A has
three versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from headrace_sources.sql.cursor.position import CursorPosition, Row


class SentRow(NamedTuple):
    """What is remembered of a row. ``name`` distinguishes it from other rows."""

    name: Any
    position: CursorPosition
    version: bytes


class SentRows:
    """``identity``: indexes of the columns that distinguish rows; empty where only their whole content does.

    :meth:`unsent` changes nothing: what is sent is remembered by :meth:`remember`, once it is sure to be sent.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.identity: Sequence[int] = ()
        self._sent: dict[Any, tuple[CursorPosition, bytes]] = {}
        self._seen: Counter[bytes] = Counter()  # how often this read has met each row without a name
        self.forgotten = 0
        """Rows that were removed because of the limit; each may be sent a second time."""

    def __len__(self) -> int:
        return len(self._sent)

    def begin(self) -> None:
        """Begin a new read."""
        self._seen.clear()

    def unsent(self, row: Row, position: CursorPosition) -> SentRow | None:
        """Return what to remember of ``row`` when it is sent; None when this version of it was sent last."""
        version = blake2b(repr(tuple(row)).encode(errors="surrogatepass"), digest_size=16).digest()
        if self.identity:
            name: Any = tuple(row[column] for column in self.identity)
        else:
            # Equal rows are counted: the first of this read is the first that was sent, and so on.
            self._seen[version] += 1
            name = (version, self._seen[version])
        known = self._sent.get(name)
        return None if known is not None and known[1] == version else SentRow(name, position, version)

    def remember(self, rows: Iterable[SentRow]) -> None:
        """Note that ``rows`` are sent."""
        for name, position, version in rows:
            self._sent.pop(name, None)  # the newest are last
            if len(self._sent) >= self._limit:
                self.forgotten += 1
                del self._sent[next(iter(self._sent))]
            self._sent[name] = (position, version)

    def forget(self, low: CursorPosition) -> None:
        """Forget rows up to ``low``: they are not read again."""
        self._sent = {name: item for name, item in self._sent.items() if item[0] > low}
