"""The fence of a task: every effect on Kafka and on the stores passes it, until the task is abandoned.

A task that does not stop in time is left behind on its thread and may go on at any later moment. Its successor must
not start before it is certain that the abandoned task commits, stores and sends nothing any more.
"""

from __future__ import annotations

import threading
from types import TracebackType

from headrace.errors import HeadraceError


class TaskAbandonedError(HeadraceError):
    """The task was left behind after its stop timeout; it must have no effect any more and end."""

    default_code = "task.abandoned"


class TaskFence:
    """Passed by the task's thread (``with fence:`` around each effect), closed by the reconciler's thread.

    The lock guards the two fields only, it is not held during an effect: the reconciler must not wait for Kafka.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._passing = 0

    @property
    def closed(self) -> bool:
        """Whether the task was abandoned."""
        return self._closed

    def close(self) -> bool:
        """Let no further effect pass; return whether none is under way. Ask again until it is True."""
        with self._lock:
            self._closed = True
            return self._passing == 0

    def check(self) -> None:
        """Raise TaskAbandonedError when the fence is closed: for calls into plugins, which may hang."""
        if self._closed:
            raise TaskAbandonedError("the task did not stop in time and was left behind; this step is not carried out")

    def __enter__(self) -> None:
        with self._lock:
            self.check()
            self._passing += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._passing -= 1
