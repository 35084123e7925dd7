"""Tumbling and hopping windows give what a computation over all records gives, however the records are divided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from operator import itemgetter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.stream.state import StreamState
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.operators.operator import Operator
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.unit.examples import packed
from tests.unit.streams.operator_runs import PARTITION, OperatorRun, restored, run_operator

SIZE, GRACE = 10, 4
View = tuple[int | None, int, int | None]
"""Group, event time, price."""
views = st.lists(packed([0, 1, 2, None], [*range(61), *range(-15, 0)], [0, *range(1, 6), *range(-5, 0), None]))


@cache
def window(emit: str, advance: int = SIZE) -> Operator:
    aggregates = {"n": "count(*)", "prices": "count(price)", "total": "sum(price)", "low": "min(price)"}
    aggregates |= {"high": "max(price)", "mean": "avg(price)", "one": "first(price)", "end": "last(price)"}
    window = {"window.by": "offer", "window.grace": str(GRACE), "window.emit": emit}
    if advance == SIZE:
        window["window.tumbling"] = str(SIZE)
    else:
        window |= {"window.hopping": str(SIZE), "window.advance": str(advance)}
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


def run(operator: Operator, batches: Iterable[Sequence[View]]) -> OperatorRun:
    return run_operator(operator, batches, as_rows)


def naive(records: Sequence[View], *, emit: str, advance: int = SIZE) -> tuple[list[dict[str, Any]], list[int]]:
    """Compute the results and the offsets of late records, window by window over all records."""
    moments = [time for _, time, _ in records]
    streamed = list(accumulate(moments, max))  # the stream time at each record
    closed: list[dict[str, Any]] = []
    changes: list[tuple[int, int, dict[str, Any]]] = []
    in_a_window: set[int] = set()
    for start in windows(moments, advance):
        groups: dict[int | None, list[int | None]] = {}
        for offset, (offer, time, price) in enumerate(records):
            if start <= time < start + SIZE and streamed[offset] < start + SIZE + GRACE:
                groups.setdefault(offer, []).append(price)
                changes.append((offset, start, result(offer, start, groups[offer])))
                in_a_window.add(offset)
        if streamed[-1] >= start + SIZE + GRACE:
            closed += [result(offer, start, prices) for offer, prices in groups.items()]
    late = [offset for offset in range(len(records)) if offset not in in_a_window]
    if emit == "close":
        return closed, late
    return [value for _, _, value in sorted(changes, key=itemgetter(0, 1))], late


def windows(moments: Sequence[int], advance: int) -> range:
    """Return the starts of all windows that these times are in, and of some more."""
    if not moments:
        return range(0)
    first = (min(moments) - SIZE) // advance * advance
    return range(first, max(moments) + 1, advance)


def result(offer: int | None, start: int, prices: Sequence[int | None]) -> dict[str, Any]:
    known = [price for price in prices if price is not None]
    aggregates: dict[str, Any] = {"n": len(prices), "prices": len(known), "total": sum(known) if known else None}
    aggregates |= {"low": min(known, default=None), "high": max(known, default=None)}
    aggregates |= {"mean": sum(known) / len(known) if known else None}
    aggregates |= {"one": known[0] if known else None, "end": known[-1] if known else None}
    return {"offer": offer, "window_start": start, "window_end": start + SIZE, **aggregates}


@given(st.lists(views), st.sampled_from(["close", "change"]), st.sampled_from([SIZE, 5, 4, 1]))
def test_results_and_late_records_are_those_of_one_computation_over_all_records(
    batches: list[list[View]], emit: str, advance: int
) -> None:
    results, late, _ = run(window(emit, advance), batches)

    assert (results, late) == naive([record for batch in batches for record in batch], emit=emit, advance=advance)


@given(st.lists(views))
def test_every_record_is_in_a_result_in_an_open_window_or_late(batches: list[list[View]]) -> None:
    results, late, state = run(window("close"), batches)

    assert sum(map(len, batches)) == sum(row["n"] for row in results) + in_open_windows(state) + len(late)


@given(st.lists(views))
def test_a_record_counts_in_each_hopping_window_that_is_open_when_it_comes(batches: list[list[View]]) -> None:
    results, _, state = run(window("close", 4), batches)

    moments = [time for batch in batches for _, time, _ in batch]
    streamed = accumulate(moments, max)
    expected = sum(
        start <= time < start + SIZE and now < start + SIZE + GRACE
        for time, now in zip(moments, streamed, strict=True)
        for start in windows(moments, 4)
    )
    assert sum(row["n"] for row in results) + in_open_windows(state) == expected


def in_open_windows(state: StreamState) -> int:
    segments = state.of(PARTITION)["w"].values()
    return sum(entry[0] for segment in segments for entry in segment.values() if isinstance(entry, list))


def test_a_record_that_is_late_for_some_windows_counts_in_the_others() -> None:
    # At stream time 18 the window [0, 10) and the window [4, 14) have closed, [8, 18) has not.
    results, late, _ = run(window("close", 4), [[(1, 18, 1), (1, 9, 1), (1, 7, 1), (1, 40, 1)]])

    assert {row["window_start"]: row["n"] for row in results} == {8: 1, 12: 1, 16: 1}
    assert late == [2]


@given(st.lists(views, min_size=1))
def test_the_changelog_restores_the_state(batches: list[list[View]]) -> None:
    state = run(window("close"), batches).state
    content = state.of(PARTITION)["w"]

    assert restored(state).of(PARTITION)["w"] == content


def test_a_value_of_a_wrong_type_refuses_its_record_only() -> None:
    rows = as_rows([(1, 0, 1), (1, 1, 2), ([], 2, 3)], 0)  # type: ignore[list-item]
    rows.values[1]["price"] = "x"

    made = window("close").process(rows, {}, {})
    assert {(item.origin, item.error.code) for item in made.refusals} == {(1, "stream.wrong_type")}
    made = window("close").process(rows.only([0, 2]), {}, {})
    assert [(item.origin, item.error.code) for item in made.refusals] == [(2, "stream.wrong_type")]
