"""A third-party package is created, tested and run in an environment with only the wheel and `headrace[testing]`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.records import EncodedBatch
from headrace.testing.data_comparison import topic_entries
from headrace.testing.waiting import eventually

ROOT = Path(__file__).parents[2]
_LONG = 600.0
"""Seconds: pip may have to download everything."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    def run(self, program: str, *arguments: str | Path, cwd: Path) -> str:
        """Run a program of the environment until it ends; a failure shows its output."""
        # The environment of these tests must not affect the other.
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
        done = subprocess.run(
            [str(self.folder / "bin" / program), *map(str, arguments)],
            cwd=cwd,
            env=variables,
            capture_output=True,
            text=True,
            timeout=_LONG,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel of this tree, its extra `testing`, mypy and ruff."""
    folder = tmp_path_factory.mktemp("third-party")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT], check=True, timeout=_LONG)
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=_LONG)
    made = Environment(folder / "venv")
    made.run("pip", "install", "--quiet", f"{wheel}[testing]", "mypy", "ruff", "hatchling", "editables", cwd=folder)
    return made


@pytest.fixture
def package(environment: Environment, tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that creates a connector's package, installs it as its README says, and returns its folder."""

    def make(name: str, kind: str) -> Path:
        folder = tmp_path / name
        environment.run("headrace", "new", "connector", name, "--type", kind, "--directory", folder, cwd=tmp_path)
        environment.run(
            "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", folder, cwd=folder
        )
        environment.run("pytest", cwd=folder)
        environment.run("mypy", cwd=folder)
        environment.run("ruff", "check", ".", cwd=folder)
        environment.run("ruff", "format", "--check", ".", cwd=folder)
        return folder

    return make


class Running:
    """``headrace run`` with the files that came with the package."""

    def __init__(self, environment: Environment, folder: Path, kind: str, bootstrap: str, box: Any) -> None:
        self._worker = box.worker_process(folder, bootstrap)
        worker = folder / "config" / "worker.yaml"
        settings = yaml.safe_load(worker.read_text())
        worker.write_text(yaml.safe_dump(settings | {"bootstrap.servers": bootstrap, "listeners": self._worker.url}))
        environment.run("headrace", "validate", worker, folder / "config" / f"{kind}.yaml", cwd=folder)
        self._log = (folder / "worker.log").open("wb")
        self._worker.process = subprocess.Popen(
            [environment.folder / "bin" / "headrace", "run", worker, folder / "config" / f"{kind}.yaml"],
            cwd=folder,
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            assert self._worker.stop() == 0
        finally:
            self._worker.kill()
            self._log.close()


@pytest.mark.timeout(900)
def test_a_new_source_passes_its_checks_and_sends_lines_to_kafka(
    environment: Environment, package: Callable[[str, str], Path], kafka: Any, box: Any, unique_name: str
) -> None:
    name = unique_name.replace("_", "-").lower()
    folder = package(name, "source")
    (folder / "input.txt").write_text("first\nsecond\n")
    with Running(environment, folder, "source", kafka.bootstrap_servers, box):
        eventually(
            lambda: (
                [
                    item.value
                    for item in topic_entries(KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers}), name)
                ]
                == ["first", "second"]
            ),
            box.timeout,
        )


@pytest.mark.timeout(900)
def test_a_new_sink_passes_its_checks_and_writes_records_to_its_file(
    environment: Environment, package: Callable[[str, str], Path], kafka: Any, box: Any, unique_name: str
) -> None:
    name = unique_name.replace("_", "-").lower()
    folder = package(name, "sink")
    producer = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers}).producer({})
    producer.send(EncodedBatch(name, [b'{"n":1}', b'{"n":2}']))
    producer.close(30)
    output = folder / "output.jsonl"
    with Running(environment, folder, "sink", kafka.bootstrap_servers, box):
        eventually(lambda: output.exists() and len(output.read_text().splitlines()) == 2, box.timeout)
