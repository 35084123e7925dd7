"""Counters and states, for Prometheus and as JSON."""

import sys
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.accounting import PartitionAccount, RecordCause
from headrace.broker.client_traffic import ClientTraffic
from headrace.conditions import Condition
from headrace.metrics import DESCRIPTIONS, TaskMetrics
from headrace.rest.connect_metrics import ConnectCollector
from headrace.rest.prometheus_metrics import WorkerCollector
from headrace.rest.prometheus_names import exposed
from headrace.runtime.api import ConnectorStatus
from headrace.states import State, Status, TaskId


@pytest.fixture
def counted(worker: Any) -> None:
    worker.add('odd "name"')
    metrics = TaskMetrics()
    metrics.add("source_record_poll_total", 7)
    metrics.set("sink_record_lag", 3)
    metrics.add("total_record_errors", 2)
    metrics.set("sink_record_age_ms", 1500)
    worker.counters = {TaskId('odd "name"', 0): metrics.snapshot(), TaskId("b", 1): {"sink_record_lag": 5}}


@pytest.mark.usefixtures("counted")
def test_every_metric_of_the_table_is_in_the_prometheus_response(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, sample.labels["connector"]): sample.value
        for family in families.values()
        for sample in family.samples
        if sample.labels.keys() == {"connector", "task"}
        and sample.name not in ("headrace_task_retrying", "headrace_task_balance")
    }
    assert {name for name, _ in samples} == {exposed(name).name for name in DESCRIPTIONS}
    assert samples["headrace_source_record_poll_total", 'odd "name"'] == 7
    assert samples["headrace_sink_record_lag", 'odd "name"'] == 3
    assert samples["headrace_task_record_errors_total", 'odd "name"'] == 2
    assert samples["headrace_sink_record_age_seconds", 'odd "name"'] == 1.5
    assert samples["headrace_sink_record_lag", "b"] == 5
    assert ("headrace_source_record_poll_total", "b") not in samples
    assert families["headrace_source_record_poll"].type == "counter"
    assert families["headrace_sink_record_lag"].type == "gauge"
    assert families["headrace_source_record_poll"].documentation == DESCRIPTIONS["source_record_poll_total"]


@pytest.mark.usefixtures("counted")
def test_prometheus_has_one_series_per_state(client: httpx.Client) -> None:
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    for name in ("headrace_connector_state", "headrace_task_state"):
        states = {sample.labels["state"]: sample.value for sample in families[name].samples}
        assert states == {state.value: float(state is State.RUNNING) for state in State}
    assert {sample.labels["task"] for sample in families["headrace_task_state"].samples} == {"0"}


@pytest.mark.usefixtures("counted")
def test_json_has_the_metrics_of_each_task(client: httpx.Client) -> None:
    answer = client.get("/v1/metrics")
    assert answer.status_code == 200
    tasks = answer.json()["tasks"]
    assert tasks[0] == {"connector": "b", "task": 1, "metrics": {"sink_record_lag": 5}}
    assert (tasks[1]["connector"], tasks[1]["metrics"]["source_record_poll_total"]) == ('odd "name"', 7)
    assert set(tasks[1]["metrics"]) == set(DESCRIPTIONS)


def test_a_worker_without_tasks_has_no_metrics(client: httpx.Client) -> None:
    assert client.get("/v1/metrics").json() == {"tasks": []}
    assert client.get("/metrics").status_code == 200


@pytest.mark.usefixtures("counted")
def test_gauges_of_tables_have_a_label_per_table(worker: Any, client: httpx.Client) -> None:
    metrics = TaskMetrics()
    metrics.set_lag("public.orders", 1500, 7)
    metrics.set_lag("public.orders", 2500, 9)
    worker.parts = {TaskId("b", 1): metrics.parts(), TaskId('odd "name"', 0): {}}

    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    [seconds] = families["headrace_source_position_lag_seconds"].samples
    [records] = families["headrace_source_position_lag_records"].samples
    assert seconds.labels == records.labels == {"connector": "b", "task": "1", "part": "public.orders"}
    assert (seconds.value, records.value) == (2.5, 9)
    first, second = client.get("/v1/metrics").json()["tasks"]
    assert first["parts"] == {"public.orders": {"source_position_lag_ms": 2500, "source_position_lag_records": 9}}
    assert "parts" not in second


def test_records_are_accounted_for_by_task(worker: Any, client: httpx.Client) -> None:
    worker.add("orders")
    worker.counters = {TaskId("orders", 0): {"sink_record_read_total": 5, "sink_record_send_total": 3}}
    worker.causes = [RecordCause("skipped", "data.refused", 1, 1_000, 2_000, "t-0 at offset 7")]
    worker.accounts = {"t-0": PartitionAccount(3, 12, 5, retention=1, no_record=2, unexplained=1)}

    answer = client.get("/v1/connectors/orders/records").json()

    (task,) = answer["tasks"]
    assert (task["id"], task["counts"]["read"], task["counts"]["written"], task["balance"]) == (0, 5, 3, 2)
    assert task["causes"][0]["example"] == "t-0 at offset 7"
    assert task["partitions"] == [
        {
            "partition": "t-0",
            "start": 3,
            "next": 12,
            "read": 5,
            "retention": 1,
            "no_record": 2,
            "unexplained": 1,
            "balance": 0,
        }
    ]
    assert client.get("/v1/connectors/none/records").status_code == 404


