"""Results are those of Kafka Streams 4.4, or differ as docs/streams.md says.

The cases and the recorded results are in tests/golden/kafka_streams.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import orjson
import pytest
import structlog
import yaml

from headrace.pipeline.stream.driver import StreamDriver
from headrace.plugin import StreamContext
from headrace.records import EncodedBatch
from headrace.states import TaskId
from headrace_streams.task import StreamApplicationTask
from tests.golden.kafka_streams.cases import (
    PARTITIONS,
    Case,
    Given,
    Output,
    Result,
    different_cases,
    equal_cases,
    stored,
)
from tests.unit.streams.conftest import VALIDATOR, MakeApplication

EQUAL = {case.name: case for case in equal_cases()}
DIFFERENT = {case.name: case for case in different_cases()}
AGGREGATES = {"records": "count(*)", "total": "sum(amount)", "mean": "avg(amount)"}


@cache
def recorded() -> dict[str, Result]:
    return stored()


def application(case: Case) -> dict[str, Any]:
    """Return the sections of the application that is the case's topology."""
    sizes = {name: f"{size}ms" for name, size in case.parameters.items() if isinstance(size, int)}
    if case.topology in ("table_join", "global_table_join"):
        column = "k" if case.topology == "table_join" else "ref"
        lookup = {"from": "stream", "lookup": {"row": f"rows[{column}]"}}
        made = {"select": {"id": "id", "row": "row.version"}}
        return {
            "inputs": {"stream": "stream"},
            "tables": {"rows": "table"},
            "steps": {
                "found": {**lookup, "missing": "drop"},
                "inner": {"from": "found", **made},
                "looked_up": lookup,
                "left": {"from": "looked_up", **made},
            },
            "outputs": {"out-inner": "inner", "out-left": "left"},
        }
    if case.topology == "interval_join":
        join = {"left": "left", "right": "right", "by": "k", "as": "other", "within": sizes.pop("after"), **sizes}
        made = {"select": {"id": "id", "right": "other.id"}}
        return {
            "inputs": {side: {"topic": side, "key": "k"} for side in ("left", "right")},
            "steps": {
                "pairs": {"join": join},
                "inner": {"from": "pairs", **made},
                "once": {"join": {**join, "type": "left"}},
                "labels": {"from": "once", **made},
            },
            "outputs": {"out-inner": "inner", "out-left": "labels", "late": "once.late"},
        }
    if case.topology == "session_window":
        window = {"by": "k", "session": sizes["gap"], "grace": sizes["grace"], "aggregate": AGGREGATES}
    elif case.topology == "sliding_window":
        window = {"by": "k", "sliding": sizes["difference"], "grace": sizes["grace"], "aggregate": AGGREGATES}
    else:
        size = {"hopping": sizes["size"], "advance": sizes["advance"]}
        if sizes["size"] == sizes["advance"]:
            size = {"tumbling": sizes["size"]}
        window = {"by": "k", **size, "grace": sizes["grace"], "aggregate": AGGREGATES}
    steps = {"keyed": {"filter": "k IS NOT NULL"}, "close": {"from": "keyed", "window": window}}
    outputs = {"out-close": "close", "late": "close.late"}
    if case.topology == "time_window":
        steps["change"] = {"from": "keyed", "window": {**window, "emit": "change"}}
        outputs["out-change"] = "change"
    return {"inputs": {"stream": {"topic": "stream", "key": "k"}}, "steps": steps, "outputs": outputs}


def run(case: Case, sections: dict[str, Any] | None = None) -> list[Output]:
    """Process the records of a case, those of each partition in a driver of its own."""
    broadcast = case.parameters.get("broadcast", ())
    return [
        Output(topic, partition, *record)
        for partition in sorted({record.partition for record in case.records})
        for topic, records in driven(
            sections or application(case),
            [record for record in case.records if record.partition == partition or record.topic in broadcast],
        )
        for record in records
    ]


def driven(sections: dict[str, Any], records: Iterable[Given]) -> Iterable[tuple[str, Sequence[Any]]]:
    config = {"name": "app", "connector.class": "Stream", **flat(sections)}
    own = VALIDATOR.require_connector(config).own
    log = structlog.stdlib.get_logger("headrace.task")
    context = StreamContext(TaskId("app", 0), own, threading.Event(), log, str, lambda reason: None)
    driver = StreamDriver(StreamApplicationTask(), context)
    try:
        for record in records:
            driver.send(record.topic, record.value, record.key, record.time)
        assert driver.refused == []
        return driver.outputs.items()
    finally:
        driver.close()


