"""A stream application in a worker: files, REST, status, pause, offsets and metrics, as of any connector."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.app import WorkerApplication
from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.interfaces import RebalanceListener
from headrace.errors import ConflictError, HeadraceError
from headrace.files import ConfigFile, parse_config_file
from headrace.freshness import HEADER, Hop, decode_hops, encode_hops
from headrace.metrics import now_ms
from headrace.records import EncodedBatch
from headrace.runtime.stored_application import StoredApplication
from headrace.settings import WorkerSettings
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import REGISTRY, VALIDATOR, WORKER, Application

TEXT = """name: app
connector.class: Stream
commit.interval.ms: 1
inputs: {views: impressions}
steps: {doubled: {add: {twice: n * 2}}}
outputs: {copies: doubled}
"""


def parse_config_text(text: str) -> dict[str, str]:
    """Return the properties of a YAML file with this text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.yaml"
        path.write_text(text, encoding="utf-8")
        return parse_config_file(path).properties


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "app.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return parse_config_file(path)


@pytest.fixture
def application(file: ConfigFile) -> Application:
    application = Application(file.properties)
    application.broker.create("impressions", 2)
    return application


@pytest.fixture
def client(application: Application, file: ConfigFile, tmp_path: Path) -> Iterator[httpx.Client]:
    stored = {"offset.storage.file.filename": str(tmp_path / "offsets.jsonl"), "listeners": "http://127.0.0.1:0"}
    settings, findings = VALIDATOR.worker({**WORKER, **stored})
    assert isinstance(settings, WorkerSettings), findings
    refused: list[HeadraceError] = []
    broker: InMemoryKafka = application.broker
    worker = WorkerApplication(settings, VALIDATOR, REGISTRY, refused=refused.append, kafka_clients=broker)
    try:
        worker.start([file])
        with httpx.Client(base_url=worker.url, timeout=30, verify=False) as opened:
            yield opened
    finally:
        worker.stop()
    assert refused == []


def test_an_application_is_operated_as_a_connector(client: httpx.Client, application: Application) -> None:
    def state() -> list[str]:
        return [task["state"] for task in client.get("/connectors/app/status").json()["tasks"]]

    eventually(lambda: state() == ["RUNNING"])
    assert client.get("/connectors/app").json()["type"] == "stream"
    assert client.get("/connectors/app/status").json()["type"] == "stream"
    application.send("impressions", [{"n": 1}, {"n": 2}], [1, 2])
    application.wait_until_processed()
    assert sorted(row["twice"] for row in application.committed("copies")) == [2, 4]

    assert client.put("/connectors/app/pause").status_code == 202
    eventually(lambda: state() == ["PAUSED"])
    assert client.put("/connectors/app/resume").status_code == 202
    eventually(lambda: state() == ["RUNNING"])
    application.send("impressions", [{"n": 3}], [3])
    application.wait_until_processed()

    offsets = client.get("/connectors/app/offsets").json()["offsets"]
    assert {item["partition"]["kafka_topic"] for item in offsets} == {"impressions"}

    def written() -> int:
        (task,) = client.get("/v1/connectors/app/records").json()["tasks"]
        assert task["balance"] == 0
        return int(task["counts"]["written"])

    eventually(lambda: written() == 3)
    (task,) = client.get("/v1/connectors/app/records").json()["tasks"]
    accounts = [item for item in task["partitions"] if item["partition"].startswith("impressions-")]
    assert sum(item["read"] for item in accounts) == 3
    assert all(item["next"] == item["start"] + item["read"] for item in accounts)
    assert all(item["balance"] == 0 for item in accounts)
    assert 'headrace_stream_record_commit_total{connector="app",task="0"} 3.0' in client.get("/metrics").text
    assert (
        'headrace_stream_step_records_total{connector="app",part="doubled",task="0"} 3.0' in client.get("/metrics").text
    )


