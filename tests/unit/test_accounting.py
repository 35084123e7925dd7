"""The accounting rule: every record that was read has exactly one outcome."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.accounting import RecordCauses, balance, record_counts
from headrace.metrics import DESCRIPTIONS, TaskMetrics

OUTCOMES = ("written", "unchanged", "filtered", "dead_lettered", "skipped", "discarded", "in_flight")


@given(st.lists(st.sampled_from(OUTCOMES)), st.integers(0, 50))
def test_the_balance_is_zero_when_every_record_has_one_outcome(outcomes: list[str], split: int) -> None:
    read = max(0, len(outcomes) - split)
    counts = {"read": read, "split": len(outcomes) - read, **{name: outcomes.count(name) for name in OUTCOMES}}

    assert balance(counts) == 0


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1), st.data())
def test_a_record_that_is_lost_or_counted_twice_shows_in_the_balance(outcomes: list[str], data: st.DataObject) -> None:
    counts = {"read": len(outcomes), "split": 0, **{name: outcomes.count(name) for name in OUTCOMES}}
    changed = data.draw(st.sampled_from(OUTCOMES))
    difference = data.draw(st.sampled_from((-1, 1)))
    counts[changed] += difference

    assert balance(counts) == -difference


def test_every_record_counter_of_a_task_is_a_term_of_the_accounting_rule() -> None:
    """Records of a counter that the rule does not know would be missing in the balance."""
    for name in DESCRIPTIONS:
        is_record_counter = name.startswith(("source_record_", "sink_record_"))
        if not is_record_counter or name.endswith(("_lag", "_age_ms", "_remaining")):
            continue
        counts = record_counts({name: 3})
        assert sum(counts.values()) == 3, name


@given(st.dictionaries(st.sampled_from(sorted(DESCRIPTIONS)), st.integers(-5, 5)))
def test_a_change_adds_to_every_counter_that_it_names(amounts: dict[str, int]) -> None:
    metrics = TaskMetrics()
    metrics.change(amounts)
    metrics.change(amounts)

    assert metrics.snapshot() == {name: 2 * amounts.get(name, 0) for name in DESCRIPTIONS}


def test_a_cause_keeps_its_first_time_its_count_and_its_last_example() -> None:
    causes = RecordCauses()
    causes.note("skipped", "data.refused", 2, "t-0 at offset 1")
    (before,) = causes.snapshot()
    causes.note("skipped", "data.refused", 3, "t-0 at offset 9")
    causes.note("unchanged", "version_conflict", 1)
    first, second = causes.snapshot()

    assert (first.count, first.first, first.example) == (5, before.first, "t-0 at offset 9")
    assert first.last >= before.last
    assert (second.outcome, second.code, second.count) == ("unchanged", "version_conflict", 1)


def test_the_number_of_causes_is_limited() -> None:
    causes = RecordCauses()
    for number in range(500):
        causes.note("skipped", f"code.{number}", 1)

    assert len(causes.snapshot()) == 101
    assert sum(cause.count for cause in causes.snapshot()) == 500