def flat(sections: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in sections.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def of(outputs: Iterable[Output], topic: str) -> list[Output]:
    return [output for output in outputs if output.topic == topic]


def without_times(outputs: Iterable[Output]) -> list[tuple[int, str | None, dict[str, Any]]]:
    return [(output.partition, output.key, output.value) for output in outputs]


def sorted_results(outputs: Iterable[Output]) -> list[Any]:
    return sorted(without_times(outputs), key=orjson.dumps)


def ids(outputs: Iterable[Output], other: str = "right") -> list[tuple[Any, Any]]:
    return [(output.value["id"], output.value[other]) for output in outputs]


@pytest.mark.parametrize("name", [name for name in EQUAL if "table" in name])
def test_lookups_find_what_joins_with_a_table_find(name: str) -> None:
    case, expected = EQUAL[name], recorded()[name]
    outputs = run(case)
    for topic in ("out-inner", "out-left"):
        assert of(outputs, topic) == expected.of(topic)
    assert len(expected.of("out-inner")) < len(expected.of("out-left")), "no record is without a row"
    assert any(record.topic == "table" and record.value is None for record in case.records)


@pytest.mark.parametrize("name", [name for name in EQUAL if name.startswith(("tumbling", "hopping"))])
def test_windows_have_the_results_of_time_windows(name: str) -> None:
    case, expected = EQUAL[name], recorded()[name]
    outputs = run(case)
    assert without_times(of(outputs, "out-change")) == without_times(expected.of("out-change"))
    assert sorted_results(of(outputs, "out-close")) == sorted_results(expected.of("out-close"))
    late = of(outputs, "late")
    assert len(late) > 3
    if name.startswith("tumbling"):  # Kafka Streams counts a record once for each window of a hopping window
        assert expected.dropped == len(late) + sum(record.key is None for record in case.records)


@pytest.mark.parametrize("name", [name for name in EQUAL if name.startswith("session")])
def test_sessions_have_the_results_of_session_windows(name: str) -> None:
    case, expected = EQUAL[name], recorded()[name]
    outputs = run(case)
    assert sorted_results(of(outputs, "out-close")) == sorted_results(expected.of("out-close"))
    late = of(outputs, "late")
    assert len(late) > 3
    assert expected.dropped == len(late) + sum(record.key is None for record in case.records)


@pytest.mark.parametrize("name", [name for name in EQUAL if name.startswith("sliding")])
def test_sliding_windows_have_the_results_of_sliding_windows(name: str) -> None:
    case, expected = EQUAL[name], recorded()[name]
    outputs = run(case)
    assert sorted_results(of(outputs, "out-close")) == sorted_results(expected.of("out-close"))
    assert len(of(outputs, "out-close")) > len(case.records)
    assert any(earlier.time > later.time for earlier, later in pairwise(case.records)), "no disorder"
    assert of(outputs, "late") == []


@pytest.mark.parametrize(
    "name", [name for name in EQUAL if name.startswith(("tumbling", "hopping", "sliding", "session"))]
)
def test_results_do_not_depend_on_batches_and_partitions(name: str, make_application: MakeApplication) -> None:
    case = EQUAL[name]
    sections = application(case)
    topics = dict.fromkeys(("stream", *sections["outputs"]), PARTITIONS)
    running = make_application(yaml.safe_dump(sections, sort_keys=False), topics)
    producer = running.broker.transactional_producer("given", {})
    producer.init()
    producer.begin()
    for record in case.records:
        key, value = (None if item is None else orjson.dumps(item) for item in (record.key, record.value))
        keys: list[bytes | None] | None = None if key is None else [key]
        producer.send(EncodedBatch(record.topic, [value], keys, [record.time]), record.partition)
    producer.commit()
    producer.close(1)
    tasks = [running.start(number) for number in range(2)]
    running.wait_until_processed()
    for task in tasks:
        task.stop()
    found = [(output.key, output.value) for output in recorded()[name].of("out-close")]
    assert sorted(running.committed_records("out-close"), key=orjson.dumps) == sorted(found, key=orjson.dumps)


@pytest.mark.parametrize("name", [name for name in EQUAL if "join" in name and "table" not in name])
def test_joins_have_the_pairs_of_stream_joins(name: str) -> None:
    case, expected = EQUAL[name], recorded()[name]
    outputs = run(case)
    pairs = [(output.value, output.time) for output in of(outputs, "out-inner")]
    theirs = [(output.value, output.time) for output in expected.of("out-inner")]
    assert sorted(pairs, key=orjson.dumps) == sorted(theirs, key=orjson.dumps)

    first: dict[int, Any] = {}
    for left, right in ids(expected.of("out-left")):
        first[left] = first.get(left) or right  # the first pair, also after a result without a match
    found = ids(of(outputs, "out-left"))
    assert max(Counter(left for left, _ in found).values()) == 1
    assert dict(found) == first
    assert None in first.values(), "no left record is unmatched"


def both(name: str) -> tuple[list[Output], list[Output]]:
    """Return the results of headrace and of Kafka Streams."""
    return run(DIFFERENT[name]), recorded()[name].outputs


def test_null_is_a_group_as_in_sql() -> None:
    case = DIFFERENT["null_group"]
    sections = application(case)
    sections["steps"]["close"]["from"] = sections["steps"]["change"]["from"] = "stream"
    del sections["steps"]["keyed"]
    counts = [(output.key, output.value["records"]) for output in of(run(case, sections), "out-close")]
    assert counts == [(None, 1), ("a", 1)]
    theirs = recorded()[case.name]
    assert [(output.key, output.value["records"]) for output in theirs.of("out-close")] == [("a", 1)]
    assert theirs.dropped == 1


def test_records_without_a_value_are_not_counted() -> None:
    ours, theirs = both("null_value")
    assert [output.value["records"] for output in of(ours, "out-close")] == [1]
    assert [output.value["records"] for output in of(theirs, "out-close")] == [2]


def test_hopping_windows_exist_before_1970() -> None:
    ours, theirs = both("window_before_1970")
    assert [output.value["window_start"] for output in of(ours, "out-close")] == [-5, 0]
    assert [output.value["window_start"] for output in of(theirs, "out-close")] == [0]


def test_the_event_time_of_a_window_is_its_end() -> None:
    ours, theirs = both("event_time")
    assert [output.time for output in of(ours, "out-close")] == [9]
    assert [output.time for output in of(theirs, "out-close")] == [7]
    # A result on change has the time of the record that changed the window; theirs the highest time in the window.
    assert [output.time for output in of(ours, "out-change")] == [7, 3, 30]
    assert [output.time for output in of(theirs, "out-change")] == [7, 7, 30]


def test_a_session_has_one_result_at_the_last_moment_of_its_grace() -> None:
    ours, theirs = both("session_at_its_last_moment")
    assert [(output.key, output.value["records"]) for output in of(ours, "out-close")] == [("a", 2), ("b", 1)]
    found = [(output.key, output.value["window_start"], output.value["records"]) for output in of(theirs, "out-close")]
    assert found == [("a", 0, 1), ("a", 0, 1), ("b", 10, 1)]  # two results of one session


def test_a_sliding_window_has_one_result_at_the_last_moment_of_its_grace() -> None:
    ours, theirs = both("sliding_at_its_last_moment")
    assert [output.value["records"] for output in of(ours, "out-close")] == [2]
    found = [(output.value["window_end"], output.value["records"]) for output in of(theirs, "out-close")]
    assert found == [(1_000, 1), (1_000, 2), (9_000, 1)]  # two results of one window


def test_a_record_after_its_grace_counts_in_the_sliding_windows_that_are_open() -> None:
    ours, theirs = both("sliding_late")
    found = [output.value for output in of(ours, "out-close")]
    assert [value["records"] for value in found if value["window_start"] <= 950 <= value["window_end"]] == [1, 3, 4]
    assert [value["records"] for value in found if value["window_end"] == 950] == []
    assert all(value in [output.value for output in of(theirs, "out-close")] for value in found)


def test_a_left_join_has_one_result_for_each_left_record() -> None:
    ours, theirs = both("join_of_several")
    assert ids(of(ours, "out-left"))[0] == ("left 0", "right 10")
    assert len(of(ours, "out-left")) == 2
    assert ids(of(theirs, "out-left"))[:2] == [("left 0", "right 10"), ("left 0", "right 20")]
    assert ids(of(ours, "out-inner")) == ids(of(theirs, "out-inner"))


def test_a_left_record_is_not_unmatched_before_its_grace_has_passed() -> None:
    ours, theirs = both("join_within_grace")
    assert ids(out for out in of(ours, "out-left") if out.key == "a") == [("left 1000", "right 1095")]
    found = ids(out for out in of(theirs, "out-left") if out.key == "a")
    assert found == [("left 1000", None), ("left 1000", "right 1095")]  # a false result first


def test_a_backlog_of_one_side_does_not_make_records_of_the_other_unmatched() -> None:
    ours, theirs = both("join_with_a_backlog")
    assert ("left 0", "right 50") in ids(of(ours, "out-left"))
    assert ("left 0", None) in ids(of(theirs, "out-left"))


def test_a_record_that_is_late_matches_nothing() -> None:
    ours, theirs = both("join_of_a_late_record")
    assert [output.value["id"] for output in of(ours, "late")] == ["left 940"]
    assert "left 940" not in [left for left, _ in ids(of(ours, "out-left"))]
    assert ("left 940", "right 960") in ids(of(theirs, "out-left"))