def test_headers_of_records_pass_and_the_time_of_the_source_with_them(
    client: httpx.Client, application: Application
) -> None:
    source = Hop("orders", now_ms() - 5_000, now_ms() - 4_000)
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    sent = EncodedBatch("impressions", [b'{"n": 1}'], headers=[[trace, (HEADER, encode_hops((source,)))]])
    application.broker.producer({}).send(sent)
    application.wait_until_processed()
    [record] = application.broker.records("copies")
    headers = dict(record.headers)
    assert headers["traceparent"] == trace[1]
    first, own = decode_hops(headers[HEADER])
    assert first == source
    assert own.name == "app"
    assert source.sent <= own.arrived <= own.sent
    assert len(record.headers) == 2

    def told() -> dict[str, Any]:
        [task] = client.get("/v1/connectors/app/freshness").json()["tasks"]
        return dict(task)

    eventually(lambda: told()["age"]["batches"] == 1)
    assert told()["data_as_of"] == source.arrived
    assert told()["age"]["newest"] >= 5
    assert told()["hops"].keys() == {"read", "commit"}
    assert client.get("/v1/connectors/none/freshness").status_code == 404
    assert 'headrace_freshness_seconds_count{connector="app",task="0"} 1.0' in client.get("/metrics").text


COUNT = """name: app
connector.class: Stream
commit.interval.ms: 1
inputs: {views: {topic: impressions, time: at}}
steps: {counted: {window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*)}}}}
outputs: {counts: counted}
"""


def stop(client: httpx.Client, application: Application) -> None:
    assert client.put("/connectors/app/stop").status_code == 204
    eventually(lambda: client.get("/connectors/app/status").json()["connector"]["state"] == "STOPPED")
    eventually(lambda: not application.broker.groups["connect-app"].members)  # the tasks have left the group


def change(client: httpx.Client, application: Application, file: dict[str, str]) -> None:
    """Change the application while none of its tasks runs: the old ones could read the records of the test."""
    stop(client, application)
    assert client.put("/connectors/app/config", json=file).status_code == 200
    assert client.put("/connectors/app/resume").status_code == 202
    eventually(lambda: [task["state"] for task in client.get("/connectors/app/status").json()["tasks"]] == ["RUNNING"])
    application.config = file


def test_a_reset_application_processes_its_inputs_from_the_beginning_without_state(
    client: httpx.Client, application: Application
) -> None:
    change(client, application, parse_config_text(COUNT))
    application.send("impressions", [{"id": 1, "at": at} for at in (1, 2, 99)], [1, 1, 1])
    eventually(lambda: [row["views"] for row in application.committed("counts")] == [2])

    refused = client.post("/v1/connectors/app/reset", json={})
    assert (refused.status_code, "STOPPED" in refused.json()["message"].upper()) == (400, True)
    stop(client, application)
    tried = client.post("/v1/connectors/app/reset", json={"try": True}).json()
    internal = ["app-counted-changelog", "app-counted-repartition", "app-topology"]
    assert tried["deleted_topics"] == internal
    assert {(item["partition"], item["after"]) for item in tried["offsets"]} == {(0, 0), (1, 0)}
    assert sum(item["before"] or 0 for item in tried["offsets"]) == 3
    assert set(internal) <= set(application.broker.topics())

    done = client.post("/v1/connectors/app/reset", json={})
    assert (done.status_code, done.json()["deleted_topics"]) == (200, internal)
    assert set(internal).isdisjoint(application.broker.topics())
    assert client.put("/connectors/app/resume").status_code == 202
    eventually(lambda: [row["views"] for row in application.committed("counts")] == [2, 2])


def test_a_changed_step_is_refused_until_the_application_is_reset(
    client: httpx.Client, application: Application
) -> None:
    file = parse_config_text(COUNT)
    change(client, application, file)
    longer = {**file, "steps.counted.window.tumbling": "20ms"}

    refused = client.put("/connectors/app/config", json=longer)

    assert refused.status_code == 409
    lines = refused.json()["message"].splitlines()
    assert lines[0].startswith("the state of application app does not fit its steps: step 'counted': its state was")
    assert lines[1].startswith("RESET    counted: its state was made by 'windows of 10 ms")
    assert "`headrace stream reset app`" in lines[-1]
    assert client.patch("/connectors/app/config", json={"steps.counted.window.tumbling": "20ms"}).status_code == 409
    assert client.get("/connectors/app/config").json()["steps.counted.window.tumbling"] == "10ms"
    shorter = {**file, "steps.counted.window.grace": "1ms"}  # keeps the state
    assert client.put("/connectors/app/config", json=shorter).status_code == 200
    stop(client, application)
    assert client.post("/v1/connectors/app/reset", json={}).status_code == 200
    assert client.put("/connectors/app/config", json=longer).status_code == 200
    assert client.put("/connectors/app/resume").status_code == 202
    eventually(lambda: [task["state"] for task in client.get("/connectors/app/status").json()["tasks"]] == ["RUNNING"])


