"""Call methods of a task on one thread, as a worker does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def on_one_thread(work: Callable[[], T], timeout: float) -> T:
    """Return what ``work`` returns on a thread of its own, and raise what it raises.

    Raise AssertionError when it has not ended within ``timeout`` seconds; the thread is then left behind.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again below, on the thread of the test
            errors.append(error)

    thread = threading.Thread(target=run, name="task", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise AssertionError(f"{work.__doc__ or work.__name__} has not ended within {timeout:g} s")
    if errors:
        raise errors[0]
    return results[0]
