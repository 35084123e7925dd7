"""A worker carries out requests, for any behaviour of its connectors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.errors import (
    CommandError,
    ConfigError,
    ConflictError,
    Finding,
    InfrastructureError,
    NotFoundError,
    RetriableError,
)
from headrace.files import read_config_file
from headrace.states import State, TargetState, TaskId
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

STARTED = TargetState.STARTED
NUMBERS = {"name": "numbers", "connector.class": "NumbersSource", "topic": "numbers"}
MEMORY = {"name": "memory", "connector.class": "MemorySink", "topics": "numbers"}


def rows(process: Any) -> list[Any]:
    return [json.loads(record.value)["n"] for record in process.kafka_clients.records("numbers")]


def test_rows_are_copied_from_source_to_sink(start: Callable[..., Any], world: Any) -> None:
    process = start()
    created = process.worker.create("numbers", NUMBERS, STARTED)
    assert created.type == "source"
    process.worker.create("memory", MEMORY, STARTED)
    eventually(lambda: len(world.written) == 100)
    eventually(lambda: process.state("numbers", 0) == process.state("memory", 0) == "RUNNING")
    assert process.worker.tasks("numbers")[0].config == {
        **NUMBERS,
        "task": "0",
        "task.class": "runtime_test_plugins.NumbersTask",
    }
    eventually(lambda: process.worker.offsets("numbers") == [{"partition": {"task": "0"}, "offset": {"n": 100}}])
    eventually(lambda: process.worker.offsets("memory") != [])
    eventually(lambda: process.worker.offsets("memory")[0]["offset"] == {"kafka_offset": 100})
    eventually(lambda: process.worker.health().status == "healthy")  # found on a separate thread


def test_offsets_of_a_sink_are_those_of_the_group_id_of_the_worker_file(start: Callable[..., Any], world: Any) -> None:
    process = start(consumer_group_id="ours")
    process.worker.create("numbers", NUMBERS, STARTED)
    process.worker.create("memory", MEMORY, STARTED)
    eventually(lambda: [item["offset"] for item in process.worker.offsets("memory")] == [{"kafka_offset": 100}])


def test_offsets_of_a_stopped_source_are_set_and_deleted(start: Callable[..., Any], world: Any) -> None:
    process = start()
    process.worker.create("numbers", NUMBERS, STARTED)
    process.worker.create("memory", MEMORY, STARTED)
    eventually(lambda: process.worker.offsets("numbers") == [{"partition": {"task": "0"}, "offset": {"n": 100}}])
    with pytest.raises(CommandError, match=r"must be in the STOPPED state.*/connectors/numbers/stop"):
        process.worker.reset_offsets("numbers")

    process.worker.set_target_state("numbers", TargetState.STOPPED)
    eventually(lambda: _allowed(lambda: process.worker.alter_offsets("numbers", [({"task": "0"}, {"n": 90})])))
    assert process.worker.offsets("numbers") == [{"partition": {"task": "0"}, "offset": {"n": 90}}]
    process.worker.set_target_state("numbers", STARTED)
    eventually(lambda: len(rows(process)) == 110)

    process.worker.set_target_state("numbers", TargetState.STOPPED)
    eventually(lambda: _allowed(lambda: process.worker.reset_offsets("numbers")))
    assert process.worker.offsets("numbers") == []
    process.worker.set_target_state("numbers", STARTED)
    eventually(lambda: len(rows(process)) == 210)


def test_a_source_refuses_and_translates_partitions_of_changed_offsets(start: Callable[..., Any], world: Any) -> None:
    process = start()
    process.worker.create("numbers", NUMBERS, TargetState.STOPPED)
    eventually(lambda: _allowed(lambda: process.worker.alter_offsets("numbers", [({"number": "0"}, {"n": 90})])))
    assert process.worker.offsets("numbers") == [{"partition": {"task": "0"}, "offset": {"n": 90}}]
    with pytest.raises(ConfigError, match="no partition"):
        process.worker.alter_offsets("numbers", [({"x": "y"}, {"n": 1})])
    process.worker.alter_offsets("numbers", [({"task": "0"}, None)])
    assert process.worker.offsets("numbers") == []


def test_offsets_of_a_stopped_sink_are_changed_in_its_group(start: Callable[..., Any], world: Any) -> None:
    process = start()
    process.worker.create("numbers", NUMBERS, STARTED)
    process.worker.create("memory", MEMORY, STARTED)
    eventually(lambda: process.kafka_clients.committed("connect-memory"))
    eventually(lambda: len(world.written) == 100)
    partition = {"kafka_topic": "numbers", "kafka_partition": "0"}
    with pytest.raises(CommandError, match=r"must be in the STOPPED state"):
        process.worker.reset_offsets("memory")

    process.worker.set_target_state("memory", TargetState.STOPPED)
    eventually(lambda: _allowed(lambda: process.worker.alter_offsets("memory", [(partition, {"kafka_offset": 90})])))
    assert process.worker.offsets("memory")[0]["offset"] == {"kafka_offset": 90}
    process.worker.set_target_state("memory", STARTED)
    eventually(lambda: len(world.written) == 110)

    process.worker.set_target_state("memory", TargetState.STOPPED)
    eventually(lambda: _allowed(lambda: process.worker.reset_offsets("memory")))
    assert process.worker.offsets("memory")[0]["offset"] == {"kafka_offset": 0}
    process.worker.set_target_state("memory", STARTED)
    eventually(lambda: len(world.written) == 210)


def _allowed(change: Callable[[], None]) -> bool:
    """Return whether the tasks have ended, so that offsets could be changed."""
    try:
        change()
    except RetriableError:
        return False
    return True


def test_a_second_run_continues_and_drops_connectors_of_the_first(start: Callable[..., Any], world: Any) -> None:
    first = start()
    first.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: len(rows(first)) == 100)
    first.application.stop()
    assert world.stops == 1
    second = start(kafka_clients=first.kafka_clients)
    assert second.worker.connectors() == []
    second.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: second.state("numbers", 0) == "RUNNING")
    second.application.stop()
    assert len(rows(first)) == 100


def test_connectors_are_kept_when_a_file_is_given_for_them(
    start: Callable[..., Any], world: Any, tmp_path: Path
) -> None:
    file = {"config_storage_file_filename": str(tmp_path / "configs.jsonl")}
    first = start(**file)
    first.worker.create("numbers", NUMBERS, STARTED)
    first.worker.create("idle", {**NUMBERS, "topic": "idle"}, TargetState.STOPPED)
    eventually(lambda: first.state("numbers", 0) == "RUNNING")
    first.application.stop()
    second = start(kafka_clients=first.kafka_clients, **file)
    assert second.worker.connectors() == ["idle", "numbers"]
    eventually(lambda: second.state("numbers", 0) == "RUNNING")
    eventually(lambda: second.state("idle") == "STOPPED")


def test_a_connector_is_paused_resumed_stopped_and_deleted(start: Callable[..., Any], world: Any) -> None:
    process = start()
    process.worker.create("numbers", {**NUMBERS, "tasks.max": "2"}, STARTED)
    eventually(lambda: process.state("numbers", 1) == "RUNNING")
    process.worker.set_target_state("numbers", TargetState.PAUSED)
    eventually(lambda: process.state("numbers", 0) == process.state("numbers", 1) == "PAUSED")
    assert process.state("numbers") == "PAUSED"
    process.worker.set_target_state("numbers", STARTED)
    eventually(lambda: process.state("numbers", 0) == process.state("numbers", 1) == "RUNNING")
    process.worker.set_target_state("numbers", TargetState.STOPPED)
    eventually(lambda: process.state("numbers") == "STOPPED" and not process.worker.status("numbers").tasks)
    eventually(lambda: world.stops == 2)
    assert process.worker.tasks("numbers") == []
    process.worker.set_target_state("numbers", STARTED)
    eventually(lambda: process.state("numbers", 1) == "RUNNING")
    process.worker.delete("numbers")
    eventually(lambda: world.stops == 4)
    with pytest.raises(NotFoundError):
        process.worker.status("numbers")


def test_invalid_requests_are_refused(start: Callable[..., Any]) -> None:
    process = start()
    with pytest.raises(ConfigError) as caught:
        process.worker.create("numbers", {"connector.class": "NumberSource", "tasks.max": "x"}, STARTED)
    assert {finding.code for finding in caught.value.findings} == {"plugin.unknown", "config.invalid_value"}
    process.worker.create("numbers", NUMBERS, STARTED)
    with pytest.raises(ConflictError):
        process.worker.create("numbers", NUMBERS, STARTED)
    with pytest.raises(NotFoundError, match="numbers"):
        process.worker.delete("nubmers")
    with pytest.raises(NotFoundError):
        process.worker.restart_task(TaskId("numbers", 7))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda worker: worker.info("nope"), "Connector nope not found"),
        (lambda worker: worker.delete("nope"), "Connector nope not found"),
        (lambda worker: worker.status("nope"), "No status found for connector nope"),
        (lambda worker: worker.set_target_state("nope", TargetState.PAUSED), "Unknown connector nope"),
        (lambda worker: worker.set_target_state("nope", TargetState.STOPPED), "Connector nope not found"),
        (lambda worker: worker.restart("nope", include_tasks=True, only_failed=False), "Unknown connector: nope"),
        (lambda worker: worker.restart_task(TaskId("nope", 0)), "Unknown connector: nope"),
    ],
)
def test_an_unknown_name_is_refused_with_the_message_of_connect(
    start: Callable[..., Any], ask: Callable[[Any], object], words: str
) -> None:
    with pytest.raises(NotFoundError, match=f"^{words}"):
        ask(start().worker)


def test_a_connector_whose_task_configs_fail_is_failed_or_retried(start: Callable[..., Any], world: Any) -> None:
    process = start()
    world.planning = [InfrastructureError("wrong password", code="sql.authentication")]
    process.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: process.state("numbers") == "FAILED")
    assert process.worker.status("numbers").connector.trace == (
        "sql.authentication: wrong password (the connector is started again by itself)"
    )
    world.planning = [SystemExit("the connector exits")]
    process.worker.restart("numbers", include_tasks=False, only_failed=False)
    eventually(lambda: "SystemExit: the connector exits" in (process.worker.status("numbers").connector.trace or ""))
    assert process.state("numbers") == "FAILED"
    world.planning = [RetriableError("database is away")] * 3
    process.worker.restart("numbers", include_tasks=False, only_failed=False)
    eventually(lambda: process.state("numbers", 0) == "RUNNING")
    assert process.state("numbers") == "RUNNING"


def test_connect_rest_19_a_new_connector_is_unassigned_until_its_task_configurations_are_known(
    start: Callable[..., Any], world: Any
) -> None:
    process = start()
    world.planning = [RetriableError("database is away")] * 10_000
    process.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: "database is away" in (process.worker.status("numbers").connector.reason or ""))
    status = process.worker.status("numbers")
    assert status.connector.state is State.UNASSIGNED
    assert status.tasks == {}
    world.planning.clear()
    eventually(lambda: process.state("numbers") == process.state("numbers", 0) == "RUNNING")


def test_only_tasks_with_a_changed_configuration_are_restarted(start: Callable[..., Any], world: Any) -> None:
    world.watch = 0.01
    world.follows = [
        RetriableError("database is away"),
        InfrastructureError("wrong password", code="sql.authentication"),
        RuntimeError("a bug of the connector's"),
        SystemExit("the connector exits"),
        ["0", "moved", "2"],
        ["0", "moved", "2", "new"],
        ["0"],
    ]
    process = start()
    process.worker.create("numbers", {**NUMBERS, "tasks.max": "3"}, STARTED)
    eventually(lambda: [info.config["task"] for info in process.worker.tasks("numbers")] == ["0"])
    eventually(lambda: world.stops >= 3)  # the changed task and its successor; 2 and new
    eventually(lambda: process.state("numbers", 0) == "RUNNING")
    begun = [config["task"] for config in world.starts]

    assert begun.count("0") == 1
    assert begun.count("2") <= 1
    assert process.state("numbers") == "RUNNING"


def test_a_connector_that_is_stopped_is_not_watched(start: Callable[..., Any], world: Any) -> None:
    world.watch, world.follows = 0.01, []
    process = start()
    process.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: process.state("numbers", 0) == "RUNNING")
    process.worker.set_target_state("numbers", TargetState.STOPPED)
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "numbers-connector"])


def test_an_unexpected_error_fails_one_task_with_its_trace_and_a_restart_recovers_it(
    start: Callable[..., Any], world: Any
) -> None:
    process = start()
    world.polling = [ZeroDivisionError("oops")]
    process.worker.create("numbers", {**NUMBERS, "tasks.max": "2"}, STARTED)
    eventually(lambda: sorted([process.state("numbers", 0), process.state("numbers", 1)]) == ["FAILED", "RUNNING"])
    failed = 0 if process.state("numbers", 0) == "FAILED" else 1
    trace = process.worker.status("numbers").tasks[failed].trace or ""
    assert "ZeroDivisionError: oops" in trace
    assert "Traceback" in trace
    assert process.state("numbers") == "RUNNING"
    planned = process.worker.restart("numbers", include_tasks=True, only_failed=True)
    assert planned.tasks[failed].state.value == "RESTARTING"
    assert planned.tasks[1 - failed].state.value == "RUNNING"
    eventually(lambda: process.state("numbers", failed) == "RUNNING")
    assert len(world.starts) == 3


def test_a_changed_configuration_restarts_tasks_and_an_equal_one_does_not(
    start: Callable[..., Any], world: Any
) -> None:
    process = start()
    process.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: process.state("numbers", 0) == "RUNNING")
    created, _ = process.worker.put_config("numbers", NUMBERS)
    assert not created
    info = process.worker.patch_config("numbers", {"speed": "5", "tasks.max": "2"})
    assert info.config["speed"] == "5"
    eventually(lambda: [each.get("speed") for each in world.starts] == [None, "5", "5"])
    eventually(lambda: process.state("numbers", 1) == "RUNNING")
    # Before one of them is stopped, perhaps at once.
    eventually(
        lambda: sorted({row["task"] for row in map(_value, process.kafka_clients.records("numbers"))}) == ["0", "1"]
    )
    process.worker.patch_config("numbers", {"tasks.max": None})
    eventually(lambda: list(process.worker.status("numbers").tasks) == [0])
    eventually(lambda: len(process.worker.tasks("numbers")) == 1)


def _value(record: Any) -> Any:
    return json.loads(record.value)


def test_a_new_task_starts_after_the_task_that_had_its_share_has_ended(start: Callable[..., Any], world: Any) -> None:
    process = start(task_shutdown_graceful_timeout_ms="60000")
    world.hang = threading.Event()
    process.worker.create("numbers", NUMBERS, STARTED)
    assert world.hanging.wait(20)
    hung, world.hang = world.hang, None
    process.worker.patch_config("numbers", {"tasks.max": "2"})
    eventually(lambda: len(process.worker.tasks("numbers")) == 2)
    # The following plan has been carried out when this call returns; a started task has a state.
    assert process.state("numbers", 1) == ""
    hung.set()
    eventually(lambda: process.state("numbers", 0) == process.state("numbers", 1) == "RUNNING")
    assert len(world.starts) == 3


def test_a_task_that_does_not_stop_is_abandoned_and_its_successor_runs(start: Callable[..., Any], world: Any) -> None:
    process = start(task_shutdown_graceful_timeout_ms="500")
    world.hang = threading.Event()
    process.worker.create("numbers", NUMBERS, STARTED)
    assert world.hanging.wait(20)
    hung, world.hang = world.hang, None
    try:
        process.worker.restart_task(TaskId("numbers", 0))
        eventually(lambda: len(world.starts) == 2)
        eventually(lambda: process.state("numbers", 0) == "RUNNING")
        eventually(lambda: len(rows(process)) == 100)
    finally:
        hung.set()
    # Statuses of the abandoned task are ignored, and it sends no more records.
    eventually(lambda: world.stops == 1)
    assert process.state("numbers", 0) == "RUNNING"
    assert rows(process) == list(range(100))


def test_an_abandoned_source_task_does_not_send_records_buffered_in_its_client(
    start: Callable[..., Any], world: Any
) -> None:
    process = start(task_shutdown_graceful_timeout_ms="300")
    process.kafka_clients.hold_deliveries()
    world.hang_at, world.hang = 2, threading.Event()
    hung = world.hang
    process.worker.create("numbers", NUMBERS, STARTED)
    assert world.hanging.wait(20)
    assert process.worker.metrics()[TaskId("numbers", 0)]["source_record_active_count"] == 2
    process.worker.set_target_state("numbers", TargetState.STOPPED)
    eventually(lambda: TaskId("numbers", 0) not in process.worker.metrics())  # it was left behind
    process.kafka_clients.release()
    hung.set()
    eventually(lambda: world.stops == 1)
    assert rows(process) == []
    assert process.state("numbers") == "STOPPED"


def test_an_abandoned_sink_task_does_not_commit_after_its_connector_was_stopped(
    start: Callable[..., Any], world: Any
) -> None:
    process = start(task_shutdown_graceful_timeout_ms="300")
    world.put_hang = hung = threading.Event()
    process.worker.create("numbers", NUMBERS, STARTED)
    process.worker.create("memory", MEMORY, STARTED)
    assert world.hanging.wait(20)
    process.worker.set_target_state("memory", TargetState.STOPPED)
    eventually(lambda: TaskId("memory", 0) not in process.worker.metrics())  # it was left behind
    hung.set()
    eventually(lambda: world.sink_stops == 1)
    assert process.kafka_clients.committed("connect-memory") == {}
    assert process.state("memory") == "STOPPED"


def test_a_failed_task_names_the_location_in_the_configuration_file(
    start: Callable[..., Any], world: Any, tmp_path: Path
) -> None:
    path = tmp_path / "memory.yaml"
    path.write_text("name: memory\nconnector.class: MemorySink\ntopics: numbers\nerrors:\n  tolerance: none\n")
    world.rejected = {7}
    process = start(read_config_file(path))
    process.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: process.state("memory", 0) == "FAILED")
    trace = process.worker.status("memory").tasks[0].trace or ""
    assert "mapping conflict" in trace
    assert f"{path}:5:3" in trace


def test_a_worker_without_kafka_starts_and_reports_what_it_waits_for(start: Callable[..., Any], world: Any) -> None:
    from headrace.broker.in_memory import InMemoryKafka

    kafka_clients = InMemoryKafka()
    kafka_clients.down = True
    process = start(kafka_clients=kafka_clients)
    process.worker.create("numbers", NUMBERS, STARTED)
    eventually(lambda: "does not answer" in (_reason(process) or ""))
    health = HTTP.get(f"{process.application.url}/health", timeout=60)
    assert (health.status_code, health.json()["status"]) == (503, "starting")
    kafka_clients.down = False
    eventually(lambda: process.state("numbers", 0) == "RUNNING")
    eventually(lambda: _reason(process) is None)
    eventually(lambda: process.worker.health().status == "healthy")
    eventually(lambda: len(rows(process)) == 100)


def _reason(process: Any) -> str | None:
    task = process.worker.status("numbers").tasks.get(0)
    return task.reason if task is not None else None


def test_a_stop_is_prompt_when_a_task_does_not_stop(start: Callable[..., Any], world: Any) -> None:
    process = start(task_shutdown_graceful_timeout_ms="500")
    world.hang = threading.Event()
    process.worker.create("numbers", NUMBERS, STARTED)
    assert world.hanging.wait(20)
    process.application.stop()  # would wait without end otherwise
    with pytest.raises(httpx.ConnectError):
        HTTP.get(process.application.url)


class TestConnectContract:
    """Behaviour that equals that of Kafka Connect 4.4."""

    def test_topics_that_tasks_use_are_tracked_until_they_are_reset(
        self, start: Callable[..., Any], world: Any
    ) -> None:
        process = start()
        process.worker.create("numbers", NUMBERS, STARTED)
        process.worker.create("memory", MEMORY, STARTED)
        eventually(lambda: len(world.written) == 100)
        topics = [process.worker.topics(name) for name in ("numbers", "memory")]
        assert topics[0] == topics[1] != []
        process.worker.set_target_state("numbers", TargetState.STOPPED)
        eventually(lambda: process.worker.status("numbers").tasks == {})
        assert process.worker.reset_topics("numbers")
        assert process.worker.topics("numbers") == []
        with pytest.raises(NotFoundError):
            process.worker.topics("nubmers")

    def test_topics_are_not_tracked_when_tracking_is_disabled(self, start: Callable[..., Any]) -> None:
        process = start(topic_tracking_enable="false")
        process.worker.create("numbers", NUMBERS, STARTED)
        assert process.worker.topics("numbers") is None
        assert not process.worker.reset_topics("numbers")

    def test_connect_rest_12_statuses_have_the_version_of_the_plugin(self, start: Callable[..., Any]) -> None:
        process = start()
        process.worker.create("numbers", NUMBERS, STARTED)
        eventually(lambda: process.state("numbers", 0) == "RUNNING")
        status = process.worker.status("numbers")
        assert status.connector.version == status.tasks[0].version
        assert status.connector.version

    def test_connect_rest_20_a_task_of_a_stopped_connector_cannot_be_restarted(self, start: Callable[..., Any]) -> None:
        process = start()
        process.worker.create("numbers", NUMBERS, TargetState.STOPPED)
        with pytest.raises(ConflictError, match="stopped"):
            process.worker.restart_task(TaskId("numbers", 0))


def test_a_trace_has_each_code_once() -> None:
    finding = Finding("sql.missing_column", "the table orders has no column id", "incrementing.column.name")
    assert ConfigError(findings=[finding]).with_code().count("sql.missing_column") == 1
    assert ConfigError("no table", code="sql.missing_table").with_code() == "sql.missing_table: no table"
