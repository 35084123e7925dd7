"""Runs one stateful operator over batches of one partition, as a task does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

from headrace.pipeline.stream.state import StreamState
from headrace.plugin import Segments
from headrace.records import ConsumedBatch, TopicPartition
from headrace.step_accounting import step_balance
from headrace_streams.operators.operator import Operator
from headrace_streams.rows import Rows

PARTITION = TopicPartition("views", 0)
"""The partition whose records the operator gets; its step is called ``w``."""
R = TypeVar("R")


class OperatorRun(NamedTuple):
    """What an operator made of all batches."""

    results: list[dict[str, Any]]
    late: list[int]
    """Offsets."""
    state: StreamState


def assert_balanced(operator: Operator, state: Segments) -> None:
    """Assert that the outcome of each record is known, and that the state has those that are open."""
    counted = operator.open_records(state)
    for suffix, account in operator.accounts(state).items():
        assert step_balance(account) == 0, account
        assert account.get("open", 0) == counted.get(suffix, 0)


def new_state() -> StreamState:
    return StreamState({"w": "changelog"}, {"w": ("views",)})


def run_operator(
    operator: Operator, batches: Iterable[Sequence[R]], as_rows: Callable[[Sequence[R], int], Rows]
) -> OperatorRun:
    """Process batches of records. ``as_rows`` is given the records of a batch and the offset of the first."""
    state = new_state()
    results: list[dict[str, Any]] = []
    late: list[int] = []
    offset = 0
    for batch in batches:
        before = deepcopy(state.of(PARTITION)["w"])
        made = operator.process(as_rows(batch, offset), {}, state.of(PARTITION)["w"])
        assert state.of(PARTITION)["w"] == before, "the operator changed the state that it was given"
        assert made.refusals == []
        state.apply(PARTITION.partition, {"w": made.changes})
        assert_balanced(operator, state.of(PARTITION)["w"])
        results += made.streams[""].values
        late += made.streams["late"].origins
        assert made.late == len(made.streams["late"])
        offset += len(batch)
    return OperatorRun(results, late, state)


def restored(state: StreamState) -> StreamState:
    """Return the state that the changelog of a state restores."""
    found = new_state()
    for batch, partition in state.changelog_batches():
        rows = len(batch)
        place = TopicPartition("changelog", partition)
        assert batch.keys is not None
        found.restore(ConsumedBatch(place, list(range(rows)), batch.keys, batch.values, [0] * rows, [()] * rows))
    return found
