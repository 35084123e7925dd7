"""Notices ids that are handed out behind the stored position, where nobody looks: a table that was numbered anew.

A greatest id behind the position is no proof (the newest rows may have been deleted), so it is only said. A row that
turns up behind the position afterwards is one: it would never be read.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace import TaskError
from headrace_sources.sql.tables.queries import Relation

_ANEW = (
    "if the table was numbered anew, forget its position, so that it is read from the beginning: `headrace connectors "
    "stop NAME`, `headrace connectors offsets NAME --set` with offset null (--reset for all tables), then resume"
)

_EMPTY = -(2**63)
"""Stands for the greatest id of no rows."""


class SequenceCheck:
    """Of one incrementing column. Used from the task's thread."""

    def __init__(self, relation: Relation, column: str) -> None:
        self._relation = relation
        self._column = column
        self._behind: int | None = None  # the greatest id, as long as it is behind the position
        self._found: TaskError | None = None
        self.reason: str | None = None
        """What the status should say."""

    def observe(self, greatest: int | None, position: int | None, any_between: Callable[[int, int], bool]) -> None:
        """``greatest``: the greatest id there is. ``any_between``: is there a row behind the one, up to the other?

        Raises TaskError, from then on each time.
        """
        if self._found is not None:
            raise self._found
        if position is None:
            return
        now = _EMPTY if greatest is None else greatest
        before = self._behind
        if before is not None and now > before and any_between(before, position):
            self._found = TaskError(
                f"{self._relation} has new rows whose {self._column} is not behind {position}, up to where it was read:"
                " they would never be read",
                code="sql.cursor_backwards",
                hint=f"{_ANEW}; if ids do not grow by themselves, use a mode with a timestamp; if those rows need "
                "not be read, or have got greater ids, restart the task",
            )
            raise self._found
        self._behind = now if now < position else None
        self.reason = None
        if self._behind is not None and greatest is not None:
            self.reason = (
                f"the greatest {self._column} of {self._relation} is {greatest}, and up to {position} all counts as "
                f"read. If the newest rows were deleted, this is as it should be; {_ANEW}"
            )
