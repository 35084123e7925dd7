"""Version, health and log levels of the worker."""

import importlib.metadata
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headrace.metrics import now_ms
from headrace.runtime.api import Health


def test_the_root_has_version_and_cluster_id(client: httpx.Client, worker: Any) -> None:
    version = importlib.metadata.version("headrace")
    answer = client.get("/")
    expected = {"version": version, "commit": "unknown", "kafka_cluster_id": "kafka-1"}
    assert (answer.status_code, answer.json()) == (200, expected)
    worker.cluster = None
    assert client.get("/").json()["kafka_cluster_id"] is None


@pytest.mark.parametrize(("word", "status"), [("healthy", 200), ("starting", 503), ("unhealthy", 500)])
def test_health_has_the_status_code_of_its_state(client: httpx.Client, worker: Any, word: str, status: int) -> None:
    worker.answer_health = Health(word, "because")
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (status, {"status": word, "message": "because"})
    assert client.head("/health").status_code == status


def test_readiness_is_health_and_liveness_is_separate(client: httpx.Client, worker: Any) -> None:
    worker.answer_health = Health("starting", "Kafka does not answer yet")
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200, "a restart does not help while Kafka is away"
    worker.answer_liveness = Health("unhealthy", "the control thread has ended")
    answer = client.get("/health/live")
    assert (answer.status_code, answer.json()["message"]) == (500, "the control thread has ended")


def test_a_standalone_worker_has_no_group(client: httpx.Client) -> None:
    answer = client.get("/v1/workers")
    assert (answer.status_code, "this worker is standalone" in answer.json()["message"]) == (404, True)


class TestLoggers:
    @pytest.fixture(autouse=True)
    def loggers(self) -> Iterator[None]:
        """``acme``, ``acme.sql`` (with its own level) and ``acme.file`` (without), restored after the test."""
        names = ("acme", "acme.sql", "acme.file", "acmeother")
        logging.getLogger("acme").setLevel(logging.INFO)
        logging.getLogger("acme.sql").setLevel(logging.ERROR)
        logging.getLogger("acme.file")
        logging.getLogger("acmeother").setLevel(logging.CRITICAL)
        yield
        for name in names:
            logging.getLogger(name).setLevel(logging.NOTSET)

    def test_loggers_are_listed_with_their_effective_levels(self, client: httpx.Client) -> None:
        answer = client.get("/admin/loggers")
        assert answer.status_code == 200
        shown = answer.json()
        assert shown["acme"]["level"] == "INFO"
        assert shown["acmeother"]["level"] == "FATAL"
        assert "root" in shown
        assert shown["acme.file"]["level"] == "INFO"
        assert list(shown) == sorted(shown)

    def test_one_logger_is_returned_and_an_unknown_one_is_404(self, client: httpx.Client) -> None:
        assert client.get("/admin/loggers/acme.file").json()["level"] == "INFO"
        answer = client.get("/admin/loggers/acme.fil")
        assert answer.status_code == answer.json()["error_code"] == 404
        assert answer.json()["message"].startswith("Logger acme.fil not found.")

    def test_a_level_is_set_for_child_loggers_too(self, client: httpx.Client) -> None:
        before = now_ms()
        answer = client.put("/admin/loggers/acme", json={"level": "debug"})
        assert (answer.status_code, answer.json()) == (200, ["acme", "acme.sql"])
        assert (
            logging.getLogger("acme.sql").level == logging.getLogger("acme.file").getEffectiveLevel() == logging.DEBUG
        )
        assert logging.getLogger("acmeother").level == logging.CRITICAL
        assert client.get("/admin/loggers/acme").json()["last_modified"] >= before

    def test_the_number_of_added_loggers_is_limited(self, client: httpx.Client) -> None:
        """Finding 15 of the security review: each request made a logger that stays forever."""
        answers = [
            client.put(f"/admin/loggers/unused.{number}", json={"level": "DEBUG"}).status_code for number in range(120)
        ]
        assert answers[0] == 200
        assert answers[-1] == 409
        assert client.put("/admin/loggers/acme", json={"level": "DEBUG"}).status_code == 200
        added = [name for name in client.get("/admin/loggers").json() if name.startswith("unused.")]
        assert len(added) == answers.count(200) <= 100

    def test_the_length_of_a_logger_name_is_limited(self, client: httpx.Client) -> None:
        """Finding 15 of the security review."""
        answer = client.put(f"/admin/loggers/{'a' * 5_000}", json={"level": "DEBUG"})
        assert answer.status_code == 400
        assert "a" * 5_000 not in client.get("/admin/loggers").json()

    def test_scope_cluster_is_204(self, client: httpx.Client) -> None:
        answer = client.put("/admin/loggers/acme?scope=cluster", json={"level": "TRACE"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert client.get("/admin/loggers/acme").json()["level"] == "TRACE"

    @pytest.mark.parametrize(
        ("body", "status", "says"),
        [
            ({}, 400, "Desired 'level' parameter was not specified in request."),
            ({"level": "LOUD"}, 404, "invalid log level 'LOUD'."),
        ],
    )
    def test_an_invalid_level_is_refused(self, client: httpx.Client, body: Any, status: int, says: str) -> None:
        answer = client.put("/admin/loggers/acme", json=body)
        assert answer.status_code == answer.json()["error_code"] == status
        assert answer.json()["message"].startswith(says)
        assert logging.getLogger("acme").level == logging.INFO
