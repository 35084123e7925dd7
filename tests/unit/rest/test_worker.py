"""The worker itself: version, health, levels of loggers."""

import importlib.metadata
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headrace.metrics import now_ms
from headrace.runtime.api import Health


def test_root_tells_version_and_cluster(client: httpx.Client, worker: Any) -> None:
    version = importlib.metadata.version("headrace")
    answer = client.get("/")
    expected = {"version": version, "commit": "unknown", "kafka_cluster_id": "kafka-1"}
    assert (answer.status_code, answer.json()) == (200, expected)
    worker.cluster = None
    assert client.get("/").json()["kafka_cluster_id"] is None


@pytest.mark.parametrize(("word", "status"), [("healthy", 200), ("starting", 503), ("unhealthy", 500)])
def test_health(client: httpx.Client, worker: Any, word: str, status: int) -> None:
    worker.answer_health = Health(word, "because")
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (status, {"status": word, "message": "because"})
    assert client.head("/health").status_code == status


class TestLoggers:
    @pytest.fixture(autouse=True)
    def loggers(self) -> Iterator[None]:
        """``acme``, ``acme.sql`` (with a level of its own), ``acme.file`` (without), restored afterwards."""
        names = ("acme", "acme.sql", "acme.file", "acmeother")
        logging.getLogger("acme").setLevel(logging.INFO)
        logging.getLogger("acme.sql").setLevel(logging.ERROR)
        logging.getLogger("acme.file")
        logging.getLogger("acmeother").setLevel(logging.CRITICAL)
        yield
        for name in names:
            logging.getLogger(name).setLevel(logging.NOTSET)

    def test_all_with_a_level_of_their_own(self, client: httpx.Client) -> None:
        answer = client.get("/admin/loggers")
        assert answer.status_code == 200
        shown = answer.json()
        assert shown["acme"]["level"] == "INFO"
        assert shown["acmeother"]["level"] == "FATAL"
        assert "root" in shown
        assert shown["acme.file"]["level"] == "INFO"
        assert list(shown) == sorted(shown)

    def test_one(self, client: httpx.Client) -> None:
        assert client.get("/admin/loggers/acme.file").json()["level"] == "INFO"
        answer = client.get("/admin/loggers/acme.fil")
        assert answer.status_code == answer.json()["error_code"] == 404
        assert answer.json()["message"].startswith("Logger acme.fil not found.")

    def test_setting_a_level_reaches_what_is_below(self, client: httpx.Client) -> None:
        before = now_ms()
        answer = client.put("/admin/loggers/acme", json={"level": "debug"})
        assert (answer.status_code, answer.json()) == (200, ["acme", "acme.sql"])
        assert (
            logging.getLogger("acme.sql").level == logging.getLogger("acme.file").getEffectiveLevel() == logging.DEBUG
        )
        assert logging.getLogger("acmeother").level == logging.CRITICAL
        assert client.get("/admin/loggers/acme").json()["last_modified"] >= before

    def test_loggers_cannot_be_added_without_bound(self, client: httpx.Client) -> None:
        """Finding 15 of the security review: each request made a logger that stays forever."""
        answers = [
            client.put(f"/admin/loggers/unused.{number}", json={"level": "DEBUG"}).status_code for number in range(120)
        ]
        assert answers[0] == 200
        assert answers[-1] == 409
        assert client.put("/admin/loggers/acme", json={"level": "DEBUG"}).status_code == 200
        added = [name for name in client.get("/admin/loggers").json() if name.startswith("unused.")]
        assert len(added) == answers.count(200) <= 100

    def test_the_name_of_a_new_logger_is_bounded(self, client: httpx.Client) -> None:
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
    def test_a_wrong_level_is_refused(self, client: httpx.Client, body: Any, status: int, says: str) -> None:
        answer = client.put("/admin/loggers/acme", json=body)
        assert answer.status_code == answer.json()["error_code"] == status
        assert answer.json()["message"].startswith(says)
        assert logging.getLogger("acme").level == logging.INFO
