"""How much is sent at once: less when Elasticsearch is overloaded, more again when it keeps up.

As TCP does it: halved at a sign of overload, grown in small steps while all goes well. A full queue (429, 503) first
asks for fewer requests, and for smaller ones only when one alone is too much: a request that is taken in part gets more
done than many small ones. No answer in time asks for smaller ones at once. Answers to requests that were sent before
the last cut say nothing new and cut nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

GROW_AFTER = 4
"""Requests in a row that went well before more is sent at once."""
FORGET_SIZE_AFTER = 300.0
"""Seconds: then a size that was too large (413) is tried again, as somebody may have raised the limit."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request's leave to go, and what was sent at once when it went."""

    cut: int


class Pace:
    """Shared by the threads that send. ``rows`` and ``bytes`` are what one request may have now (``bytes`` 0 = all)."""

    def __init__(self, most_requests: int, most_rows: int, most_bytes: int) -> None:
        """``most_bytes`` below 1 = no limit."""
        self._most_requests, self._most_rows, self._most_bytes = most_requests, most_rows, max(0, most_bytes)
        self.requests, self.rows, self.bytes = most_requests, most_rows, self._most_bytes
        self._too_large: tuple[int, float] | None = None  # bytes, and when that was seen
        self._running = 0
        self._cut = 0
        self._well = 0
        self._changed = threading.Condition()

    @property
    def slowed(self) -> bool:
        """Whether less is sent at once than the user allows."""
        return self.requests < self._most_requests or self.rows < self._most_rows or self.bytes != self._most_bytes

    @contextmanager
    def leave(self) -> Iterator[Ticket]:
        """Wait until one more request may run, and count it while it does."""
        with self._changed:
            while self._running >= self.requests:
                self._changed.wait()
            self._running += 1
            ticket = Ticket(self._cut)
        try:
            yield ticket
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def went_well(self) -> None:
        """A request was taken in whole."""
        if not self.slowed:
            return
        with self._changed:
            self._well += 1
            if self._well < GROW_AFTER:
                return
            self._well = 0
            self.requests = min(self._most_requests, self.requests + 1)
            self.rows = min(self._most_rows, self.rows * 2)
            self.bytes = self._grown_bytes()
            self._changed.notify_all()

    def overloaded(self, ticket: Ticket, *, too_slow: bool = False, partly: bool = False) -> None:
        """Elasticsearch could not take a request (``partly``: only a part of it), or not answer it in time."""
        with self._changed:
            self._well = 0
            if ticket.cut < self._cut:
                return
            self._cut += 1
            if too_slow or (self.requests == 1 and not partly):
                self.rows = max(1, self.rows // 2)
            self.requests = max(1, self.requests // 2)

    def too_large(self, size: int) -> None:
        """A request of so many bytes was refused for its size."""
        with self._changed:
            self._well = 0
            if self._too_large is None or size < self._too_large[0]:
                self._too_large = (size, time.monotonic())
            self.bytes = max(1, min(self.bytes or size, size) // 2)

    def _grown_bytes(self) -> int:
        if self._too_large is not None and time.monotonic() - self._too_large[1] > FORGET_SIZE_AFTER:
            self._too_large = None
        most = self._most_bytes
        if self._too_large is not None:
            # Between a size that was taken and one that was not; the last tenth is not worth asking again for.
            most = min(most or self._too_large[0], self._too_large[0] * 9 // 10)
        if not self.bytes:
            return 0
        grown = self.bytes + max(1, self.bytes // 4)
        if most:
            return min(most, grown)
        return grown if grown < 2**31 else 0
