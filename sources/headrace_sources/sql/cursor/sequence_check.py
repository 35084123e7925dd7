"""Detects ids that are assigned below the stored position, where rows are never read: the sequence was restarted.

A greatest id below the position is no proof (the newest rows may have been deleted), so the status only mentions it. A
row that appears below the position afterwards is proof, and fails the task.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace import TaskError
from headrace_sources.sql.tables.queries import Relation

_RESTARTED = (
    "if the table's ids were restarted, delete its position, so that it is read from the beginning: `headrace "
    "connectors stop NAME`, `headrace connectors offsets NAME --set` with offset null (--reset for all tables), then "
    "resume"
)

_EMPTY = -(2**63)
"""Stands for the greatest id of no rows."""


class SequenceCheck:
    """For one incrementing column. Used from the task's thread."""

    def __init__(self, relation: Relation, column: str) -> None:
        self._relation = relation
        self._column = column
        self._below: int | None = None  # the greatest id, as long as it is below the position
        self._found: TaskError | None = None
        self.reason: str | None = None
        """For the status."""

    def observe(self, greatest: int | None, position: int | None, any_between: Callable[[int, int], bool]) -> None:
        """Compare the greatest id of the table with the position. Raise TaskError, from then on at each call.

        ``any_between``: whether there is a row after the first id, up to the second.
        """
        if self._found is not None:
            raise self._found
        if position is None:
            return
        now = _EMPTY if greatest is None else greatest
        before = self._below
        if before is not None and now > before and any_between(before, position):
            self._found = TaskError(
                f"{self._relation} has new rows whose {self._column} is not greater than {position}, the stored "
                "position: they would never be read",
                code="sql.cursor_backwards",
                hint=f"{_RESTARTED}; if ids do not grow by themselves, use a mode with a timestamp; if those rows need "
                "not be read, or have greater ids by now, restart the task",
            )
            raise self._found
        self._below = now if now < position else None
        self.reason = None
        if self._below is not None and greatest is not None:
            self.reason = (
                f"the greatest {self._column} of {self._relation} is {greatest}, and rows up to {position} count as "
                f"read. If the newest rows were deleted, nothing is wrong; {_RESTARTED}"
            )
