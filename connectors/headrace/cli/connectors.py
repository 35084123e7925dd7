"""``headrace connectors``: show and control the connectors of a running worker over its REST API."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import typer
from rich.text import Text

from headrace.cli import record_view, status_view
from headrace.cli.client import DEFAULT_URL, WorkerClient
from headrace.cli.finding_blocks import wrapped
from headrace.cli.output import JsonFlag, err, out, print_json, print_table, text_width
from headrace.cli.worker_access import UrlOption, worker_access
from headrace.config import changed_keys
from headrace.errors import CommandError, ConfigError, Finding, HeadraceError, NotFoundError
from headrace.files import read_config_file
from headrace.metrics import now_ms
from headrace.runtime.api import ConnectorStatus
from headrace.states import State

app = typer.Typer(
    name="connectors",
    help="Show and control the connectors of a running worker.",
    no_args_is_help=True,
    callback=worker_access,
)

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Connectors.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Connector.", show_default=False)]

OptionalNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Connectors; all if omitted.", show_default=False)
]
WaitFlag = Annotated[bool, typer.Option("--wait", help="Wait until it is done; exit code 1 if a task fails.")]
WaitTimeout = Annotated[float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long --wait waits.")]

COLUMNS = ("connector", "type", "state", "task", "worker", "since")
PROGRESS_COLUMNS = ("records/s", "lag", "data as of", "dead letters")
_WIDE, _NARROW = 120, 100
"""Columns of a terminal that has room for every column, and for all but type and worker."""
_SHORT = {"data as of": "as of", "dead letters": "dead"}


@app.command("list")
def list_connectors(url: UrlOption = DEFAULT_URL, json: JsonFlag = False) -> None:
    """List connectors, each with the worst state of the connector and its tasks."""
    # Configurations, which viewers may not read, are for --json only.
    query = "?expand=status&expand=info" if json else "?expand=status"
    answer = WorkerClient(url).request("GET", f"/connectors{query}").body
    if json:
        print_json(answer)
        return
    parsed = [status_view.parse_status(answer[name]["status"]) for name in sorted(answer)]
    print_table(("connector", "type", "state", "tasks"), map(status_view.summary_row, parsed))
    if not parsed:
        err.print(f"no connectors at {WorkerClient(url).url}: create one with `headrace connectors apply FILE`")


@app.command("status")
def show_status(
    names: OptionalNames = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print complete traces, not only the reason.")] = False,
    records: Annotated[
        bool,
        typer.Option("--records", help="Show what became of the records, why, and the offsets of each partition."),
    ] = False,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Show states of connectors and tasks; for problems also the reason and the next command.

      headrace connectors status

      headrace connectors status orders search --trace

      headrace connectors status orders --records

    A connector is one row when it and its tasks are in the same state without a problem. Records per second are of the
    last minute, the lag is the number of records that are not written yet, "data as of" is the age of the newest record
    that was written, and dead letters are counted since the tasks were started.

    Exit code 0 when nothing needs attention; 1 when something is FAILED, RETRYING or waits for a system at its start,
    or when a condition is not acknowledged (records that were removed unread, skipped or dead-lettered, a topic that
    was created again).
    """
    client = WorkerClient(url)
    bodies = _statuses(client, names, progress=True)
    accounts = {name: _records(client, name) for name in bodies} if records else {}
    found = [status_view.parse_status(each) for each in bodies.values()]
    if json:
        bodies = {name: body | ({"records": accounts[name]} if records else {}) for name, body in bodies.items()}
        print_json(bodies[names[0]] if names and len(names) == 1 else bodies)
    else:
        known = {
            status.name: status_view.parse_progress(body["progress"], status)
            for status, body in zip(found, bodies.values(), strict=True)
            if "progress" in body
        }
        _print_statuses(found, url, whole_trace=trace, progress=known)
        if records:
            parsed = {name: record_view.parse_records(body) for name, body in accounts.items()}
            record_view.print_records(parsed, now_ms())
    if any(map(status_view.needs_attention, found)):
        raise typer.Exit(1)


