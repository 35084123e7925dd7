"""The lease of a worker on its tasks: until when no other worker can have been given them.

The coordinator removes a worker from the group when it has received no heartbeat for the session timeout. A worker
that is cut off cannot learn this, so it counts itself: a heartbeat that was answered was received after it was *sent*,
hence the lease ends one session timeout after the sending of the last heartbeat that was answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def boot_time() -> float:
    """Return seconds of a clock that continues while the machine is suspended, as the coordinator's does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """Thread-safe. It has ended before the first :meth:`renew`."""

    def __init__(self, session: float, clock: Callable[[], float] = boot_time) -> None:
        """``session``: the session timeout in seconds."""
        self.session = session
        self._clock = clock
        self._lock = threading.Lock()
        self._end = float("-inf")

    def renew(self, sent: float) -> None:
        """Note that a request was answered that was sent at ``sent``; answers may arrive in any order."""
        with self._lock:
            self._end = max(self._end, sent + self.session)

    def end(self) -> None:
        """End the lease: the coordinator has said that this worker is not a member."""
        with self._lock:
            self._end = float("-inf")

    def left(self) -> float:
        """Return the seconds that are left; negative when it has ended."""
        return self._end - self._clock()

    def now(self) -> float:
        """Return the time of the lease's clock."""
        return self._clock()
