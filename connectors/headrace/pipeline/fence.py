"""The fence of a task: every effect on Kafka and on the stores passes it, until the task is abandoned.

A task that does not stop in time is abandoned: it remains on its thread and may continue at any later time. Its
successor must not start before it is certain that the abandoned task commits, stores and sends nothing any more. That
includes what its Kafka clients have accepted and would send, or retry, on threads of their own.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Protocol, TypeVar
from weakref import WeakSet

from headrace.errors import HeadraceError


class TaskAbandonedError(HeadraceError):
    """The task was abandoned after its stop timeout; it must end without further effects."""

    default_code = "task.abandoned"


class Abandonable(Protocol):
    """A Kafka client of a task."""

    def abandon(self) -> bool:
        """Discard unfinished work. Return whether nothing is in progress any more. Never blocks."""
        ...


C = TypeVar("C", bound=Abandonable)


class TaskFence:
    """Passed by the task's thread (``with fence:`` around each effect), closed by the reconciler's thread.

    The lock guards the fields only, it is not held during an effect: the reconciler must not wait for Kafka.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._passing = 0
        self._clients: WeakSet[Abandonable] = WeakSet()

    @property
    def closed(self) -> bool:
        """Whether the task was abandoned."""
        return self._closed

    def close(self) -> bool:
        """Refuse further effects. Return whether none is under way; the caller repeats the call until it is True.

        The clients are abandoned after the last effect of the task's thread has ended, so that it adds nothing to them.
        """
        with self._lock:
            self._closed = True
            if self._passing:
                return False
            clients = list(self._clients)
        done = [client.abandon() for client in clients]  # each of them, also when an earlier one is not done
        return all(done)

    def watch(self, client: C) -> C:
        """Abandon ``client`` with the task. Return it. A client that is not referenced any more is forgotten."""
        with self._lock:
            self._clients.add(client)
        return client

    def check(self) -> None:
        """Raise TaskAbandonedError when the fence is closed: for calls into plugins, which may hang."""
        if self._closed:
            raise TaskAbandonedError("the task did not stop in time and was abandoned; this step is not executed")

    def __enter__(self) -> None:
        with self._lock:
            self.check()
            self._passing += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._passing -= 1
