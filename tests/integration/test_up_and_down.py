"""``headrace up`` and ``headrace down``: started engines are real, are found by later commands, and are stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from typer.testing import CliRunner, Result

from headrace.cli.main import app
from headrace.embedded import EmbeddedStack
from headrace.embedded.stack_process import stop_stack
from headrace.embedded.tcp_ports import free_port
from headrace.errors import ConflictError, InfrastructureError

pytestmark = pytest.mark.timeout(300)
PROGRAM = [sys.executable, "-c", "from headrace.cli import main; main()"]


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The folder of a stack, which is stopped after the test."""
    yield tmp_path / "data"
    if (tmp_path / "data").is_dir():
        stop_stack(tmp_path / "data")


@pytest.fixture
def headrace(data: Path) -> Callable[..., Result]:
    """Runs a command in this process: ``headrace("up", "--detach")``. Its exception is in the result."""
    return lambda command, *arguments: CliRunner().invoke(app, [command, *arguments, "--data", str(data)])


def answers(url: str) -> bool:
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def with_folder(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(folder) in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def engines_of(result: Result) -> dict[str, Any]:
    assert result.exception is None, result.exception
    engines: dict[str, Any] = json.loads(result.stdout)["engines"]
    return engines


def test_a_detached_stack_runs_until_down(headrace: Any, data: Any) -> None:
    first = engines_of(headrace("up", "--detach", "--json"))
    assert {name: engine["variable"] for name, engine in first.items()} == {
        "kafka": "KAFKA_BOOTSTRAP_SERVERS",
        "elasticsearch": "ELASTICSEARCH_URL",
        "postgres": "DATABASE_URL",
    }
    url = first["postgres"]["address"]
    assert answers(url)

    down = headrace("down")

    assert down.exit_code == 0
    assert str(data) in down.stderr
    assert with_folder(data) == []
    with pytest.raises(psycopg.OperationalError):
        answers(url)


def test_the_output_is_a_shell_statement_and_hints_are_on_stderr(headrace: Any) -> None:
    up = headrace("up", "postgres", "--detach")

    assert up.stdout.startswith("export DATABASE_URL=postgresql+psycopg://")
    assert up.stdout.count("\n") == 1
    assert "for laptops, demos and tests" in up.stderr
    assert "headrace down --data" in up.stderr


def test_a_configured_port_is_used_and_a_port_in_use_is_an_error(headrace: Any) -> None:
    port = free_port()  # outside the range of ephemeral ports
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()

        refused = headrace("up", "postgres", "--detach", "--postgres-port", str(port))

        assert isinstance(refused.exception, InfrastructureError)
        assert (refused.exception.code, refused.exception.exit_code) == ("embedded.port_in_use", 3)
        assert f"127.0.0.1:{port}" in refused.exception.message
        assert "--postgres-port" in refused.exception.hint

    engines = engines_of(headrace("up", "postgres", "--detach", "--json", "--postgres-port", str(port)))
    assert f":{port}/" in engines["postgres"]["address"]


def test_a_second_stack_in_the_folder_is_refused_and_the_first_continues(headrace: Any) -> None:
    engines = engines_of(headrace("up", "postgres", "--detach", "--json"))

    second = headrace("up", "postgres", "--detach")

    assert isinstance(second.exception, ConflictError)
    assert second.exception.code == "embedded.already_running"
    assert "headrace down" in second.exception.hint
    assert answers(engines["postgres"]["address"])


def test_down_without_a_stack_reports_it(headrace: Any, data: Any) -> None:
    down = headrace("down")

    assert down.exit_code == 0
    assert down.stderr == f"nothing is running in {data}\n"
    assert not data.exists()


def test_an_unknown_engine_is_reported_with_the_nearest_name(headrace: Any) -> None:
    up = headrace("up", "posgres")

    assert getattr(up.exception, "code", None) == "embedded.unknown_engine"
    assert "'postgres'" in str(up.exception)


def test_a_data_folder_that_cannot_be_created_is_an_error(headrace: Any, data: Any) -> None:
    data.write_text("a file")

    for arguments in (["up", "postgres"], ["up", "postgres", "--detach"]):
        up = headrace(*arguments)
        assert isinstance(up.exception, InfrastructureError)
        assert (up.exception.code, up.exception.exit_code) == ("embedded.folder", 3)
    data.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stack_in_the_foreground_stops_gracefully_on_a_signal(data: Any, number: Any) -> None:
    with subprocess.Popen(
        [*PROGRAM, "up", "postgres", "--data", str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        url = up.stdout.readline().strip().removeprefix("export DATABASE_URL=")
        assert answers(url)

        up.send_signal(number)
        up.send_signal(number)  # an impatient user, or a terminal and a program that both send it
        _, said = up.communicate()

    assert up.returncode == 0
    assert said.endswith(f"stopped; the data is kept in {data}\n")
    assert "Traceback" not in said
    assert with_folder(data) == []
    assert "database system is shut down" in (data / "postgres" / "server.log").read_text()


def test_an_engine_that_ends_by_itself_ends_the_stack_and_shows_its_log(data: Any) -> None:
    with subprocess.Popen(
        [*PROGRAM, "up", "postgres", "--data", str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        up.stdout.readline()
        pid = int((data / "postgres" / "data" / "postmaster.pid").read_text().split()[0])

        os.kill(pid, signal.SIGKILL)
        _, said = up.communicate()

    assert up.returncode == 3
    assert "error: embedded.ended: PostgreSQL ended by itself" in said
    assert "ready to accept connections" in said
    assert with_folder(data) == []


def test_a_stack_starts_in_the_same_folder_and_port_after_kill_9(data: Any) -> None:
    """The new stack waits until the engines of the killed one have ended."""
    command = [*PROGRAM, "up", "kafka", "postgres", "--json", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as up:
        assert up.stdout is not None
        said = ""
        while not said.endswith("\n}\n"):
            said += up.stdout.readline()
        engines = json.loads(said)["engines"]
        url = engines["postgres"]["address"]
        with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

        up.kill()
        up.wait()

    ports: dict[str, Any] = {
        "kafka_port": int(engines["kafka"]["address"].rpartition(":")[2]),
        "postgres_port": int(url.rpartition(":")[2].partition("/")[0]),
    }
    with (
        EmbeddedStack(data, engines=["kafka", "postgres"], **ports) as stack,
        psycopg.connect(stack.postgres.url.replace("postgresql+psycopg", "postgresql")) as connection,
    ):
        assert stack.kafka.port == ports["kafka_port"]
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
