"""``headrace doctor`` reports problems of the machine and of the configured systems, each with a command that helps."""

from __future__ import annotations

import json
import socket
from email.utils import formatdate
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.app import worker_group_findings
from headrace.broker.in_memory import InMemoryKafka
from headrace.cli import surroundings
from headrace.cli.doctor import examine
from headrace.cli.main import app
from headrace.embedded.tcp_ports import free_port
from headrace.errors import RetriableError
from headrace.files import parse_config_file

NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a worker's file in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "worker.yaml"
    path.write_text(
        f"bootstrap.servers: broker:9092\nkafka.client: kafka-python\nlisteners: http://127.0.0.1:{free_port()}\n"
        "offset.storage.file.filename: data/offsets.jsonl\n"
    )
    path.chmod(0o600)
    return path


def answering(_: object) -> str:
    """Return clients of a Kafka that responds."""
    return "cluster"


def test_a_machine_without_errors_gives_exit_code_0(worker: Path) -> None:
    found, exit_code = examine([worker], answering)
    states = {item.subject: item.state for item in found}
    assert exit_code == 0
    assert {"python", "kafka client", "crc32c", "offsets", "rest api", "systems"} <= states.keys()
    assert states["kafka client"] == "warning"  # kafka-python
    assert "error" not in states.values()
    [client] = [item for item in found if item.subject == "kafka client"]
    assert client.command == "pip install 'headrace[fast]'"


def test_findings_of_check_are_reported_with_location_and_fix(worker: Path) -> None:
    def unreachable(_: object) -> str:
        raise RetriableError("broker:9092 does not answer", code="kafka.unreachable")

    found, exit_code = examine([worker], unreachable)
    [kafka] = [item for item in found if item.subject == "kafka.unreachable"]
    assert exit_code == 3
    assert kafka.text == f"{worker}:1:1: broker:9092 does not answer"
    assert kafka.command.startswith("check that Kafka is running")


def test_an_invalid_file_gives_exit_code_2(worker: Path) -> None:
    worker.write_text("bootstrap.server: broker:9092\n")
    assert CliRunner().invoke(app, ["doctor", str(worker)]).exit_code == 2


def test_the_machine_is_examined_without_files_and_json_is_printed() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    answer = json.loads(result.stdout)
    assert answer["ok"] is True
    assert {"subject": "python", "state": "ok"}.items() <= answer["checks"][0].items()


def test_a_port_in_use_names_the_command_that_finds_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [found] = surroundings.listeners([f"http://127.0.0.1:{port}"], timeout=0.2)
    assert found.state == "error"
    assert f"ss -ltnp 'sport = :{port}'" in found.command


@pytest.mark.parametrize(
    ("free", "state"),
    [(10 << 20, "error"), (500 << 20, "warning"), (5 << 30, "ok")],
    ids=["disk-full", "little-space", "enough-space"],
)
def test_free_space_for_the_offset_file_has_its_severity(tmp_path: Path, free: int, state: str) -> None:
    found = surroundings.storage("offsets", tmp_path / "new" / "offsets.jsonl", free)
    assert found.state == state
    assert (found.command == f"df -h {tmp_path}") == (state != "ok")


def test_a_file_in_place_of_the_offset_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    found = surroundings.storage("offsets", tmp_path / "data" / "offsets.jsonl")
    assert (found.state, found.text) == ("error", f"{tmp_path / 'data'} is not a folder")


@pytest.mark.parametrize(("available_kb", "state"), [(100_000, "warning"), (8_000_000, "ok")])
def test_free_memory_has_its_severity(tmp_path: Path, available_kb: int, state: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 9000000 kB\nMemAvailable: {available_kb} kB\n")
    found = surroundings.memory(meminfo, 16_000_000)
    assert found is not None
    assert found.state == state
    assert surroundings.memory(tmp_path / "missing") is None


def test_slow_checksums_name_the_package_to_install() -> None:
    assert surroundings.checksum("c").state == "ok"
    slow = surroundings.checksum("python")
    assert (slow.state, "google-crc32c" in slow.command) == ("warning", True)


@pytest.mark.parametrize(
    ("difference", "state", "text"),
    [(0, "ok", "as at es:9200"), (-60, "warning", "60 s ahead of"), (120, "warning", "120 s behind")],
)
def test_a_clock_difference_has_its_severity(difference: int, state: str, text: str) -> None:
    found = surroundings.clock("es:9200", formatdate(NOW + difference, usegmt=True), NOW)
    assert found is not None
    assert found.state == state
    assert text in found.text
    assert surroundings.clock("es:9200", "", NOW) is None


@pytest.mark.parametrize(
    ("line", "mode", "warned"),
    [
        ("connection.password: hunter22", 0o644, True),
        ("connection.url: postgresql://me:hunter22@h/d", 0o644, True),
        ("connection.password: hunter22", 0o600, False),
        ("connection.password: ${env:PASSWORD}", 0o644, False),
    ],
)
def test_a_literal_secret_that_every_user_can_read_is_a_warning(
    tmp_path: Path, line: str, mode: int, warned: bool
) -> None:
    path = tmp_path / "rows.yaml"
    path.write_text(f"name: rows\n{line}\n")
    path.chmod(mode)
    found = list(surroundings.secrets(parse_config_file(path)))
    assert [item.state for item in found] == (["warning"] if warned else [])
    assert all("hunter22" not in item.text + item.command and "chmod 600" in item.command for item in found)


GROUP = (
    "group.id: g\nconfig.storage.topic: configs\noffset.storage.topic: offsets\nstatus.storage.topic: statuses\n"
    "admin.listeners: ''\n"
)


def test_a_worker_of_a_group_is_examined_by_its_topics_and_not_by_its_files(worker: Path) -> None:
    worker.write_text(worker.read_text() + GROUP)
    found, exit_code = examine([worker], answering, lambda settings: [])
    assert exit_code == 0
    assert "offsets" not in {item.subject for item in found}
    assert found[-1].text == "Kafka, the topics of worker group g: nothing to report"


def test_findings_about_the_topics_of_the_group_are_reported_with_the_command(worker: Path) -> None:
    worker.write_text(worker.read_text() + GROUP)
    kafka = InMemoryKafka()
    kafka.create("configs", 3, {"cleanup.policy": "delete"})
    found, exit_code = examine([worker], answering, lambda settings: worker_group_findings(kafka, settings))
    wrong = [item for item in found if item.subject == "group.topic"]
    assert (exit_code, len(wrong)) == (3, 2)
    assert "topic configs (config.storage.topic) has cleanup.policy=delete" in wrong[0].text
    assert "kafka-configs --alter --topic configs" in wrong[0].command
    assert "has 3 partitions" in wrong[1].text
    assert kafka.topics().keys() == {"configs"}, "doctor changes nothing"
