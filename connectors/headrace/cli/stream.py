"""``headrace stream``: explains stream applications, and tests them without Kafka."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from headrace.cli.client import DEFAULT_URL, WorkerClient
from headrace.cli.connectors import Name, UrlOption
from headrace.cli.loading import load
from headrace.cli.output import JsonFlag, out, print_json, print_table
from headrace.cli.stream_scenarios import read_scenarios, run_scenario
from headrace.cli.worker_access import worker_access
from headrace.errors import ConfigError, Finding, Location
from headrace.pipeline.stream.driver import StreamDriver
from headrace.plugin import StreamContext
from headrace.settings import StreamSettings
from headrace.states import TaskId
from headrace.validation import ConnectorConfig

app = typer.Typer(
    name="stream",
    help="Explain, test and reset stream applications.",
    no_args_is_help=True,
    callback=worker_access,
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


@app.command("reset")
def reset(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what a reset would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Reset a stopped application: it processes its inputs from the beginning, without state.

      headrace connectors stop surveys --wait

      headrace stream reset surveys --dry-run

    Moves the offsets to the beginning of the inputs and deletes the internal topics (changelogs, repartition topics,
    the registration). Refused while a task of any process runs. Outputs are not changed: results are written again.
    """
    client = WorkerClient(url)
    planned = client.of_connector("POST", name, "/reset", {"try": True}, prefix="/v1").body
    if not json:
        _print_reset(planned)
    if dry_run:
        if json:
            print_json(planned)
        return
    if not yes:
        typer.confirm(f"Reset {name}?", abort=True, err=True)
    done = client.of_connector("POST", name, "/reset", {"try": False}, prefix="/v1").body
    if json:
        print_json(done)
    else:
        out.print(f"{name} is reset; `headrace connectors resume {name}` starts it", markup=False, highlight=False)


def _print_reset(planned: Mapping[str, Any]) -> None:
    rows = ((f"{item['topic']}-{item['partition']}", item["before"], item["after"]) for item in planned["offsets"])
    print_table(
        ("partition", "offset", "after the reset"), ((a, "none" if b is None else str(b), str(c)) for a, b, c in rows)
    )
    for topic in planned["deleted_topics"]:
        out.print(f"delete topic {topic}", markup=False, highlight=False, soft_wrap=True)


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
