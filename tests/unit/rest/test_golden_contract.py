"""Status codes and ``Location`` of every request of the golden contract, compared with a Kafka Connect 4.4 worker's."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from pathlib import Path

import pytest

from headrace.app import StandaloneWorker
from headrace.broker.in_memory import InMemoryKafka
from headrace.interpolation import make_interpolator
from headrace.registry import Plugin, PluginKind, Registry
from headrace.settings import WorkerSettings
from headrace.validation import Validator
from tests.golden.connect.answers import Answer, ask, stored
from tests.golden.connect.requests import INPUT, Request

PAGE = Path(__file__).parents[3] / "docs" / "coming-from-kafka-connect.md"
CLIENT_ERROR = range(400, 500)


def documented(request: Request, ours: int, theirs: int) -> str:
    """Return why the status codes differ, as docs/coming-from-kafka-connect.md says; empty if it does not."""
    if theirs == 500 and ours in CLIENT_ERROR:
        return "a request that cannot be understood is 400"
    if theirs in (200, 202) and ours == 404 and "/topics" in request.path:
        return "topics of a connector that does not exist are 404"
    if theirs == 201 and ours == 400 and request.body is not None and '"topic": null' in request.body:
        return "null is the same as no key"
    if request.method == "PATCH" and request.body == '{"offsets": [{}]}' and ours == 400:
        return "offsets without partition are refused"
    if request.method == "PATCH" and request.body == '{"name": "other"}' and ours == 400:
        return "the name of a connector cannot be changed"
    return ""


UNDOCUMENTED = [
    # The short name of a class, asked for by its long name.
    ("PUT /connector-plugins/org.apache.kafka.connect.file.FileStreamSourceConnector/config/validate", 200, 400),
    # An unknown class: the error is in the body.
    ("PUT /connector-plugins/NoSuch/config/validate", 200, 500),
]
"""Title and both status codes; headrace refuses nothing here that Kafka Connect accepts."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Request, Answer, Answer]]:
    folder = tmp_path_factory.mktemp("contract")
    (folder / INPUT).write_text("one\ntwo\nthree\n", encoding="utf-8")
    connectors = [
        Plugin(
            PluginKind.CONNECTOR,
            name,
            importlib.metadata.EntryPoint(name, f"tests.golden.connect.file_connectors:{name}Connector", ""),
        )
        for name in ("FileStreamSource", "FileStreamSink")
    ]
    installed = Registry()
    registry = Registry(
        [*connectors, *installed.plugins(PluginKind.CONVERTER), *installed.plugins(PluginKind.CONFIG_PROVIDER)]
    )
    settings = WorkerSettings.parse(
        {
            "bootstrap.servers": "in.memory:9092",
            "listeners": "http://127.0.0.1:0",
            "offset.flush.interval.ms": "20",
            "offset.storage.file.filename": str(folder / "offsets.jsonl"),
        }
    )
    refused: list[Exception] = []
    validator = Validator(registry, make_interpolator(registry))
    worker = StandaloneWorker(settings, validator, registry, refused=refused.append, kafka_clients=InMemoryKafka())
    try:
        worker.start()
        asked = list(ask(worker.url, folder))
    finally:
        worker.stop()
    recorded = stored()
    assert [request.title for request, _ in asked] == [answer["request"] for answer in recorded]
    return [(request, ours, theirs) for (request, ours), theirs in zip(asked, recorded, strict=True)]


def test_status_codes_are_those_of_kafka_connect_or_documented(answers: list[tuple[Request, Answer, Answer]]) -> None:
    counts: Counter[str] = Counter()
    undocumented = []
    for request, ours, theirs in answers:
        if ours["status"] == theirs["status"]:
            counts["identical"] += 1
        elif documented(request, ours["status"], theirs["status"]):
            counts["documented"] += 1
        else:
            undocumented.append((request.title, ours["status"], theirs["status"]))
    assert undocumented == UNDOCUMENTED
    sentence = (
        f"{len(answers)} requests: {counts['identical']} status codes are identical, {counts['documented']} differ as "
        f"described here, {len(undocumented)} otherwise."
    )
    print(sentence)
    assert sentence in " ".join(PAGE.read_text(encoding="utf-8").split()), f"write into {PAGE.name}: {sentence}"


def test_locations_are_those_of_kafka_connect(answers: list[tuple[Request, Answer, Answer]]) -> None:
    created = [(ours, theirs) for _, ours, theirs in answers if ours["status"] == theirs["status"] == 201]
    assert created
    for ours, theirs in created:
        assert ours["headers"]["location"] == theirs["headers"]["location"]


def test_states_of_connectors_are_those_of_kafka_connect(answers: list[tuple[Request, Answer, Answer]]) -> None:
    both = [
        (ours["body"]["connector"]["state"], theirs["body"]["connector"]["state"])
        for request, ours, theirs in answers
        if request.method == "GET"
        and request.path.endswith("/status")
        and ours["status"] == theirs["status"] == 200
        and "connector" in theirs["body"]
    ]
    assert len(both) > 5
    assert all(ours == theirs for ours, theirs in both)
