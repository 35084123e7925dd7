"""``headrace connectors``: show and control the connectors of a running worker over its REST API."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from headrace.cli import status_view
from headrace.cli.client import DEFAULT_URL, WorkerClient
from headrace.cli.output import JsonFlag, err, out, print_json, print_table
from headrace.errors import CommandError, ConfigError, Finding
from headrace.files import read_config_file
from headrace.metrics import now_ms
from headrace.runtime.api import ConnectorStatus

app = typer.Typer(name="connectors", help="Show and control the connectors of a running worker.", no_args_is_help=True)

UrlOption = Annotated[str, typer.Option("--url", envvar="HEADRACE_URL", help="Address of the worker's REST API.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Connectors.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Connector.", show_default=False)]

COLUMNS = ("connector", "type", "state", "task", "worker", "since")


@app.command("list")
def list_connectors(url: UrlOption = DEFAULT_URL, json: JsonFlag = False) -> None:
    """List connectors, each with the worst state of the connector and its tasks."""
    answer = WorkerClient(url).request("GET", "/connectors?expand=status&expand=info").body
    if json:
        print_json(answer)
        return
    parsed = [status_view.parse_status(answer[name]["status"]) for name in sorted(answer)]
    print_table(("connector", "type", "state", "tasks"), map(status_view.summary_row, parsed))
    if not parsed:
        err.print(f"no connectors at {WorkerClient(url).url}: create one with `headrace connectors apply FILE`")


@app.command("status")
def show_status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Connector; all if omitted.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print complete traces, not only the reason.")] = False,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Show states of connectors and tasks; for problems also the reason and the next command."""
    client = WorkerClient(url)
    if name is not None:
        body = client.of_connector("GET", name, "/status").body
        bodies = [body]
    else:
        expanded = client.request("GET", "/connectors?expand=status").body
        bodies = [expanded[each]["status"] for each in sorted(expanded)]
        body = {each["name"]: each for each in bodies}
    if json:
        print_json(body)
        return
    _print_statuses([status_view.parse_status(each) for each in bodies], url, whole_trace=trace)


@app.command("pause")
def pause(names: Names, url: UrlOption = DEFAULT_URL, json: JsonFlag = False) -> None:
    """Pause: process no records, but keep tasks and their connections."""
    _send_all(names, url, json, "PUT", "pause")


@app.command("resume")
def resume(names: Names, url: UrlOption = DEFAULT_URL, json: JsonFlag = False) -> None:
    """Resume after pause or stop, from the stored offsets."""
    _send_all(names, url, json, "PUT", "resume")


@app.command("stop")
def stop(names: Names, url: UrlOption = DEFAULT_URL, json: JsonFlag = False) -> None:
    """Stop all tasks; configuration and offsets are kept."""
    _send_all(names, url, json, "PUT", "stop")


