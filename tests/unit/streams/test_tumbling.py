"""Tumbling windows give what a computation over all records at once gives, however the records are divided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.stream_state import StreamState
from headrace.records import ConsumedBatch, TopicPartition
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators.operator import Operator
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows

SIZE, GRACE = 10, 4
View = tuple[int | None, int, int | None]
"""Group, event time, price."""
views = st.lists(st.tuples(st.none() | st.integers(0, 2), st.integers(-15, 60), st.none() | st.integers(-5, 5)))


def window(emit: str) -> Operator:
    aggregates = {"n": "count(*)", "prices": "count(price)", "total": "sum(price)", "low": "min(price)"}
    aggregates |= {"high": "max(price)", "mean": "avg(price)", "one": "first(price)", "end": "last(price)"}
    window = {"window.by": "offer", "window.tumbling": str(SIZE), "window.grace": str(GRACE), "window.emit": emit}
    window |= {f"window.aggregate.{name}": text for name, text in aggregates.items()}
    steps = {f"steps.w.{name}": text for name, text in window.items()}
    keys = ApplicationKeys.parse({"inputs.views": "views", **steps, "outputs.out": "w"})
    plan, findings = make_plan("app", keys)
    assert findings == []
    return plan.steps[0].operator


def as_rows(batch: Sequence[View], first: int) -> Rows:
    values = [{"offer": offer, "price": price} for offer, _, price in batch]
    times = [time for _, time, _ in batch]
    return Rows([None] * len(batch), values, times, list(range(first, first + len(batch))))


def run(operator: Operator, batches: Iterable[Sequence[View]]) -> tuple[list[dict[str, Any]], list[int], StreamState]:
    """Return the results, the offsets of late records, and the state."""
    state = StreamState({"w": "changelog"}, {"w": ("views",)})
    place = TopicPartition("views", 0)
    results: list[dict[str, Any]] = []
    late: list[int] = []
    offset = 0
    for batch in batches:
        before = deepcopy(state.of(place)["w"])
        made = operator.process(as_rows(batch, offset), {}, state.of(place)["w"])
        assert state.of(place)["w"] == before, "the operator changed the state that it was given"
        assert made.refusals == []
        state.apply(0, {"w": made.changes})
        results += made.streams[""].values
        late += made.streams["late"].origins
        offset += len(batch)
    return results, late, state


def naive(records: Sequence[View], *, emit: str) -> tuple[list[dict[str, Any]], list[int]]:
    now: int | None = None
    groups: dict[int, dict[int | None, list[int | None]]] = defaultdict(dict)
    late, changes = [], []
    for offset, (offer, time, price) in enumerate(records):
        now = time if now is None else max(now, time)
        start = time // SIZE * SIZE
        if start + SIZE + GRACE <= now:
            late.append(offset)
            continue
        groups[start].setdefault(offer, []).append(price)
        changes.append(result(offer, start, groups[start][offer]))
    if emit == "change":
        return changes, late
    closed = [start for start in sorted(groups) if now is not None and start + SIZE + GRACE <= now]
    return [result(offer, start, prices) for start in closed for offer, prices in groups[start].items()], late


def result(offer: int | None, start: int, prices: Sequence[int | None]) -> dict[str, Any]:
    known = [price for price in prices if price is not None]
    aggregates: dict[str, Any] = {"n": len(prices), "prices": len(known), "total": sum(known) if known else None}
    aggregates |= {"low": min(known, default=None), "high": max(known, default=None)}
    aggregates |= {"mean": sum(known) / len(known) if known else None}
    aggregates |= {"one": known[0] if known else None, "end": known[-1] if known else None}
    return {"offer": offer, "window_start": start, "window_end": start + SIZE, **aggregates}


@given(st.lists(views), st.sampled_from(["close", "change"]))
def test_results_and_late_records_are_those_of_one_computation_over_all_records(
    batches: list[list[View]], emit: str
) -> None:
    results, late, _ = run(window(emit), batches)

    assert (results, late) == naive([record for batch in batches for record in batch], emit=emit)


@given(st.lists(views))
def test_every_record_is_in_a_result_in_an_open_window_or_late(batches: list[list[View]]) -> None:
    results, late, state = run(window("close"), batches)

    segments = state.of(TopicPartition("views", 0))["w"].values()
    open_windows = [entry[0] for segment in segments for entry in segment.values() if isinstance(entry, list)]
    assert sum(map(len, batches)) == sum(row["n"] for row in results) + sum(open_windows) + len(late)


@given(st.lists(views, min_size=1))
def test_the_changelog_restores_the_state(batches: list[list[View]]) -> None:
    operator = window("close")
    _, _, state = run(operator, batches)
    restored = StreamState({"w": "changelog"}, {"w": ("views",)})
    for batch, partition in state.changelog_batches():
        rows = len(batch)
        place = TopicPartition("changelog", partition)
        assert batch.keys is not None
        restored.restore(ConsumedBatch(place, list(range(rows)), batch.keys, batch.values, [0] * rows, [()] * rows))

    place = TopicPartition("views", 0)
    assert restored.of(place)["w"] == state.of(place)["w"]


def test_a_value_of_a_wrong_type_refuses_its_record_only() -> None:
    rows = as_rows([(1, 0, 1), (1, 1, 2), ([], 2, 3)], 0)  # type: ignore[list-item]
    rows.values[1]["price"] = "x"

    made = window("close").process(rows, {}, {})
    assert {(item.origin, item.error.code) for item in made.refusals} == {(1, "stream.wrong_type")}
    made = window("close").process(rows.only([0, 2]), {}, {})
    assert [(item.origin, item.error.code) for item in made.refusals] == [(2, "stream.wrong_type")]
