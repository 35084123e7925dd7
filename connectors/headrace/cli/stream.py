"""``headrace stream``: explains stream applications, and tests them without Kafka."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import structlog
import typer

from headrace.cli.loading import load
from headrace.cli.output import out
from headrace.cli.stream_scenarios import read_scenarios, run_scenario
from headrace.errors import ConfigError, Finding, Location
from headrace.pipeline.stream_driver import StreamDriver
from headrace.plugin import StreamContext
from headrace.settings import StreamSettings
from headrace.states import TaskId
from headrace.validation import ConnectorConfig

app = typer.Typer(
    name="stream",
    help="Explain and test stream applications.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_FAILED = 1  # exit code


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The application's file.")],
) -> None:
    """Show the plan of an application: topics, steps, state, and the internal topics that it creates.

    Does not connect to Kafka.
    """
    config = _application(file)
    for line in config.plugin.cls().explain(config.name, config.own):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command("test")
def run_tests(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Test files.")],
) -> None:
    """Run tests of applications without Kafka: given records, expected outputs. Time is that of the records.

      headrace stream test streams/surveys.test.yaml

    Exit code 0: all tests passed. 1: a test failed. 2: fix the files.
    """
    failed = passed = 0
    for path in files:
        scenarios = read_scenarios(path)
        file = path.parent / scenarios.application
        config = _application(file)
        for name, scenario in scenarios.tests.items():
            assert isinstance(config.settings, StreamSettings)  # _application
            driver = StreamDriver(config.plugin.cls.task_class(), _context(config, file), config.settings.idle_after)
            try:
                differences = run_scenario(driver, scenario)
            finally:
                driver.close()
            failed, passed = failed + bool(differences), passed + (not differences)
            out.print(f"{'FAILED' if differences else 'passed'}  {path}: {name}", markup=False, highlight=False)
            for line in differences:
                out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"{passed} passed, {failed} failed")
    if failed:
        raise typer.Exit(_FAILED)


def _application(file: Path) -> ConnectorConfig:
    loaded = load([file])
    if any(finding.severity == "error" for finding in loaded.findings):
        raise ConfigError(findings=loaded.findings)
    config = next(iter(loaded.configs.values()), None)
    if config is None or config.plugin.type != "stream":
        text = f"{file} is not the file of a stream application"
        found = Finding("config.file", text, hint="set connector.class: Stream", location=Location(str(file), 1))
        raise ConfigError(findings=[found])
    return config


def _context(config: ConnectorConfig, file: Path) -> StreamContext:
    def config_origin(key: str) -> str:
        return f"{file}: {key}"

    def ignore(reason: str | None) -> None:
        """No worker shows a status here."""

    log = structlog.stdlib.get_logger("headrace.task")
    return StreamContext(TaskId(config.name, 0), config.own, threading.Event(), log, config_origin, ignore)
