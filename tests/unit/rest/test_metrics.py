"""Counters and states, for Prometheus and as JSON."""

from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.accounting import PartitionAccount, RecordCause
from headrace.metrics import DESCRIPTIONS, TaskMetrics
from headrace.states import State, TaskId


@pytest.fixture
def counted(worker: Any) -> None:
    worker.add('odd "name"')
    metrics = TaskMetrics()
    metrics.add("source_record_poll_total", 7)
    metrics.set("sink_record_lag", 3)
    metrics.add("total_record_errors", 2)
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
        if "state" not in sample.labels
    }
    assert {name for name, _ in samples} == {f"headrace_{name}" for name in DESCRIPTIONS}
    assert samples["headrace_source_record_poll_total", 'odd "name"'] == 7
    assert samples["headrace_sink_record_lag", 'odd "name"'] == 3
    assert samples["headrace_total_record_errors", 'odd "name"'] == 2
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
    [millis] = families["headrace_source_position_lag_ms"].samples
    [records] = families["headrace_source_position_lag_records"].samples
    assert millis.labels == records.labels == {"connector": "b", "task": "1", "part": "public.orders"}
    assert (millis.value, records.value) == (2500, 9)
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
