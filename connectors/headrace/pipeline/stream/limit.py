"""The limit of a task's state: a warning before it, and a stop at it."""

from __future__ import annotations

from headrace.errors import TaskError
from headrace.pipeline.control import TaskControl

_WARN, _CALM = 0.8, 0.7
"""Parts of the limit from which the state is reported, and below which it is not any more."""
_HINT = (
    "raise state.max.entries if the worker has the memory, run more tasks so that each has fewer partitions, or keep "
    "less state: shorter windows and a shorter grace"
)


class StateLimit:
    """Checked after each commit and after state was restored."""

    def __init__(self, most: int | None, control: TaskControl) -> None:
        """``most``: entries; None: no limit."""
        self._most = most
        self._control = control
        self._warned = False

    def check(self, entries: int) -> None:
        """Report a state that comes near its limit. Raise TaskError when it is above it."""
        if self._most is None:
            return
        if entries > self._most:
            raise TaskError(
                f"the state has {entries:,} entries, and state.max.entries allows {self._most:,}: the task stops "
                "before the worker runs out of memory. Everything up to the last commit is kept",
                code="stream.state_full",
                hint=_HINT,
            )
        if entries >= _WARN * self._most:
            self._control.notes.set("state", f"state: {entries:,} of at most {self._most:,} entries")
            if not self._warned:
                text = f"the state of a task has {entries:,} entries, and the task stops at {self._most:,}"
                self._control.raise_condition("stream.state_size", text, _HINT)
            self._warned = True
        elif self._warned and entries < _CALM * self._most:
            self._control.notes.set("state", None)
            self._warned = False
