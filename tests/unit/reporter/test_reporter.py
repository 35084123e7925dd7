"""What the reporter writes, and what it does while Elasticsearch is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headrace.conditions import Condition
from headrace.errors import Finding
from headrace.freshness import TaskFreshness
from headrace.metrics import TaskMetrics
from headrace.reporter import MetricsReporter, ReporterAccess, reporter_access
from headrace.reporter.data_streams import EVENT_FIELDS, METRIC_FIELDS, data_streams
from headrace.reporter.documents import WorkerSnapshot, event_documents, metric_documents
from headrace.runtime.api import ConnectorStatus
from headrace.settings import WorkerSettings
from headrace.states import State, Status, TaskId
from headrace.testing.waiting import eventually
from headrace.worker_events import RecentEvents, partitions_event, rebalance
from tests.unit.data_streams import FakeElasticsearch

RUNNING = Status(State.RUNNING, "w")
TASK = TaskId("search", 0)


def status(task: Status = RUNNING, connector: Status = RUNNING, *conditions: Condition) -> ConnectorStatus:
    return ConnectorStatus("search", connector, {0: task}, "sink", conditions)


def condition(last: int = 5) -> Condition:
    return Condition("records.skipped", "some were skipped", "fix them", 1, last, 3, "")


def snapshot(at: int, written: int, found: ConnectorStatus, freshness: TaskFreshness | None = None) -> WorkerSnapshot:
    metrics = TaskMetrics()
    metrics.change({"sink_record_read_total": written + 5, "sink_record_send_total": written, "sink_record_lag": 7})
    metrics.add("total_record_errors", 2)
    metrics.count_step("filtered", written, 1, 0, {})
    ages = {TASK: freshness.snapshot()} if freshness is not None else {}
    return WorkerSnapshot(at, "w:1", [found], {TASK: metrics.snapshot()}, {TASK: metrics.parts()}, ages)


def leaves(document: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(document, dict):
        return {prefix: document}
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= leaves(value, f"{prefix}.{key}".lstrip("."))
    return found


def test_counts_are_those_since_the_last_report() -> None:
    freshness = TaskFreshness(objective=30.0)
    freshness.hop("write").note(0, 500)
    freshness.note_passed(1_000, 1_500)
    before, now = snapshot(10_000, 100, status()), snapshot(20_000, 150, status(), freshness)
    task, hop, step = (leaves(document) for document in metric_documents(before, now))
    assert task == {
        "@timestamp": 20_000,
        "kind": "task",
        "worker.id": "w:1",
        "connector.name": "search",
        "connector.type": "sink",
        "task.id": "search-0",
        "task.state": "RUNNING",
        "task.retrying": False,
        "records.read": 50,
        "records.written": 50,
        "records.per_second": 5.0,
        "records.refused": 0,
        "records.dead_lettered": 0,
        "lag": 7,
        "age.newest": 0.5,
        "age.p50": 0.5,
        "age.p99": 0.5,
        "data_as_of": 1_000,
        "slo.seconds": 30.0,
        "slo.exceeded": False,
    }
    assert (hop["kind"], hop["hop.name"], hop["hop.batches"], hop["hop.p99"]) == ("hop", "write", 1, 0.5)
    assert (step["kind"], step["part.name"], step["part.records"]) == ("step", "filtered", 50)
    assert {*task, *hop, *step} <= set(METRIC_FIELDS)


def test_a_task_that_was_restarted_counts_from_zero() -> None:
    [task, _] = metric_documents(snapshot(10_000, 100, status()), snapshot(20_000, 30, status()))
    assert task["records"]["written"] == 30


def test_changes_of_states_and_conditions_are_events() -> None:
    failed = Status(State.FAILED, "w", trace="Traceback\nConfigError: no table")
    retrying = Status(State.RUNNING, "w", reason="no answer", retrying=True)
    first = snapshot(1, 0, status())
    second = snapshot(2, 0, status(retrying, RUNNING, condition()))
    third = snapshot(3, 0, status(failed, RUNNING, condition(last=6)))
    fourth = snapshot(4, 0, status(failed))
    empty = WorkerSnapshot(5, "w:1")

    def told(before: WorkerSnapshot, now: WorkerSnapshot) -> list[tuple[str, str, str]]:
        documents = list(event_documents(before, now))
        for document in documents:
            assert set(leaves(document)) <= set(EVENT_FIELDS)
            assert document["@timestamp"] == now.at
        return [
            (each["event"]["action"], each.get("state", {}).get("after", ""), each["message"]) for each in documents
        ]

    assert told(WorkerSnapshot(0), first) == [
        ("state changed", "RUNNING", "connector search is RUNNING"),
        ("state changed", "RUNNING", "task search-0 is RUNNING"),
    ]
    assert told(first, first) == []
    assert told(first, second) == [
        ("state changed", "RETRYING", "task search-0 is RETRYING: no answer"),
        ("condition raised", "", "some were skipped"),
    ]
    assert told(second, third) == [
        ("state changed", "FAILED", "task search-0 is FAILED: ConfigError: no table"),
        ("condition raised again", "", "some were skipped"),
    ]
    assert told(third, fourth) == [("condition acknowledged", "", "some were skipped")]
    assert told(fourth, empty) == [("deleted", "", "connector search was deleted")]


def test_rebalances_and_transitions_are_events() -> None:
    task, group = RecentEvents(lambda: 7.0), RecentEvents(lambda: 8.0)

    def now(at: int) -> WorkerSnapshot:
        return WorkerSnapshot(at, "w:1", [status()], events={TASK: task.snapshot()}, group_events=group.snapshot())

    before = now(5_000)
    task.add(partitions_event("assigned", ["orders-0", "orders-1"]))
    group.add(rebalance("group rebalanced", "generation 7", group={"generation": 7, "leader": "http://w:1/"}))
    after = now(10_000)
    of_group, of_task = event_documents(before, after)
    assert leaves(of_group) == {
        "@timestamp": 8_000,
        "kind": "rebalance",
        "worker.id": "w:1",
        "event.action": "group rebalanced",
        "group.generation": 7,
        "group.leader": "http://w:1/",
        "message": "generation 7",
    }
    assert of_task["task"] == {"id": "search-0"}
    assert (of_task["partitions"], of_task["message"]) == (["orders-0", "orders-1"], "assigned: orders-0, orders-1")
    assert {*leaves(of_group), *leaves(of_task)} <= set(EVENT_FIELDS)
    assert list(event_documents(after, now(20_000))) == []


def test_events_of_a_restarted_task_are_told_once() -> None:
    events = RecentEvents()
    for number in range(250):
        events.add(partitions_event("assigned", [str(number)]))
    assert [item.event.fields["partitions"] for item in events.snapshot().since(248)] == [["248"], ["249"]]
    assert len(events.snapshot().since(0)) == 100, "the newest"
    restarted = RecentEvents()
    restarted.add(partitions_event("assigned", ["a"]))
    assert len(restarted.snapshot().since(250)) == 1


@pytest.fixture
def elastic() -> Iterator[FakeElasticsearch]:
    fake = FakeElasticsearch()
    yield fake
    fake.close()


class Api:
    """The part of a worker that the reporter reads."""

    def __init__(self) -> None:
        self.found = status()

    def connectors(self) -> list[str]:
        return ["search"]

    def status(self, name: str) -> ConnectorStatus:
        return self.found

    def metrics(self) -> dict[TaskId, dict[str, int]]:
        return {TASK: TaskMetrics().snapshot()}

    def part_metrics(self) -> dict[TaskId, Any]:
        return {}

    def freshness(self) -> dict[TaskId, Any]:
        return {}

    def events(self) -> dict[TaskId, Any]:
        return {}


def make(elastic: FakeElasticsearch, **more: Any) -> MetricsReporter:
    access = ReporterAccess(elastic.url, more.pop("credentials", None))
    return MetricsReporter(Api(), "w:1", access, interval=more.pop("interval", 0.01), **more)  # type: ignore[arg-type]


def test_metrics_and_events_are_written_until_it_stops(elastic: FakeElasticsearch) -> None:
    reporter = make(elastic, credentials="key", namespace="shop", retention="7d")
    reporter.start()
    eventually(lambda: elastic.kinds() == {"task", "state"})
    reporter.stop()
    assert {name for name, _ in elastic.documents} == {"metrics-headrace.worker-shop", "logs-headrace.events-shop"}
    assert elastic.authorization == {"ApiKey key"}
    template = elastic.templates["metrics-headrace.worker"]
    assert template["template"]["lifecycle"] == {"data_retention": "7d"}
    assert template["index_patterns"] == ["metrics-headrace.worker-*"]


@pytest.mark.parametrize("failing", [403, 429, 503])
def test_documents_wait_in_order_while_it_is_away_and_the_oldest_are_dropped(
    elastic: FakeElasticsearch, failing: int
) -> None:
    moments = iter(range(1, 100))
    reporter = make(elastic, most_waiting=4, clock=lambda: next(moments))
    reporter.report()
    written = len(elastic.documents)
    elastic.failing = failing
    for _ in range(10):
        reporter.report()
    assert len(elastic.documents) == written
    elastic.failing = 0
    reporter.report()
    reporter.stop()
    times = [document["@timestamp"] for _, document in elastic.documents[written:]]
    assert times == [10, 11, 12, 13], "the newest four, each once"


def test_a_server_that_is_down_is_no_error(elastic: FakeElasticsearch) -> None:
    elastic.close()
    reporter = make(elastic)
    reporter.report()
    reporter.stop()


def test_every_field_of_the_templates_has_a_type() -> None:
    for stream in data_streams("default", "30d"):
        properties = stream.body["template"]["mappings"]["properties"]
        assert properties["@timestamp"] == {"type": "date"}
        assert properties["task"]["properties"]["id"] == {"type": "keyword"}


def problems(**keys: str) -> list[Finding]:
    settings = {f"metrics.elasticsearch.{name.replace('_', '.')}": value for name, value in keys.items()}
    return list(WorkerSettings.validate_properties({"bootstrap.servers": "k:9092", **settings})[1])


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"url": "localhost:9200"}, "url"),
        ({"url": "http://elastic:secret@localhost:9200"}, "url"),
        ({"url": "http://a", "username": "elastic"}, "username"),
        ({"url": "http://a", "username": "elastic", "password": "x", "api_key": "y"}, "api.key"),
    ],
)
def test_wrong_keys_are_found(keys: dict[str, str], key: str) -> None:
    [finding] = problems(**keys)
    assert finding.key == f"metrics.elasticsearch.{key}"
    assert "secret" not in finding.message


def test_credentials_are_those_of_the_settings() -> None:
    base = {"bootstrap.servers": "k:9092", "metrics.elasticsearch.url": "http://a:9200"}
    user = {"metrics.elasticsearch.username": "u", "metrics.elasticsearch.password": "p"}
    assert reporter_access(WorkerSettings.parse(base)).credentials is None
    assert reporter_access(WorkerSettings.parse(base | user)).credentials == ("u", "p")
    key = {"metrics.elasticsearch.api.key": "k"}
    assert reporter_access(WorkerSettings.parse(base | key)).credentials == "k"