@app.command("restart")
def restart(
    name: Name,
    include_tasks: Annotated[bool, typer.Option("--include-tasks", help="Restart the tasks too.")] = False,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Only what is FAILED.")] = False,
    task: Annotated[int | None, typer.Option("--task", min=0, metavar="N", help="Only this task.")] = None,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Restart a connector, its tasks, or one task."""
    client = WorkerClient(url)
    if task is not None:
        if include_tasks or only_failed:
            text = "--task restarts one task; it cannot be used with --include-tasks or --only-failed"
            raise ConfigError(text, code="cli.conflicting_options", hint="leave out one of them")
        client.of_connector("POST", name, f"/tasks/{task}/restart")
        _report_requested([name], "restart", json, what=f"{name}-{task}")
        return
    query = f"?includeTasks={str(include_tasks).lower()}&onlyFailed={str(only_failed).lower()}"
    planned = client.of_connector("POST", name, f"/restart{query}").body
    if planned is None:
        _report_requested([name], "restart", json)
    elif json:
        print_json(planned)
    else:
        _print_statuses([status_view.parse_status(planned)], url)


@app.command("offsets")
def offsets(
    name: Name,
    reset: Annotated[bool, typer.Option("--reset", help="Delete all offsets: start from the beginning.")] = False,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="JSON", help='One offset (repeatable): {"partition": {…}, "offset": {…} or null}.'
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Show stored offsets; with --set or --reset change those of a stopped connector.

    The offsets of a sink are those of its consumer group. Records that are read again do not change an Elasticsearch
    index whose documents already have their version.
    """
    client = WorkerClient(url)
    if change or reset:
        _change_offsets(client, name, [_offset(text) for text in change or ()])
    body = client.of_connector("GET", name, "/offsets").body
    if json:
        print_json(body)
        return
    rows = [(dumps(item["partition"]), dumps(item["offset"])) for item in body["offsets"]]
    print_table(("partition", "offset"), rows)
    if not rows:
        err.print(f"{name} has no stored offsets")


def _change_offsets(client: WorkerClient, name: str, changes: Sequence[Any]) -> None:
    """Apply ``changes``; without any, delete all offsets."""
    try:
        if not changes:
            client.of_connector("DELETE", name, "/offsets")
            return
        known = [item["partition"] for item in client.of_connector("GET", name, "/offsets").body["offsets"]]
        client.of_connector("PATCH", name, "/offsets", {"offsets": changes})
    except CommandError as error:
        if "STOPPED state" not in str(error):
            raise
        text = f"offsets of {name} can be changed only while it is stopped"
        hint = f"headrace connectors stop {shlex.quote(name)}"
        raise CommandError(text, code="connector.not_stopped", hint=hint) from error
    for partition in (item.get("partition") for item in changes):
        if partition not in known:
            err.print(f"new: {dumps(partition)} had no offset before; check its spelling", markup=False)


def _offset(text: str) -> Any:
    try:
        return loads(text)
    except ValueError as error:
        hint = """--set '{"partition": {…}, "offset": {…}}', as `headrace connectors offsets NAME --json` shows them"""
        raise ConfigError(f"--set is not JSON: {text}", code="cli.bad_offset", hint=hint) from error


@app.command("delete")
def delete(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Delete connectors. Stored offsets and topics are kept: a new connector with the same name continues there."""
    client = WorkerClient(url)
    for name in names:
        client.of_connector("GET", name, "/status")  # all names must exist before anything is deleted
    listed = ", ".join(names)
    if not yes and not _confirmed(f"delete {listed} at {client.url}? (stored offsets and topics are kept)"):
        raise CommandError(f"nothing was deleted ({listed})", code="cli.not_confirmed", hint="add --yes to confirm")
    for name in names:
        client.of_connector("DELETE", name)
    _report_requested(names, "delete", json)


@app.command("apply")
def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML, JSON or .properties files.")],
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Create connectors from files, or replace their configuration. Unchanged connectors are not restarted."""
    client = WorkerClient(url)
    read = [(path, read_config_file(path)) for path in files]  # all must be readable before any is applied
    applied: dict[str, str] = {}
    for path, file in read:
        name, config = _named(path, dict(file.properties))
        applied[name] = _apply(client, name, config)
        if not json:
            err.print(f"{name}: {applied[name]}")
    if json:
        print_json({"connectors": applied})


def _apply(client: WorkerClient, name: str, config: dict[str, str]) -> str:
    if name in client.connectors() and client.of_connector("GET", name, "/config").body == config:
        return "unchanged"  # putting an equal configuration would restart it
    answer = client.of_connector("PUT", name, "/config", config)
    return "created" if answer.status == 201 else "updated"


def _named(path: Path, config: dict[str, str]) -> tuple[str, dict[str, str]]:
    name = config.get("name", "").strip()
    if not name:
        text = f'{path}: Missing required configuration "name" which has no default value.'
        raise ConfigError(findings=[Finding("config.missing_key", text, "name", "give the connector a name")])
    return name, {**config, "name": name}


def _send_all(names: Sequence[str], url: str, json: bool, method: str, verb: str) -> None:
    client = WorkerClient(url)
    for name in names if len(names) > 1 else ():
        client.of_connector("GET", name, "/status")  # all names must exist before anything changes
    for name in names:
        client.of_connector(method, name, f"/{verb}")
    _report_requested(names, verb, json)


def _report_requested(names: Sequence[str], verb: str, json: bool, what: str = "") -> None:
    if json:
        print_json({"requested": verb, "connectors": list(names)})
        return
    for name in names:
        err.print(f"{what or name}: {verb} requested")


def _confirmed(question: str) -> bool:
    # Without a terminal there is no one to ask; scripts pass --yes.
    return sys.stdin.isatty() and typer.confirm(question, err=True)


def _print_statuses(found: Iterable[ConnectorStatus], url: str, *, whole_trace: bool = False) -> None:
    found, now = list(found), now_ms()
    print_table(COLUMNS, (row for status in found for row in status_view.rows(status, now)))
    for status in found:
        for note in status_view.notes(status, whole_trace=whole_trace):
            _print_note(note, url)


def _print_note(note: status_view.Note, url: str) -> None:
    out.print(Text.assemble((note.subject, "bold"), f" is {note.what}"))
    for line in note.why.splitlines():
        out.print(Text(f"  {line}"))
    if note.next_step:
        where = "" if url == DEFAULT_URL else f" --url {shlex.quote(WorkerClient(url).url)}"
        out.print(Text(f"  → headrace connectors {note.next_step}{where}"))
