"""Steps with state account for every record that they have taken, over restarts, and show what their state lacks."""

from __future__ import annotations

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.pipeline.stream import state_codec
from headrace.records import EncodedBatch
from headrace.step_accounting import TERMS, step_balance
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import MakeApplication, RunningTask

INPUTS = """
inputs:
  views: {topic: impressions, time: at, key: id}
  clicks: {topic: conversions, time: at, key: id}
"""
STEPS = {
    "tumbling": "{from: views, window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*)}}}",
    "hopping": "{from: views, window: {by: id, hopping: 10ms, advance: 5ms, grace: 0, aggregate: {v: max(at)}}}",
    "sliding": "{from: views, window: {by: id, sliding: 4ms, grace: 0, aggregate: {views: count(*)}}}",
    "session": "{from: views, window: {by: id, session: 4ms, grace: 0, aggregate: {views: count(*)}}}",
    "top": "{from: views, top: {by: id, tumbling: 10ms, grace: 0, order: at, limit: 1}}",
    "deduplicate": "{from: views, deduplicate: {by: id, within: 5ms, grace: 0}}",
    "join": "{join: {type: left, left: views, right: clicks, by: id, within: 5ms, grace: 0}}",
}
# Of key 1 at 0, 3, 12, 11, 2 and of key 2 at 30; clicks of key 1 at 4 and 40.
EXPECTED = {
    "tumbling": {"tumbling": {"received": 6, "results": 4, "late": 1, "open": 1}},
    "hopping": {"hopping": {"received": 11, "results": 8, "late": 1, "open": 2}},
    "sliding": {"sliding": {"received": 6, "results": 4, "late": 1, "open": 1}},
    "session": {"session": {"received": 6, "results": 4, "late": 1, "open": 1}},
    "top": {"top": {"received": 6, "results": 2, "dropped": 2, "late": 1, "open": 1}},
    "deduplicate": {"deduplicate": {"received": 6, "results": 3, "dropped": 1, "late": 2}},
    "join": {
        "join.left": {"received": 6, "matched": 2, "unmatched": 2, "late": 2},
        "join.right": {"received": 2, "expired": 1, "open": 1},
    },
}


def application_of(kind: str) -> str:
    """Return the sections of an application with one step."""
    inputs = INPUTS if kind == "join" else INPUTS.replace("  clicks: {topic: conversions, time: at, key: id}\n", "")
    return f"{inputs}steps:\n  {kind}: {STEPS[kind]}\noutputs:\n  results: {kind}\n"


@pytest.mark.parametrize("kind", STEPS)
def test_the_outcome_of_each_record_is_known_over_restarts(kind: str, make_application: MakeApplication) -> None:
    application = make_application(application_of(kind), {"impressions": 1, "conversions": 1})
    parts: list[tuple[str, list[tuple[int, int]]]] = [
        ("impressions", [(1, 0), (1, 3), (1, 12)]),
        ("conversions", [(1, 4)]),
        ("impressions", [(1, 11), (1, 2), (2, 30)]),
        ("conversions", [(1, 40)]),
    ]
    for topic, rows in parts:
        if topic not in application.inputs():
            continue
        application.send(topic, [{"id": key, "at": at} for key, at in rows], [key for key, _ in rows])
        task = application.start()
        application.wait_until_processed()
        found = shown(task)
        task.stop()

    wanted = {step: dict.fromkeys(TERMS, 0) | terms for step, terms in EXPECTED[kind].items()}
    assert found == wanted
    assert all(step_balance(account) == 0 for account in found.values())


def shown(task: RunningTask) -> dict[str, dict[str, int]]:
    """Return the accounts that a running task shows."""
    eventually(lambda: task.metrics.snapshot()["stream_record_active_count"] == 0)
    return task.metrics.steps.snapshot()


def test_an_entry_that_the_changelog_lost_is_shown_and_raises_a_condition(make_application: MakeApplication) -> None:
    application = make_application(application_of("tumbling"), {"impressions": 1})
    application.send("impressions", [{"id": key, "at": 5} for key in (1, 1, 1, 2)], [1, 1, 1, 2])
    task = application.start()
    application.wait_until_processed()
    task.stop()
    delete(application.broker, "app-tumbling-changelog", [0, 1])

    task = application.start()
    eventually(lambda: bool(task.metrics.steps.snapshot()), 10)
    account = task.metrics.steps.snapshot()["tumbling"]
    assert (account["received"], account["open"], step_balance(account)) == (4, 1, 3)
    assert task.metrics.parts()["tumbling"]["stream_account_missing"] == 3
    (condition,) = application.conditions.of("app")
    assert (condition.code, condition.count) == ("stream.unaccounted", 3)
    assert "step 'tumbling'" in condition.text
    assert "headrace stream reset app" in condition.hint

    application.send("impressions", [{"id": 9, "at": 50}], [9])
    application.wait_until_processed()
    eventually(lambda: task.metrics.steps.snapshot()["tumbling"]["results"] == 1)
    assert step_balance(task.metrics.steps.snapshot()["tumbling"]) == 3
    assert application.conditions.of("app") == [condition], "a known difference is reported once"
    task.stop_event.set()


def delete(broker: InMemoryKafka, changelog: str, key: list[object]) -> None:
    producer = broker.producer({})
    producer.send(EncodedBatch(changelog, [None], list(state_codec.encode([key]))))
    producer.close(1)


def test_accounts_of_partitions_that_were_given_away_are_not_shown(make_application: MakeApplication) -> None:
    application = make_application(application_of("tumbling"), {"impressions": 2})
    application.send("impressions", [{"id": key, "at": 5} for key in range(20)], list(range(20)))
    first = application.start(0)
    application.wait_until_processed()
    assert shown(first)["tumbling"]["open"] == 20

    second = application.start(1)
    eventually(lambda: bool(second.metrics.steps.snapshot()), 10)
    parts = [task.metrics.steps.snapshot()["tumbling"]["open"] for task in (first, second)]
    assert sum(parts) == 20
    assert all(parts)
    for task in (first, second):
        task.stop()
