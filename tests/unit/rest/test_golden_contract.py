"""Answers to every request of the golden contract, compared with those of a Kafka Connect 4.4 worker.

Status codes, ``Location``, error codes and states are compared by value, bodies by their members and types.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.app import WorkerApplication
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
        [
            *connectors,
            *installed.plugins(PluginKind.CONVERTER),
            *installed.plugins(PluginKind.HEADER_CONVERTER),
            *installed.plugins(PluginKind.CONFIG_PROVIDER),
        ]
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
    worker = WorkerApplication(settings, validator, registry, refused=refused.append, kafka_clients=InMemoryKafka())
    try:
        worker.start()
        asked = list(ask(worker.url, folder))
    finally:
        worker.stop()
    recorded = stored()
    assert [request.title for request, _ in asked] == [answer["request"] for answer in recorded]
    return [(request, ours, theirs) for (request, ours), theirs in zip(asked, recorded, strict=True)]


def test_connect_rest_23_26_status_codes_are_those_of_kafka_connect_or_documented(
    answers: list[tuple[Request, Answer, Answer]],
) -> None:
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


def is_definitions(body: Any) -> bool:
    """Return whether the body describes configuration keys, by name."""
    return isinstance(body, dict) and bool(body) and all("importance" in str(item) for item in body.values())


def comparable(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Leave out documented differences: the sets of keys that connectors have."""
    if isinstance(theirs, dict) and "error_count" in theirs:  # a validation; its result is compared separately
        ours, theirs = ({**body, "configs": {}} for body in (ours, theirs))
    elif is_definitions(theirs):
        ours, theirs = ({name: body[name] for name in ours.keys() & theirs.keys()} for body in (ours, theirs))
    return ours, theirs


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Yield members that are missing or added, and values of other types."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            if name in ours and name in theirs:
                yield from differences(ours[name], theirs[name], f"{path}.{name}")
            else:
                yield f"{path}.{name} is {'missing' if name in theirs else 'added'}"
    elif isinstance(ours, list) and isinstance(theirs, list):
        for one, other in zip(ours, theirs, strict=False):
            yield from differences(one, other, f"{path}[]")
    elif type(ours) is not type(theirs):
        yield f"{path} is {type(ours).__name__} and not {type(theirs).__name__}"


def is_documented(difference: str) -> bool:
    """Return whether docs/coming-from-kafka-connect.md describes the difference."""
    description = difference.endswith((".default_value is NoneType and not str", ".group is NoneType and not str"))
    # 'bad' is the connector that only Kafka Connect creates: its configuration has a null.
    return description or difference in (".findings is added", ".bad is missing")


UNDOCUMENTED_BODIES = [
    # Of a connector that is just starting, Kafka Connect does not know the version yet.
    ("POST /connectors/src/restart?includeTasks=true", ".connector.version is str and not NoneType"),
]
OTHER_VERDICTS = {
    # Key and value in the validated configuration: how many errors headrace and Kafka Connect report.
    ("topic", None): (1, 0),  # null is the same as no key
    ("my.own.key", "a"): (1, 0),  # unknown keys are errors
    ("errors.retry.delay.max.ms", "-1"): (1, 0),  # stricter: nonsense is refused
    ("topic.creation.default.partitions", "0"): (1, 0),
    ("config.action.reload", "sometimes"): (0, 1),  # keys that have no effect: their values are not checked
    ("topic", ""): (0, 1),  # of the connector of this test
    ("tasks.max", "2147483648"): (0, 2),
    ("errors.tolerance", "ALL"): (0, 1),  # choices in upper case are accepted
}


def test_connect_rest_12_13_bodies_have_the_members_and_types_of_kafka_connect_or_documented_ones(
    answers: list[tuple[Request, Answer, Answer]],
) -> None:
    counts: Counter[str] = Counter()
    undocumented = []
    for request, ours, theirs in answers:
        if ours["status"] == theirs["status"]:
            found = list(differences(*comparable(ours["body"], theirs["body"])))
            unexpected = [(request.title, item) for item in found if not is_documented(item)]
            undocumented += unexpected
            counts["undocumented" if unexpected else "documented" if found else "identical"] += 1
    sentence = (
        f"Bodies of {sum(counts.values())} answers with the same status code: {counts['identical']} have the same "
        f"members and types, {counts['documented']} differ as described here, {counts['undocumented']} otherwise."
    )
    print(sentence)
    assert undocumented == UNDOCUMENTED_BODIES
    assert sentence in " ".join(PAGE.read_text(encoding="utf-8").split()), f"write into {PAGE.name}: {sentence}"


def test_error_codes_are_those_of_kafka_connect(answers: list[tuple[Request, Answer, Answer]]) -> None:
    both = [
        (ours["body"]["error_code"], theirs["body"]["error_code"])
        for _, ours, theirs in answers
        if ours["status"] == theirs["status"] and isinstance(theirs["body"], dict) and "error_code" in theirs["body"]
    ]
    assert len(both) > 50
    assert all(ours == theirs for ours, theirs in both)


def test_validations_find_errors_where_kafka_connect_does_or_are_listed(
    answers: list[tuple[Request, Answer, Answer]],
) -> None:
    found = []
    for request, ours, theirs in answers:
        counts = [answer["body"]["error_count"] for answer in (ours, theirs) if "error_count" in answer["body"]]
        if len(counts) == 2 and bool(counts[0]) != bool(counts[1]):
            assert request.body is not None
            items = list(json.loads(request.body).items())
            found.append((next((item for item in items if item in OTHER_VERDICTS), items[-1]), tuple(counts)))
    assert sorted(found, key=str) == sorted(OTHER_VERDICTS.items(), key=str)
