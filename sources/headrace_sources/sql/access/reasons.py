"""What a task is waiting for or busy with, several things at a time, as the one sentence that the status shows."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Reasons:
    """Used from the task's thread. ``explain`` is the context's, called only when the sentence changes."""

    def __init__(self, explain: Callable[[str | None], None]) -> None:
        self._explain = explain
        self._known: dict[Hashable, str] = {}
        self._shown: str | None = None

    def has(self, subject: Hashable) -> bool:
        """Whether there is a reason about ``subject``."""
        return subject in self._known

    def set(self, subject: Hashable, reason: str | None) -> None:
        """The reason about ``subject`` from now on; None = there is none any more."""
        if reason is None:
            self._known.pop(subject, None)
        else:
            self._known[subject] = reason
        shown = "; ".join(dict.fromkeys(self._known.values())) or None
        if shown != self._shown:
            self._shown = shown
            self._explain(shown)
