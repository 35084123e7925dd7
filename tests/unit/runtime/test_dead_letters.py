"""Dead letters are listed, shown, retried and discarded over REST, and with ``headrace dlq``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from headrace.broker.in_memory import InMemoryKafka
from headrace.cli.main import app
from headrace.dead_letters.letter_groups import QueueSummary
from headrace.dead_letters.service import DeadLetterService
from headrace.errors import RetriableError
from headrace.interpolation import make_interpolator
from headrace.records import EncodedBatch
from headrace.redaction import Secrets
from headrace.registry import Registry
from headrace.settings import WorkerSettings
from headrace.states import TargetState
from headrace.testing.waiting import eventually
from headrace.validation import Validator

MEMORY = {
    "name": "memory",
    "connector.class": "MemorySink",
    "topics": "numbers",
    "errors.tolerance": "all",
    "errors.deadletterqueue.topic.name": "dlq",
    "key.converter": "StringConverter",
}
DEAD_LETTERS = "/v1/connectors/memory/dead-letters"


class DeadLetterWorker:
    """A worker whose sink refuses some numbers, and a client of its REST API."""

    def __init__(self, process: Any, world: Any) -> None:
        self.process = process
        self.world = world
        self.kafka: InMemoryKafka = process.kafka_clients
        self.http = httpx.Client(base_url=process.application.url, timeout=30, verify=False)

    def send(self, *records: tuple[str | None, str]) -> None:
        producer = self.kafka.producer({})
        keys = [key.encode() if key is not None else None for key, _ in records]
        producer.send(EncodedBatch("numbers", [value.encode() for _, value in records], keys))
        producer.close(1)
        end = sum(len(self.kafka.records(topic)) for topic in ["numbers"])
        eventually(lambda: self.process.worker.metrics().values())
        eventually(lambda: sum(self.kafka.committed("connect-memory").values()) >= end)

    def groups(self) -> dict[str, Any]:
        answer = self.http.get(DEAD_LETTERS)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def run(self, action: str = "retry", *, dry_run: bool = False, **body: Any) -> dict[str, Any]:
        if dry_run:
            body["try"] = True
        answer = self.http.post(f"{DEAD_LETTERS}/{action}", json=body)
        assert answer.status_code == 202, answer.text
        eventually(lambda: self.job()["state"] != "RUNNING")
        return self.job()

    def job(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"{DEAD_LETTERS}/job").json()
        return found

    def counts(self, **body: Any) -> dict[str, int]:
        job = self.run(**body)
        assert job["state"] == "DONE", job
        return {name: count for group in job["groups"] for name, count in group["counts"].items()}

    def marks(self) -> list[bytes | None]:
        return [record.key for record in self.kafka.records("dlq-marks")]


@pytest.fixture
def letter_worker(start: Callable[..., Any], world: Any) -> Iterator[DeadLetterWorker]:
    world.rejected = {1, 2}
    process = start()
    process.worker.create("memory", MEMORY, TargetState.STARTED)
    opened = DeadLetterWorker(process, world)
    yield opened
    opened.http.close()


def test_letters_are_grouped_without_contents_of_records(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1, "secret": "hunter2"}'), ("b", '{"n": 2}'), ("c", "{no json"))
    found = letter_worker.groups()
    assert {group["code"]: group["count"] for group in found["groups"]} == {"memory.refused": 2, "data.invalid": 1}
    assert found["open"] == 3
    refused = next(group for group in found["groups"] if "mapping conflict" in group["example"]["reason"])
    assert refused["first"] <= refused["last"]
    assert refused["example"]["record"] == "numbers-0 at offset 1"
    assert "hunter2" not in letter_worker.http.get(DEAD_LETTERS).text


def test_a_long_queue_is_listed_in_parts(letter_worker: DeadLetterWorker, plugins: Registry) -> None:
    """Each request reads a bounded number of letters; the command adds them up."""
    letter_worker.world.rejected = set(range(100))
    letter_worker.send(*((f"k{number}", f'{{"n": {number}}}') for number in range(50)), ("c", "{no json"))
    config = Validator(plugins, make_interpolator(plugins)).require_connector(MEMORY)
    settings = WorkerSettings.parse({"bootstrap.servers": "in.memory:9092"})
    service = DeadLetterService(
        plugins, Secrets(), letter_worker.kafka, settings, lambda name: config, letters_at_once=1
    )
    parts: list[QueueSummary] = []
    start: dict[int, int] | None = None
    while start != {}:
        parts.append(service.groups("memory", start))
        start = parts[-1].next

    assert sum(item.count for part in parts for item in part.groups.values()) == 51
    assert [part.left for part in parts] == sorted((part.left for part in parts), reverse=True)
    answer = letter_worker.http.get(DEAD_LETTERS, params={"after": "0:50"}).json()
    assert (answer["open"], answer["next"], answer["left"]) == (1, None, 0)
    assert letter_worker.http.get(DEAD_LETTERS, params={"after": "x"}).status_code == 400


def test_a_letter_is_shown_with_headers_and_contents(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'))
    (letter,) = letter_worker.http.get(f"{DEAD_LETTERS}/letters?limit=5").json()
    assert (letter["key"], letter["value"]) == ({"text": "a"}, {"text": '{"n": 1}'})
    headers = {header["name"]: header.get("text") for header in letter["headers"]}
    assert headers["__connect.errors.connector.name"] == "memory"
    assert headers["__headrace.errors.code"] == letter["group"]


def test_a_retry_writes_letters_and_marks_them_once(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'), ("b", '{"n": 2}'))
    letter_worker.world.rejected = set()
    assert letter_worker.counts() == {"retried": 2}
    assert [value["n"] for value in letter_worker.world.written] == [1, 2]
    assert letter_worker.groups()["open"] == 0
    assert letter_worker.groups()["marked"] == {"retried": 2}
    assert letter_worker.counts() == {}
    assert len(letter_worker.world.written) == 2
    assert len(letter_worker.marks()) == len(set(letter_worker.marks())) == 2


def test_a_dry_run_writes_nothing(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'))
    letter_worker.world.rejected = set()
    assert letter_worker.run(dry_run=True)["groups"][0]["counts"] == {"retried": 1}
    assert letter_worker.world.written == []
    assert letter_worker.groups()["open"] == 1
    assert "dlq-marks" not in letter_worker.kafka.topics()


def test_a_letter_that_is_refused_again_is_returned_once_with_its_new_reason(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'))
    assert letter_worker.counts() == {"refused again": 1}
    assert letter_worker.groups()["marked"] == {"refused again": 1}
    (letter,) = letter_worker.http.get(f"{DEAD_LETTERS}/letters").json()
    assert letter["retries"] == 1
    names = [header["name"] for header in letter["headers"]]
    assert len(names) == len(set(names)), "the reasons of the first refusal are replaced"
    letter_worker.world.rejected = set()
    assert letter_worker.counts() == {"retried": 1}


def test_a_newer_record_of_the_key_is_not_overwritten(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'), ("b", '{"n": 2}'), ("a", '{"n": 3}'))
    letter_worker.world.rejected = set()
    assert letter_worker.counts() == {"retried": 1, "superseded": 1}
    assert [value["n"] for value in letter_worker.world.written] == [3, 2]


def test_a_newer_letter_of_the_key_does_not_supersede_an_older_one(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'), ("a", '{"n": 2}'))
    letter_worker.world.rejected = {2}
    assert letter_worker.counts() == {"retried": 1, "refused again": 1}
    assert [value["n"] for value in letter_worker.world.written] == [1]


def test_only_the_named_group_is_retried(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'))
    assert letter_worker.counts(group="something.else") == {}
    assert letter_worker.groups()["open"] == 1


def test_discarded_letters_are_not_open_any_more(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'))
    assert letter_worker.run("discard")["groups"][0]["counts"] == {"discarded": 1}
    assert letter_worker.groups()["marked"] == {"discarded": 1}
    assert letter_worker.counts() == {}
    assert letter_worker.world.written == []


def test_a_failed_transaction_leaves_letters_open_and_the_next_retry_marks_them(
    letter_worker: DeadLetterWorker,
) -> None:
    letter_worker.send(("a", '{"n": 1}'))
    letter_worker.world.rejected = set()
    letter_worker.kafka.fail_sends(RetriableError("the broker is away", code="kafka.unreachable"))
    failed = letter_worker.run()
    assert (failed["state"], failed["error"]) == ("FAILED", "kafka.unreachable: the broker is away")
    assert letter_worker.groups()["open"] == 1
    assert letter_worker.counts() == {"retried": 1}
    assert len(letter_worker.marks()) == 1


def test_a_letter_without_the_origin_headers_is_left_open(letter_worker: DeadLetterWorker) -> None:
    producer = letter_worker.kafka.producer({})
    producer.send(EncodedBatch("dlq", [b'{"n": 5}']))
    producer.close(1)
    job = letter_worker.run()
    assert job["groups"][0]["counts"] == {"left open": 1}
    assert "errors.deadletterqueue.context.headers.enable" in job["groups"][0]["reason"]
    assert letter_worker.groups()["open"] == 1


def test_a_connector_without_a_queue_is_refused_with_the_key_to_set(letter_worker: DeadLetterWorker) -> None:
    letter_worker.process.worker.put_config("memory", {name: MEMORY[name] for name in MEMORY if "dead" not in name})
    answer = letter_worker.http.get(DEAD_LETTERS)
    assert answer.status_code == 400
    assert "errors.deadletterqueue.topic.name" in answer.json()["message"]


def test_the_command_line_lists_shows_and_retries(letter_worker: DeadLetterWorker) -> None:
    letter_worker.send(("a", '{"n": 1}'))
    letter_worker.world.rejected = set()

    def dlq(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["dlq", *arguments, "--url", letter_worker.process.application.url])
        assert result.exit_code == 0, result.output
        return result.output

    listed = dlq("list", "memory")
    assert "mapping conflict" in listed
    assert "numbers-0 at offset" in listed
    assert 'value: {"n": 1}' in dlq("show", "memory")
    assert "would be" in dlq("retry", "memory", "--try")
    assert "retried" in dlq("retry", "memory")
    assert "1 retried" in dlq("list", "memory")