def test_what_the_state_was_made_by_is_known_after_the_first_start(
    client: httpx.Client, application: Application
) -> None:
    assert client.put("/connectors/app/config", json=parse_config_text(COUNT)).status_code == 200
    eventually(lambda: "counted" in client.get("/v1/streams/app/registration").json().get("stores", {}))
    counted = client.get("/v1/streams/app/registration").json()["stores"]["counted"]
    assert counted["definition"].startswith("windows of 10 ms every 10 ms by id = id: views = COUNT(*)")
    assert counted["topics"] == ["app-counted-repartition"]


def test_a_changed_step_with_a_placeholder_is_left_to_the_task(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_TEST_LIMIT", "4711")
    before, longer = parse_config_text(COUNT), parse_config_text(COUNT.replace("10ms", "20ms"))
    application.config = before
    task = application.start()
    eventually(task.started.is_set)
    task.stop()
    admin = application.broker.admin({})
    secret = {"steps.counted.window.aggregate.views": "sum(id + ${env:HEADRACE_TEST_LIMIT})"}

    for config, fits in (({**longer, **secret}, True), (longer, False)):
        stored = StoredApplication("app", config, lambda: application.broker.reader({}))
        parsed = VALIDATOR.require_connector(config, trusted=True)
        if fits:
            stored.require_fitting_state(admin, parsed)
        else:
            with pytest.raises(ConflictError):
                stored.require_fitting_state(admin, parsed)


def test_the_state_of_a_key_is_shown(client: httpx.Client, application: Application) -> None:
    config = {**parse_config_text(COUNT), "steps.counted.window.by": "id, site"}
    change(client, application, config)
    rows = [{"id": 7, "site": "a/b", "at": at} for at in (1, 2, 13)]
    application.send("impressions", rows, [1, 1, 1])
    application.wait_until_processed()

    answer = client.get("/v1/streams/app/state/counted/%5B7,%22a%2Fb%22%5D")

    assert answer.status_code == 200, answer.text
    assert answer.json()["key"] == [7, "a/b"]
    window = {"id": 7, "site": "a/b", "window_start": 10, "window_end": 20, "views": 1}
    assert answer.json()["entries"] == [window]
    unknown = client.get("/v1/streams/app/state/counted/time")  # of the partition, and of no group
    assert (unknown.status_code, unknown.json()["message"]) == (404, "store 'counted' has no entry of this key")
    store = client.get("/v1/streams/app/state/count/7")
    assert (store.status_code, "there is: counted" in store.json()["message"]) == (404, True)
    assert client.get("/v1/streams/none/state/counted/7").status_code == 404


def test_a_key_that_another_process_may_have_is_not_reported_as_missing(
    client: httpx.Client, application: Application
) -> None:
    config = {**parse_config_text(COUNT), "inputs.views.key": "id", "consumer.override.group.id": "shared"}
    assert client.put("/connectors/app/config", json=config).status_code == 200
    eventually(lambda: client.get("/v1/streams/app/state/counted/7").status_code == 404)  # it has all partitions
    other = application.broker.consumer("shared", {})
    other.subscribe(["impressions"], None, RebalanceListener(lambda _: None, lambda _: None))

    def answered() -> bool:
        other.poll(0.01, 1)
        return client.get("/v1/streams/app/state/counted/7").status_code == 409

    eventually(answered)
    message = client.get("/v1/streams/app/state/counted/7").json()["message"]
    assert "other processes have partitions" in message
    assert "ask the other workers that run this application" in message
    other.close()


def test_a_reset_is_refused_while_another_process_runs_the_application(
    client: httpx.Client, application: Application
) -> None:
    stop(client, application)
    member = application.broker.consumer("connect-app", {})
    member.subscribe(["impressions"], None, RebalanceListener(lambda _: None, lambda _: None))
    member.poll(0.1, 1)
    before = set(application.broker.topics())
    answer = client.post("/v1/connectors/app/reset", json={})
    assert (answer.status_code, "it has members" in answer.json()["message"]) == (503, True)
    assert set(application.broker.topics()) == before
    member.close()


def test_offsets_of_an_application_cannot_be_changed(client: httpx.Client) -> None:
    assert client.put("/connectors/app/stop").status_code == 204
    eventually(lambda: client.get("/connectors/app/status").json()["connector"]["state"] == "STOPPED")

    answer = client.delete("/connectors/app/offsets")

    assert answer.status_code == 400
    assert "its state would not fit them" in answer.json()["message"]
    assert client.get("/connectors/app/offsets").status_code == 200