def samples_of(collector: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the values by name and by the values of the labels, sorted by the names of the labels."""
    return {
        (sample.name, tuple(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


@pytest.fixture
def search(worker: Any) -> Any:
    """A sink with a running task that retries, a failed task and one that waits for its start."""
    worker.add("search")
    tasks = {
        0: Status(State.RUNNING, "w", reason="no answer", retrying=True),
        1: Status(State.FAILED, "w", trace="bad"),
        2: Status(State.UNASSIGNED, "w", reason="no answer"),
        3: Status(State.RUNNING, "w", reason="reading"),
    }
    condition = Condition("records.skipped", "some", "", 1, 2, 3, "")
    running = Status(State.RUNNING, "w", version="1.2")
    worker.statuses["search"] = ConnectorStatus("search", running, tasks, "sink", (condition,), "ElasticsearchSink")
    return worker


def test_facts_waits_and_conditions_are_metrics(search: Any) -> None:
    found = samples_of(WorkerCollector(search, "librdkafka 2"))
    assert found["headrace_connector_info", ("ElasticsearchSink", "search", "sink", "1.2")] == 1
    assert found["headrace_connector_condition", ("records.skipped", "search")] == 1
    retrying = {labels[1]: value for (name, labels), value in found.items() if name == "headrace_task_retrying"}
    assert retrying == {"0": 1, "1": 0, "2": 1, "3": 0}
    [build] = [labels for name, labels in found if name == "headrace_build_info"]
    assert build[0] == "librdkafka 2"


def test_kafka_connect_has_its_names(search: Any) -> None:
    counters = TaskMetrics()
    counters.add("sink_record_read_total", 7)
    counters.add("total_record_errors", 2)
    search.counters = {TaskId("search", 0): counters.snapshot()}
    traffic = [
        ClientTraffic("consumer", "c-0", 2, 100, 10),
        ClientTraffic("consumer", "c-0", 1, 5, 1),
        ClientTraffic("admin_client", "a", 1, 3, 4),
    ]
    found = samples_of(ConnectCollector(search, lambda: traffic))

    def value(name: str, *labels: str) -> float:
        return found[f"kafka_{name}", labels]

    assert value("connect_worker_connector_count") == 1
    assert value("connect_worker_task_count") == 4
    assert value("connect_worker_connector_running_task_count", "search") == 2
    assert value("connect_worker_connector_failed_task_count", "search") == 1
    assert value("connect_worker_connector_destroyed_task_count", "search") == 0
    assert value("connect_connector_status", "search", "running") == 1
    assert value("connect_connector_connector_class", "search", "ElasticsearchSink") == 1
    assert value("connect_connector_task_status", "search", "failed", "1") == 1
    assert value("connect_sink_task_sink_record_read_total", "search", "0") == 7
    assert value("connect_task_error_total_record_errors", "search", "0") == 2
    assert ("kafka_connect_source_task_source_record_poll_total", ("search", "0")) not in found
    assert value("consumer_connection_count", "c-0") == 3
    assert value("consumer_incoming_byte_total", "c-0") == 105
    assert value("admin_client_connection_count", "a") == 1


def test_the_process_has_metrics_where_the_system_tells_them(client: httpx.Client) -> None:
    answer = client.get("/metrics").text
    assert ("process_cpu_seconds_total" in answer) == sys.platform.startswith("linux")


def test_prometheus_has_the_balance_of_each_task_and_the_account_of_each_partition(
    worker: Any, client: httpx.Client
) -> None:
    worker.add("orders")
    worker.counters = {TaskId("orders", 0): {"sink_record_read_total": 5, "sink_record_send_total": 3}}
    worker.accounts = {
        "shop.line-items-10": PartitionAccount(3, 12, 5, retention=1, no_record=2, unexplained=1),
        "shop.line-items-2": PartitionAccount(0, 9, 8),
    }

    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}

    (balance,) = families["headrace_task_balance"].samples
    assert (balance.labels, balance.value) == ({"connector": "orders", "task": "0"}, 2)
    task = {"connector": "orders", "task": "0", "topic": "shop.line-items"}
    values = {
        (
            sample.name.removeprefix("headrace_partition_"),
            sample.labels["partition"],
            sample.labels.get("cause"),
        ): sample
        for name, family in families.items()
        if name.startswith("headrace_partition_")
        for sample in family.samples
    }
    assert all(task.items() <= sample.labels.items() for sample in values.values())
    assert {place: sample.value for place, sample in values.items()} == {
        ("start_offset", "10", None): 3,
        ("next_offset", "10", None): 12,
        ("records", "10", None): 5,
        ("gap_offsets", "10", "retention"): 1,
        ("gap_offsets", "10", "no_record"): 2,
        ("gap_offsets", "10", "unexplained"): 1,
        ("balance", "10", None): 0,
        ("start_offset", "2", None): 0,
        ("next_offset", "2", None): 9,
        ("records", "2", None): 8,
        ("gap_offsets", "2", "retention"): 0,
        ("gap_offsets", "2", "no_record"): 0,
        ("gap_offsets", "2", "unexplained"): 0,
        ("balance", "2", None): 1,
    }
