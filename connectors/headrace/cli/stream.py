"""``headrace stream``: explains stream applications, and tests them without Kafka."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import structlog
import typer

from headrace.cli.client import DEFAULT_URL, WorkerClient
from headrace.cli.connectors import Name
from headrace.cli.loading import load
from headrace.cli.output import JsonFlag, err, out, print_error, print_json, print_table
from headrace.cli.stream_expressions import evaluate, parse_record, problem_lines, value_text
from headrace.cli.stream_scenarios import read_scenarios, run_scenario
from headrace.cli.worker_access import UrlOption, worker_access
from headrace.errors import CommandError, ConfigError, DataError, Finding, Location
from headrace.pipeline.stream.driver import StreamDriver
from headrace.pipeline.stream.registration import Registration, StateChanges, changed_state
from headrace.plugin import StreamContext, StreamTopology
from headrace.settings import StreamSettings
from headrace.states import TaskId
from headrace.validation import ConnectorConfig

app = typer.Typer(
    name="stream",
    help="Explain, try, test, query and reset stream applications.",
    no_args_is_help=True,
    callback=worker_access,
    rich_markup_mode="rich",
)

_FAILED = 1  # exit code


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The application's file.")],
    against: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The name of a running application, or its former file."),
    ] = None,
    url: UrlOption = DEFAULT_URL,
) -> None:
    """Show the plan of an application: topics, steps, state, and the internal topics that it creates.

      headrace stream explain streams/surveys.yaml --against surveys

    With --against: also which steps keep their state when the file replaces that application, and which need a reset.
    Exit code 1: it needs a reset. Does not connect to Kafka.
    """
    config = _application(file)
    for line in config.plugin.cls().explain(config.name, config.own):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if against is None:
        return
    changes = StateChanges.between(_registration(against, config.name, url), Registration.of(_topology(config)))
    for line in changes.lines() or ["no step has state"]:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if changes.changed:
        _, hint = changed_state(config.name, changes)
        err.print(f"→ {hint}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(_FAILED)


def _registration(against: str, name: str, url: str) -> Registration:
    """Return what the state of an application was made by: one that runs, or that of a file. Raise CommandError for one
    of another name, whose state is in other topics."""
    path = Path(against)
    former = _application(path) if path.is_file() else None
    if (other := former.name if former is not None else against) != name:
        text = f"the state of {other} is in topics of its own, and {name} does not use it"
        raise CommandError(text, code="stream.other_name", hint="compare applications of one name")
    if former is not None:
        return Registration.of(_topology(former))
    body = WorkerClient(url).request("GET", f"/v1/streams/{quote(against, safe='')}/registration").body
    stores = {name: (item["definition"], tuple(item["topics"])) for name, item in body["stores"].items()}
    return Registration("", stores)


def _topology(config: ConnectorConfig) -> StreamTopology:
    topology: StreamTopology = config.plugin.cls().topology(config.name, config.own)
    return topology


@app.command("try")
def try_expression(
    expression: Annotated[str, typer.Option("--expr", help="The expression, as a step has it.", metavar="SQL")],
    record: Annotated[
        str | None, typer.Option("--record", help="The record, a JSON object; without it all columns are null.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Evaluate an expression over a record, and show its value and its type.

      headrace stream try --expr "cpi / loi > 1" --record '{"cpi": 3, "loi": 2}'

    Exit code 1: the record's values do not fit the expression; a running application would refuse the record. 2: fix
    the expression.
    """
    values = parse_record(record) if record is not None else None
    try:
        found = evaluate(expression, values)
    except ConfigError as error:
        if json:
            raise
        for line in problem_lines(expression, error):
            err.print(line, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    except DataError as error:
        print_error(error)
        raise typer.Exit(_FAILED) from error
    if json:
        print_json({"value": found.value, "type": found.type})
    else:
        out.print(f"{value_text(found.value)}  ({found.type})", markup=False, highlight=False, soft_wrap=True)


@app.command("state")
def show_state(
    name: Name,
    store: Annotated[str, typer.Argument(metavar="STORE", help="The step, as `headrace stream explain` names it.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="JSON or text; of several columns a JSON array.")],
    url: UrlOption = DEFAULT_URL,
) -> None:
    """Show what a running application holds of a key, as JSON: open windows, open records of a join, a row of a table.

      headrace stream state surveys per_offer 7

      headrace stream state visits trend '["de", "shop"]'

    The worker answers for the partitions that its own tasks have. The state may be ahead of what is committed, by at
    most commit.interval.ms.
    """
    path = f"/v1/streams/{quote(name, safe='')}/state/{quote(store, safe='')}/{quote(key, safe='')}"
    print_json(WorkerClient(url).request("GET", path).body)


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
