"""Operation of a worker: commands, states, prompt and graceful stops, and restarts that continue."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from typing import Any

from sqlalchemy import make_url

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.data_comparison import topic_entries
from headrace.testing.waiting import eventually


def test_a_connector_is_operated_from_the_command_line(
    kafka: Any, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> None:
    name = unique_name
    worker = make_worker(kafka.bootstrap_servers)
    worker.write(name, {"connector.class": "DatagenSource", "topic": name, "interval.ms": "10"})
    worker.start()

    def connectors(*words: str) -> Any:
        answer = box.command("connectors", *words, "--url", worker.url, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout) if answer.stdout.strip() else None

    def state() -> tuple[str, list[str]]:
        status = connectors("status", name)
        return status["connector"]["state"], [task["state"] for task in status["tasks"]]

    eventually(lambda: state() == ("RUNNING", ["RUNNING"]), box.timeout)
    assert name in connectors("list")
    connectors("pause", name)
    eventually(lambda: state() == ("PAUSED", ["PAUSED"]), box.timeout)
    connectors("resume", name)
    eventually(lambda: state() == ("RUNNING", ["RUNNING"]), box.timeout)
    connectors("restart", name, "--include-tasks")
    eventually(lambda: state() == ("RUNNING", ["RUNNING"]), box.timeout)
    connectors("stop", name)
    eventually(lambda: state() == ("STOPPED", []), box.timeout)
    connectors("delete", name, "--yes")
    assert connectors("list") == {}
    missing = box.command("connectors", "status", name, "--url", worker.url)
    assert missing.returncode == 2
    assert "connector.not_found" in missing.stderr
    assert name in missing.stderr
    assert worker.stop() == 0


def test_commands_report_an_unreachable_worker(box: Any) -> None:
    answer = box.command("connectors", "list", "--url", f"http://127.0.0.1:{box.free_port()}")
    assert answer.returncode == 3
    assert "Traceback" not in answer.stderr


def test_ctrl_c_stops_gracefully_and_a_second_run_repeats_no_record(
    kafka: Any, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> None:
    worker = make_worker(kafka.bootstrap_servers)
    worker.write(unique_name, {"connector.class": "DatagenSource", "topic": unique_name, "max.messages": "500"})
    worker.start()
    eventually(lambda: worker.running(unique_name), box.timeout)
    eventually(lambda: worker.get(f"/connectors/{unique_name}/offsets")["offsets"] != [], box.timeout)
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait(60) == 0
    assert "Traceback" not in worker.log
    before = worker.log
    worker.start()
    eventually(lambda: worker.running(unique_name), box.timeout)
    offsets = worker.get(f"/connectors/{unique_name}/offsets")["offsets"]
    assert offsets
    assert worker.stop() == 0
    assert "Traceback" not in worker.log[len(before) :]


def test_a_worker_without_kafka_reports_it_and_stops_promptly(make_worker: Callable[..., Any], box: Any) -> None:
    worker = make_worker(f"127.0.0.1:{box.free_port()}")
    worker.write("numbers", {"connector.class": "DatagenSource", "topic": "numbers"})
    worker.start()

    def reason() -> str:
        tasks = worker.get("/connectors/numbers/status")["tasks"]
        return (tasks[0].get("reason") or "") if tasks else ""

    eventually(lambda: "127.0.0.1" in reason(), box.timeout)
    assert worker.stop() == 0
    assert "Traceback" not in worker.log


def test_an_unreadable_table_is_left_out_until_the_statement_in_the_status_is_run(
    kafka: Any, database: str, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> None:
    """Nothing is restarted; the other tables are read meanwhile."""
    kafka_clients = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers})
    topics = {name: f"{unique_name}.{name}" for name in ("one", "two", "three")}

    def keys(name: str) -> list[str]:
        return [entry.key for entry in topic_entries(kafka_clients, topics[name])]

    worker = make_worker(kafka.bootstrap_servers)
    with box.connect(database) as connection:
        connection.execute(f"CREATE ROLE {unique_name} LOGIN PASSWORD 'right'")
        for name in topics:
            connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
            connection.execute(f"INSERT INTO {name} VALUES (1)")
        connection.execute(f"GRANT SELECT ON one, three TO {unique_name}")
        url = make_url(database).set(username=unique_name, password="right").render_as_string(hide_password=False)
        worker.write(
            unique_name,
            {
                "connector.class": "SqlSource",
                "connection.url": url,
                "table.whitelist": "one,two,three",
                "mode": "incrementing",
                "topic.prefix": f"{unique_name}.",
                "poll.interval.ms": "100",
            },
        )
        worker.start()

        def reason() -> str:
            tasks = worker.get(f"/connectors/{unique_name}/status")["tasks"]
            return (tasks[0].get("reason") or "") if tasks else ""

        eventually(lambda: "table public.two is left out" in reason(), box.timeout)
        eventually(lambda: (keys("one"), keys("three")) == (["1"], ["1"]), box.timeout)
        assert worker.running(unique_name)
        assert keys("two") == []
        found = re.search(r"run: (GRANT [^;]*);", reason())
        assert found is not None, reason()
        connection.execute(found[1])
        eventually(lambda: keys("two") == ["1"], box.timeout)
        eventually(lambda: reason() == "", box.timeout)
        assert worker.stop() == 0
        connection.execute(f"DROP OWNED BY {unique_name}; DROP ROLE {unique_name}")