@app.command("acknowledge")
def acknowledge(
    names: Names,
    code: Annotated[
        str | None, typer.Option("--code", metavar="CODE", help="Only the condition with this code.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Acknowledge conditions: they are not shown any more until they are raised again."""
    client = WorkerClient(url)
    _require_existing(client, names)
    query = f"?code={quote(code)}" if code else ""
    answers = {
        name: client.request("POST", f"/v1/connectors/{quote(name, safe='')}/acknowledge{query}").body for name in names
    }
    if json:
        print_json(answers)
        return
    for name, answer in answers.items():
        codes = [condition["code"] for condition in answer["acknowledged"]]
        err.print(f"{name}: {'acknowledged ' + ', '.join(codes) if codes else 'nothing to acknowledge'}")


@app.command("pause")
def pause(
    names: Names,
    wait: WaitFlag = False,
    timeout: WaitTimeout = 60,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Pause: process no records, but keep tasks and their connections."""
    _send_all(names, url, json, "pause", Waiting(wait, timeout, (State.PAUSED,)))


@app.command("resume")
def resume(
    names: Names,
    wait: WaitFlag = False,
    timeout: WaitTimeout = 60,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Resume after pause or stop, from the stored offsets."""
    _send_all(names, url, json, "resume", Waiting(wait, timeout, (State.RUNNING,)))


@app.command("stop")
def stop(
    names: Names,
    wait: WaitFlag = False,
    timeout: WaitTimeout = 60,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Stop all tasks; configuration and offsets are kept."""
    _send_all(names, url, json, "stop", Waiting(wait, timeout, (State.STOPPED,)))


@app.command("restart")
def restart(
    names: OptionalNames = None,
    all_connectors: Annotated[bool, typer.Option("--all", help="All connectors, with their tasks.")] = False,
    include_tasks: Annotated[bool, typer.Option("--include-tasks", help="Restart the tasks too.")] = False,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Restart only what is FAILED.")] = False,
    task: Annotated[int | None, typer.Option("--task", min=0, metavar="N", help="Restart only this task.")] = None,
    wait: WaitFlag = False,
    timeout: WaitTimeout = 60,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Restart connectors, their tasks, or one task.

    headrace connectors restart orders --include-tasks

    headrace connectors restart --all --only-failed --wait
    """
    names = names or []
    if bool(names) == all_connectors:
        text = "name the connectors to restart, or use --all, not both"
        raise ConfigError(text, code="cli.conflicting_options", hint="headrace connectors restart --all --only-failed")
    if task is not None and (include_tasks or only_failed or len(names) != 1):
        text = "--task restarts one task of one connector; it cannot be used with other options or several names"
        raise ConfigError(text, code="cli.conflicting_options", hint="remove one of them")
    client = WorkerClient(url)
    names = client.connectors() if all_connectors else names
    if task is not None:
        client.of_connector("POST", names[0], f"/tasks/{task}/restart")
        _report_requested(names, "restart", json and not wait, what=f"{names[0]}-{task}")
    else:
        _require_existing(client, names)
        include = str(include_tasks or all_connectors).lower()
        query = f"?includeTasks={include}&onlyFailed={str(only_failed).lower()}"
        planned = {name: client.of_connector("POST", name, f"/restart{query}").body for name in names}
        if not wait:
            _report_restart(planned, url, json)
    if wait:
        _wait(client, names, Waiting(wait, timeout, (State.RUNNING, State.PAUSED, State.STOPPED)), json)


def _report_restart(planned: Mapping[str, Any], url: str, json: bool) -> None:
    """``planned`` has the status of each connector, or None where only the connector was restarted."""
    if None in planned.values() or not planned:
        _report_requested(list(planned), "restart", json)
    elif json:
        print_json(next(iter(planned.values())) if len(planned) == 1 else planned)
    else:
        _print_statuses([status_view.parse_status(each) for each in planned.values()], url)


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
        applied[name], changes = _apply(client, name, config)
        if not json:
            listed = f" ({', '.join(changes)})" if changes else ""
            err.print(f"{name}: {applied[name]}{listed}", markup=False)
    if json:
        print_json({"connectors": applied})


def _apply(client: WorkerClient, name: str, config: dict[str, str]) -> tuple[str, list[str]]:
    """Return what was done, and which keys of an existing connector have changed."""
    present = client.of_connector("GET", name, "/config").body if name in client.connectors() else {}
    if present == config:
        return "unchanged", []  # putting an equal configuration would restart it
    answer = client.of_connector("PUT", name, "/config", config)
    return ("created", []) if answer.status == 201 else ("updated", changed_keys(present, config))


def _named(path: Path, config: dict[str, str]) -> tuple[str, dict[str, str]]:
    name = config.get("name", "").strip()
    if not name:
        text = f'{path}: Missing required configuration "name" which has no default value.'
        raise ConfigError(findings=[Finding("config.missing_key", text, "name", "give the connector a name")])
    return name, {**config, "name": name}


class Waiting(NamedTuple):
    """What ``--wait`` waits for: ``states`` of the connector and all its tasks, or FAILED."""

    wanted: bool
    timeout: float
    states: tuple[State, ...]


_POLL_INTERVAL = 0.3
"""Seconds between two requests for a status."""


def _statuses(client: WorkerClient, names: Sequence[str] | None, *, progress: bool = False) -> dict[str, Any]:
    """Return the statuses of these connectors, of all without names; each with its progress where the worker has it."""
    if names:
        bodies = {name: client.of_connector("GET", name, "/status").body for name in names}
        return {name: _with_progress(client, name, body) for name, body in bodies.items()} if progress else bodies
    expanded = client.request("GET", f"/connectors?expand=status{'&expand=progress' if progress else ''}").body
    return {
        name: expanded[name]["status"]
        | ({"progress": expanded[name]["progress"]} if "progress" in expanded[name] else {})
        for name in sorted(expanded)
    }


def _with_progress(client: WorkerClient, name: str, body: Any) -> Any:
    try:
        return body | {"progress": client.request("GET", f"/v1/connectors/{quote(name, safe='')}/progress").body}
    except NotFoundError:  # a worker of Kafka Connect
        return body


def _records(client: WorkerClient, name: str) -> Any:
    return client.request("GET", f"/v1/connectors/{quote(name, safe='')}/records").body


def _require_existing(client: WorkerClient, names: Sequence[str]) -> None:
    """Raise NotFoundError before anything changes when one of several names is wrong."""
    for name in names if len(names) > 1 else ():
        client.of_connector("GET", name, "/status")


def _send_all(names: Sequence[str], url: str, json: bool, verb: str, waiting: Waiting) -> None:
    client = WorkerClient(url)
    _require_existing(client, names)
    for name in names:
        client.of_connector("PUT", name, f"/{verb}")
    if waiting.wanted:
        _wait(client, names, waiting, json)
    else:
        _report_requested(names, verb, json)


def _wait(client: WorkerClient, names: Sequence[str], waiting: Waiting, json: bool) -> None:
    """Wait until the connectors and their tasks are in a wanted state or FAILED, and print what they are."""
    deadline = time.monotonic() + waiting.timeout
    while True:
        bodies = _statuses(client, names) if names else {}
        found = [status_view.parse_status(body) for body in bodies.values()]
        parts = [part for status in found for part in (status.connector, *status.tasks.values())]
        left = [part for part in parts if part.state not in (*waiting.states, State.FAILED)]
        if not left or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_INTERVAL)
    if json:
        print_json(bodies)
    else:
        _print_statuses(found, client.url)
    if left:
        text = f"{len(left)} of {len(parts)} connectors and tasks are not done after {waiting.timeout:g} s"
        raise HeadraceError(text, code="cli.wait_timeout", hint="see `headrace connectors status`, or raise --timeout")
    if any(part.state is State.FAILED for part in parts):
        raise typer.Exit(1)


def _report_requested(names: Sequence[str], verb: str, json: bool, what: str = "") -> None:
    if json:
        print_json({"requested": verb, "connectors": list(names)})
        return
    for name in names:
        err.print(f"{what or name}: {verb} requested")


def _confirmed(question: str) -> bool:
    # Without a terminal there is no one to ask; scripts pass --yes.
    return sys.stdin.isatty() and typer.confirm(question, err=True)


def _print_statuses(
    found: Iterable[ConnectorStatus],
    url: str,
    *,
    whole_trace: bool = False,
    progress: Mapping[str, Mapping[int, status_view.ShownProgress]] | None = None,
) -> None:
    found, now, progress = list(found), now_ms(), progress or {}
    columns = COLUMNS + (PROGRESS_COLUMNS if progress else ())
    rows = (row for status in found for row in status_view.rows(status, now, progress.get(status.name, {})))
    width = out.width if out.is_terminal and progress else _WIDE
    left_out = {"type", "worker", "since"} if width < _NARROW else {"type", "worker"} if width < _WIDE else set()
    shown = [place for place, column in enumerate(columns) if column not in left_out]
    names = [_SHORT.get(columns[place], columns[place]) if width < _NARROW else columns[place] for place in shown]
    print_table(names, ([row[place] for place in shown] for row in rows), folded=columns[0])
    problems = [
        note for status in found for note in (*status_view.notes(status), *status_view.condition_notes(status, now))
    ]
    if found and not problems:
        tasks = sum(len(status.tasks) for status in found)
        err.print(f"no problems: connectors {len(found)}, tasks {tasks}")
    for status in found:
        for note in status_view.notes(status, whole_trace=whole_trace):
            _print_note(note, url)
        for note in status_view.condition_notes(status, now):
            _print_note(note, url)


def _print_note(note: status_view.Note, url: str) -> None:
    out.print(Text.assemble((note.subject, "bold"), f" {note.verb} {note.what}"))
    width = text_width(out)
    for line in note.why.splitlines():
        for part in wrapped(f"  {line}", width, "  "):
            out.print(Text(part))
    if note.next_step:
        where = "" if url == DEFAULT_URL else f" --url {shlex.quote(WorkerClient(url).url)}"
        out.print(Text(f"  → headrace connectors {note.next_step}{where}"))
