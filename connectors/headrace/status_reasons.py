"""The reasons that a task's status shows: what it waits for or is busy with, several things at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable


class StatusReasons:
    """Reasons by cause, shown as one text: the longest-standing cause first, equal texts once. Thread-safe.

    ``publish`` is called with the text, None when there is no reason left, and only when the text changes. A task
    passes its context's ``set_status_reason``.
    """

    def __init__(self, publish: Callable[[str | None], None] | None = None) -> None:
        self._publish = publish
        self._lock = threading.Lock()  # also while publishing, so that the newest text is published last
        self._reasons: dict[Hashable, str] = {}
        self.current: str | None = None
        """The text as it was last published."""

    def __contains__(self, cause: Hashable) -> bool:
        return cause in self._reasons

    def set(self, cause: Hashable, reason: str | None) -> None:
        """Set or replace the reason of ``cause``; None removes it. A replaced reason keeps its place."""
        with self._lock:
            if self._reasons.get(cause) == reason:
                return
            if reason is None:
                del self._reasons[cause]
            else:
                self._reasons[cause] = reason
            self._update()

    def clear(self) -> None:
        """Remove all reasons."""
        with self._lock:
            self._reasons.clear()
            self._update()

    def _update(self) -> None:
        text = "; ".join(dict.fromkeys(self._reasons.values())) or None
        if text != self.current:
            self.current = text
            if self._publish is not None:
                self._publish(text)
