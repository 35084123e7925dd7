"""Only trusted configurations use secrets, and no status shows them (findings 1 and 2 of the security review)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from headrace.errors import ConfigError, RetriableError, TaskError
from headrace.files import ConfigFile, read_config_file
from headrace.states import TargetState
from headrace.testing.waiting import eventually

SECRET = "p\u00e4ss'w\u00f6rd\"/&9"
NUMBERS = {
    "name": "numbers",
    "connector.class": "NumbersSource",
    "topic": "numbers",
    "custom.password": "${env:CANARY_PASSWORD}",
}
FORMS: list[Callable[[str], str]] = [
    str,
    repr,
    json.dumps,
    quote,
    lambda text: quote(text, safe=""),
    lambda text: f"x://u:{text}@h",
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigFile:
    monkeypatch.setenv("CANARY_PASSWORD", SECRET)
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps(NUMBERS))
    return read_config_file(path)


def texts(process: Any) -> str:
    status = process.worker.status("numbers")
    parts = [status.connector, *status.tasks.values()]
    return " ".join(f"{part.trace} {part.reason}" for part in parts) + str(status.conditions)


def is_hidden(said: str) -> bool:
    return all(form(SECRET).strip("\"'") not in said for form in FORMS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [RuntimeError, TaskError, RetriableError])
@pytest.mark.parametrize("step", ["planning", "starting", "polling"])
def test_no_status_names_the_value_of_a_placeholder(
    start: Callable[..., Any],
    world: Any,
    file: ConfigFile,
    step: str,
    kind: type[Exception],
    form: Callable[[str], str],
) -> None:
    """Finding 1: the trace and the reason of a connector held the values of placeholders."""
    getattr(world, step).extend(kind(f"the system refused {form(SECRET)}") for _ in range(100))
    process = start(file)
    eventually(lambda: "the system refused" in texts(process))
    assert is_hidden(texts(process))
    assert "${env:CANARY_PASSWORD}" in texts(process) or "[hidden]" in texts(process)


class TestTrust:
    """Finding 2: without allow-lists only files on the command line may use secrets of the machine."""

    def test_a_file_of_the_command_line_is_trusted(
        self, start: Callable[..., Any], world: Any, file: ConfigFile
    ) -> None:
        process = start(file)
        eventually(lambda: process.state("numbers", 0) == "RUNNING")

    def test_a_connector_created_over_rest_is_not_trusted(
        self, start: Callable[..., Any], world: Any, file: ConfigFile
    ) -> None:
        process = start()
        with pytest.raises(ConfigError) as refused:
            process.worker.create("numbers", NUMBERS, TargetState.STARTED)
        assert "config.providers.env.param.allowlist.pattern" in str(refused.value)
        assert process.worker.connectors() == []

    def test_a_configuration_changed_over_rest_is_not_trusted(
        self, start: Callable[..., Any], world: Any, file: ConfigFile
    ) -> None:
        """Otherwise a changed address would receive the password."""
        process = start(file)
        eventually(lambda: process.state("numbers", 0) == "RUNNING")
        with pytest.raises(ConfigError):
            process.worker.patch_config("numbers", {"topic": "elsewhere"})
        assert process.worker.put_config("numbers", NUMBERS)[0] is False  # an equal configuration is no change
        eventually(lambda: process.state("numbers", 0) == "RUNNING")
        changed = {key: value for key, value in NUMBERS.items() if "password" not in key}
        process.worker.put_config("numbers", changed)
        with pytest.raises(ConfigError):
            process.worker.put_config("numbers", NUMBERS)

    def test_the_trust_is_stored_with_the_configuration(
        self, start: Callable[..., Any], world: Any, file: ConfigFile, tmp_path: Path
    ) -> None:
        stored = {"config_storage_file_filename": str(tmp_path / "configs.jsonl")}
        first = start(file, **stored)
        eventually(lambda: first.state("numbers", 0) == "RUNNING")
        first.application.stop()
        starts = len(world.starts)
        second = start(**stored)
        eventually(lambda: second.state("numbers", 0) == "RUNNING" and len(world.starts) > starts)

    def test_stored_configurations_of_an_older_version_are_trusted_if_their_file_is(
        self, start: Callable[..., Any], world: Any, file: ConfigFile, tmp_path: Path
    ) -> None:
        stored = {"config_storage_file_filename": str(tmp_path / "configs.jsonl")}
        first = start(file, **stored)
        eventually(lambda: first.state("numbers", 0) == "RUNNING")
        first.application.stop()
        log = tmp_path / "configs.jsonl"
        log.write_text(log.read_text().replace(',"trusted":true', ""))
        assert "trusted" not in log.read_text()
        without = start(**stored)
        eventually(lambda: without.state("numbers", 0) == "FAILED")
        assert "allowlist.pattern" in texts(without)
        without.application.stop()
        again = start(file, **stored)
        eventually(lambda: again.state("numbers", 0) == "RUNNING")
