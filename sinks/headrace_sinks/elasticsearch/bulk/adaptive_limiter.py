"""Adaptive concurrency: fewer and smaller bulk requests while Elasticsearch is overloaded, more again when it recovers.

Additive increase, multiplicative decrease, as in TCP: the limits are halved at a sign of overload and grow in small
steps while requests succeed. A full write queue (429, 503) reduces the number of concurrent requests first, and their
size only when a single request is refused entirely, because a request accepted in part writes more than many small
ones. A timeout reduces the size at once. A response to a request sent before the last reduction does not reduce the
limits again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

GROW_AFTER = 4
"""Consecutive successful requests before the limits grow."""
FORGET_SIZE_AFTER = 300.0
"""Seconds after which a size refused with 413 is tried again, because the server's limit may have been raised."""


@dataclass(frozen=True, slots=True)
class SendPermit:
    """Permission to send one request; ``cut`` is the number of reductions made before it was sent."""

    cut: int


class AdaptiveConcurrencyLimiter:
    """Shared by the sending threads. ``rows`` and ``bytes`` limit one request now (``bytes`` 0 = unlimited)."""

    def __init__(
        self, most_requests: int, most_rows: int, most_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``most_bytes`` below 1 = no limit."""
        self._most_requests, self._most_rows, self._most_bytes = most_requests, most_rows, max(0, most_bytes)
        self.requests, self.rows, self.bytes = most_requests, most_rows, self._most_bytes
        self._too_large: tuple[int, float] | None = None  # bytes, and when that was seen
        self._running = 0
        self._cut = 0
        self._well = 0
        self._changed = threading.Condition()
        self._clock = clock

    @property
    def slowed(self) -> bool:
        """Whether the current limits are below the configured ones."""
        return self.requests < self._most_requests or self.rows < self._most_rows or self.bytes != self._most_bytes

    @contextmanager
    def acquire(self) -> Iterator[SendPermit]:
        """Wait for a permit and hold it during the request."""
        with self._changed:
            while self._running >= self.requests:
                self._changed.wait()
            self._running += 1
            permit = SendPermit(self._cut)
        try:
            yield permit
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def went_well(self) -> None:
        """Record a request that was accepted entirely."""
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

    def overloaded(self, permit: SendPermit, *, too_slow: bool = False, partly: bool = False) -> None:
        """Record a request that was refused (``partly``: in part), or that timed out (``too_slow``)."""
        with self._changed:
            self._well = 0
            if permit.cut < self._cut:
                return
            self._cut += 1
            if too_slow or (self.requests == 1 and not partly):
                self.rows = max(1, self.rows // 2)
            self.requests = max(1, self.requests // 2)

    def too_large(self, size: int) -> None:
        """Record that a request of ``size`` bytes was refused with 413."""
        with self._changed:
            self._well = 0
            if self._too_large is None or size < self._too_large[0]:
                self._too_large = (size, self._clock())
            self.bytes = max(1, min(self.bytes or size, size) // 2)

    def _grown_bytes(self) -> int:
        if self._too_large is not None and self._clock() - self._too_large[1] > FORGET_SIZE_AFTER:
            self._too_large = None
        most = self._most_bytes
        if self._too_large is not None:
            # Stay below the refused size; finding the last tenth would cost further refused requests.
            most = min(most or self._too_large[0], self._too_large[0] * 9 // 10)
        if not self.bytes:
            return 0
        grown = self.bytes + max(1, self.bytes // 4)
        if most:
            return min(most, grown)
        return grown if grown < 2**31 else 0
