"""The interface of operators: their input and their result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace import Changes, DataError, Segments, WorkerEvent
from headrace_streams.expressions import ExpressionError
from headrace_streams.rows import Rows

Tables = Mapping[str, Mapping[Any, Any]]
"""Rows of global tables, by table and key."""


class StepRefusal(NamedTuple):
    """A row that a step refuses: its origin (see :class:`Rows`), and why."""

    origin: int
    error: DataError
    result: tuple[Any, Any, int] | None = None
    """Of a result that the step itself cannot make: its key, what is known of its value, and its event time."""


@dataclass(slots=True)
class StepResult:
    """The result of a step for one batch."""

    streams: dict[str, Rows]
    """By the suffix of the stream's name: ``""`` is the step's own stream, ``late`` that of a window's late records."""
    refusals: list[StepRefusal] = field(default_factory=list)
    changes: Changes = field(default_factory=dict)
    """Of the step's state. The state itself is not changed."""
    dropped: int = 0
    """Rows that the step does not pass on, as configured."""
    late: int = 0
    """Rows that came after the end of their window and its grace."""
    counts: dict[str, int] = field(default_factory=dict)
    """Of a join, see :class:`headrace.StepCounts`."""
    events: list[WorkerEvent] = field(default_factory=list)
    """What an operator of the application should learn of."""


class Operator(ABC):
    """A pure function: equal rows, tables and state give an equal result, and none of them is changed.

    The framework relies on that: it processes a batch again without the records that were refused.
    """

    stateful = False

    @abstractmethod
    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        """Process one batch of one partition. ``state`` is that of the step and the partition."""

    def advance_time(self, silent: int, sides: Collection[str], state: Segments) -> StepResult:
        """Advance the stream time by ``silent`` milliseconds, in which the partition had no record.

        ``sides``: of a join, those that the silent topic feeds. Without changes: there is nothing that could close.
        """
        return StepResult({})

    def accounts(self, state: Segments) -> Mapping[str, Mapping[str, int]]:
        """Return the accounts in a state by suffix, as in :class:`StepResult`; see :mod:`headrace.step_accounting`."""
        return {}

    def open_records(self, state: Segments) -> Mapping[str, int]:
        """Count the open records of each account in the entries of a state."""
        return {}

    def span(self) -> int:
        """Return the milliseconds of event time after which everything of this moment has closed."""
        return 0

    @abstractmethod
    def describe(self) -> str:
        """Return what the operator does, for ``headrace stream explain``."""

    def shown_state(self, key: Any, state: Segments) -> list[dict[str, Any]]:
        """Return what the state holds of a key, an object for each entry. ``state`` has only entries of this key."""
        return [{"segment": segment, "value": entries[key]} for segment, entries in sorted(state.items())]

    def state_definition(self) -> str:
        """Return what the state depends on: a state that was made with another text is not used.

        It is stored, so equal operators must have equal texts in all versions.
        """
        return self.describe()


@dataclass(frozen=True)
class StepPlace:
    """Where a step is written, for errors of records."""

    step: str
    key: str
    """The configuration key of the step."""

    def refusal(
        self, origin: int, what: str, error: ExpressionError | str, code: str = "", *, key: str = "", **details: str
    ) -> StepRefusal:
        """Return the refusal of a row by the expression or function ``what``. ``key``: where it is written, if it is
        known more exactly than the step's key. ``details`` are further headers of the dead letter."""
        reason = error.message if isinstance(error, ExpressionError) else error
        found_code = code or (error.code if isinstance(error, ExpressionError) else "stream.step")
        hint = error.hint if isinstance(error, ExpressionError) else ""
        details = {"step": self.step, "expression": what, "key": key or self.key, **details}
        text = f"step '{self.step}': {what}: {reason}"
        return StepRefusal(origin, DataError(text, code=found_code, hint=hint, details=details))
