"""Tables in the partitions of a stream: their rows are state, changed in the order of event time.

The state has one segment with the rows by key. The step that changes it and the one that looks rows up share it, so
both are in one task, and a table needs memory for the rows of the task's partitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace import Changes, Segments
from headrace_streams.operators.operator import Operator, StepPlace, StepRefusal, StepResult, Tables
from headrace_streams.operators.stateless import Lookup
from headrace_streams.rows import Rows

_ROWS = 0
"""The segment."""


@dataclass(frozen=True)
class TableRowKeys(Operator):
    """Checks records of a table's topic, and makes their keys scalars; the key of several columns is a tuple."""

    column: str | None
    """The column that must be equal to the record's key."""
    place: StepPlace

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        good: list[int] = []
        keys: list[Any] = []
        refusals: list[StepRefusal] = []
        for row, (record_key, value) in enumerate(zip(rows.keys, rows.values, strict=True)):
            key = scalar_key(record_key)
            if problem := self._problem(key, value):
                refusals.append(self.place.refusal(rows.origins[row], *problem))
            else:
                good.append(row)
                keys.append(key)
        kept = rows.only(good)
        return StepResult({"": Rows(keys, kept.values, kept.times, kept.origins)}, refusals)

    def _problem(self, key: Any, value: Any) -> tuple[str, str, str] | None:
        if value is not None and not isinstance(value, dict):
            return "value", "the value is not an object", "stream.not_an_object"
        if key is None or isinstance(key, (list, dict)):
            return "key", "the key is not a scalar", "stream.table_key"
        if self.column is not None and value is not None and value.get(self.column) != key:
            return self.column, f"the record's key is not equal to column '{self.column}'", "stream.key_column"
        return None

    def describe(self) -> str:
        return "rows of the table by the record's key"


@dataclass(frozen=True)
class TableChanges(Operator):
    """Keeps the last row of each key; a null value deletes it."""

    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        changes: Changes = {_ROWS: dict(zip(rows.keys, rows.values, strict=True))} if len(rows) else {}
        return StepResult({}, changes=changes)

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return the row."""
        return [entries[key] for entries in state.values()]

    def describe(self) -> str:
        return "changes of the table"


@dataclass(frozen=True)
class PartitionedLookup(Lookup):
    """Adds the row of a table that has the same partitions as the stream."""

    stateful = True

    def rows_of(self, tables: Tables, state: Segments) -> Mapping[Any, Any]:
        return state.get(_ROWS, {})

    def describe(self) -> str:
        return f"{super().describe()}, in the partitions of the stream"


def scalar_key(key: Any) -> Any:
    """Return the key of a table for a record key: an object of one column is its value, of several it is a tuple."""
    if isinstance(key, dict):
        return next(iter(key.values())) if len(key) == 1 else tuple(key.values())
    return key
