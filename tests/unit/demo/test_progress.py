from typing import Any

import pytest

from demo.progress import Watcher, read_connectors


def status(*states: tuple[str, str | None], connector: str = "RUNNING") -> dict[str, Any]:
    tasks = [{"id": n, "state": state, "worker_id": "w", "reason": reason} for n, (state, reason) in enumerate(states)]
    return {"status": {"name": "x", "connector": {"state": connector, "worker_id": "w"}, "tasks": tasks}}


def test_a_connector_has_the_worst_state_of_its_parts() -> None:
    statuses = {"offers": status(("RUNNING", None), ("FAILED", "no such table")), "sink": status(("RUNNING", "busy"))}

    read = read_connectors(statuses, {"tasks": []})

    assert (read["offers"].state, read["offers"].reason) == ("FAILED", "no such table")
    assert (read["sink"].state, read["sink"].reason) == ("RUNNING", "busy")


def test_the_reason_is_the_last_line_of_a_trace() -> None:
    answer = status()
    answer["status"]["connector"] = {"state": "FAILED", "worker_id": "w", "trace": "Traceback\n  File\nKeyError: 'a'\n"}

    assert read_connectors({"offers": answer}, {"tasks": []})["offers"].reason == "KeyError: 'a'"


def test_counters_of_tasks_are_added() -> None:
    tasks = [("a", 0, {"sink_record_send_total": 3}), ("a", 1, {"sink_record_send_total": 4}), ("b", 0, {"x": 1})]
    metrics = {"tasks": [{"connector": name, "task": number, "metrics": told} for name, number, told in tasks]}

    read = read_connectors({"a": status(("RUNNING", None), ("RUNNING", None))}, metrics)

    assert read["a"].counters == {"sink_record_send_total": 7}
    assert read["a"].count("never_told") == 0


@pytest.fixture
def watcher() -> Watcher:
    return Watcher("http://127.0.0.1:1", "http://127.0.0.1:1")


def test_an_unavailable_worker_is_not_an_error(watcher: Watcher) -> None:
    progress = watcher.look()

    assert not progress.answered
    assert progress.connector("offers").state == "UNASSIGNED"
    assert set(progress.documents.values()) == {0}
