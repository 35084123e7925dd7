"""Statuses as tables, and notes on problems: what is wrong, why, and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from rich.text import Text

from headrace.conditions import Condition
from headrace.errors import HeadraceError
from headrace.runtime.api import ConnectorStatus, worst
from headrace.states import State, Status, TaskId

STYLES = {
    State.RUNNING: "green",
    State.FAILED: "bold red",
    State.PAUSED: "yellow",
    State.STOPPED: "yellow",
    State.RESTARTING: "cyan",
    State.UNASSIGNED: "cyan",
}
_MOST_NAMES = 4
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class ShownProgress(NamedTuple):
    """Progress of a connector or a task. ``newest`` is an age in milliseconds; ``partial``: the lag may be greater."""

    rate: float
    lag: int
    newest: int | None
    dead_letters: int
    partial: bool = False


NO_PROGRESS: Mapping[int, ShownProgress] = {}


class Note(NamedTuple):
    """A problem of a connector or of tasks. ``next_step`` is empty when there is nothing to do."""

    subject: str
    what: str
    why: str
    next_step: str
    verb: str = "is"


def parse_status(body: Mapping[str, Any]) -> ConnectorStatus:
    """Parse the response of ``GET …/status``, headrace's or Kafka Connect's. Raises HeadraceError."""
    try:
        tasks = {int(task["id"]): _status(task) for task in body["tasks"]}
        conditions = tuple(Condition(**item) for item in body.get("conditions", ()))
        return ConnectorStatus(body["name"], _status(body["connector"]), tasks, body.get("type", "unknown"), conditions)
    except (KeyError, TypeError, ValueError) as error:
        text = f"cannot parse the status that the worker returned: {type(error).__name__} {error}"
        raise HeadraceError(text, code="worker.not_understood", hint="show the raw response with --json") from error


def parse_progress(body: Mapping[str, Any], status: ConnectorStatus) -> dict[int, ShownProgress]:
    """Parse the response of ``GET /v1/connectors/NAME/progress``. Raises HeadraceError."""
    try:
        return {
            int(task["id"]): ShownProgress(
                float(task["records_per_second"]),
                int(task["lag"]),
                task["newest_record_age_ms"],
                int(task["dead_letters"]),
                _does_not_poll(status.tasks.get(int(task["id"]))),
            )
            for task in body["tasks"]
        }
    except (KeyError, TypeError, ValueError) as error:
        text = f"cannot parse the progress that the worker returned: {type(error).__name__} {error}"
        raise HeadraceError(text, code="worker.not_understood", hint="show the raw response with --json") from error


def _does_not_poll(task: Status | None) -> bool:
    return task is None or task.retrying or task.state is not State.RUNNING


def total(tasks: Iterable[ShownProgress]) -> ShownProgress | None:
    """Return the progress of a connector: the sums of its tasks, and the age of its newest record."""
    tasks = list(tasks)
    if not tasks:
        return None
    return ShownProgress(
        sum(task.rate for task in tasks),
        sum(task.lag for task in tasks),
        min((task.newest for task in tasks if task.newest is not None), default=None),
        sum(task.dead_letters for task in tasks),
        any(task.partial for task in tasks),
    )


def overall(status: ConnectorStatus) -> Status:
    """Return the worst status of the connector and its tasks."""
    return worst([status.connector, *status.tasks.values()])


def summary_row(status: ConnectorStatus) -> tuple[object, ...]:
    """Return ``connector, type, state, tasks``: the worst state, and how many tasks are running."""
    running = sum(task.state is State.RUNNING for task in status.tasks.values())
    return status.name, status.type, _state(overall(status)), f"{running}/{len(status.tasks)} running"


def rows(
    status: ConnectorStatus, now_ms: int, progress: Mapping[int, ShownProgress] = NO_PROGRESS
) -> Iterator[tuple[object, ...]]:
    """Yield ``connector, type, state, task, worker, since`` and the progress: the connector, then each task.

    A connector whose tasks all have its state, without a problem, is one row.
    """
    whole = _progress_cells(total(progress.values()), now_ms)
    if is_uniform(status):
        part, count = status.connector, len(status.tasks)
        tasks = f"all {count}" if count > 1 else "0" if count else "-"
        workers = sorted({each.worker_id for each in [part, *status.tasks.values()] if each.worker_id})
        since = max((each.since for each in [part, *status.tasks.values()]), default=0)
        yield status.name, status.type, _state(part), tasks, ", ".join(workers) or "-", age(since, now_ms), *whole
        return
    parts: list[tuple[object, Status, tuple[str, ...]]] = [("-", status.connector, whole)]
    parts += [(task, part, _progress_cells(progress.get(task), now_ms)) for task, part in sorted(status.tasks.items())]
    for task, part, cells in parts:
        yield status.name, status.type, _state(part), task, part.worker_id or "-", age(part.since, now_ms), *cells


def _progress_cells(progress: ShownProgress | None, now_ms: int) -> tuple[str, ...]:
    """Return ``records/s, lag, data as of, dead letters``."""
    if progress is None:
        return "-", "-", "-", "-"
    newest = "-" if progress.newest is None else data_as_of(now_ms, progress.newest)
    lag = f"{'≥ ' if progress.partial else ''}{progress.lag:,}"
    rate = f"{progress.rate:,.0f}" if progress.rate >= 10 or not progress.rate else f"{progress.rate:.1f}"
    return rate, lag, newest, f"{progress.dead_letters:,}"


def data_as_of(now_ms: int, age_ms: int) -> str:
    """Return ``12:04:31 (0.8 s ago)``, in the local time zone, with the date of data that is older than a day."""
    moment = datetime.fromtimestamp((now_ms - age_ms) / 1000)  # noqa: DTZ006 (local time, for the reader)
    old = age_ms >= 86_400_000
    ago = f"{age_ms / 1000:.1f} s" if age_ms < 10_000 else age(1, 1 + age_ms)
    return f"{moment:{'%Y-%m-%d %H:%M' if old else '%H:%M:%S'}} ({ago} ago)"


def is_uniform(status: ConnectorStatus) -> bool:
    """Return whether connector and tasks have the same state and nothing to report."""
    parts = [status.connector, *status.tasks.values()]
    same = all(part.state is status.connector.state for part in parts)
    return same and status.connector.state is not State.FAILED and not any(part.reason for part in parts)


def notes(status: ConnectorStatus, *, whole_trace: bool = False) -> Iterator[Note]:
    """Yield problems, the connector's first; tasks with the same one are one note. Next steps are arguments of
    ``headrace connectors``."""
    yield from _note(status.name, status.connector, _for_connector(status), whole_trace)
    groups: dict[Status, list[int]] = {}
    for number, task in sorted(status.tasks.items()):
        # Tasks of a paused or stopped connector repeat its state.
        if task.state is not status.connector.state or task.state in (State.FAILED, State.RUNNING):
            shown = task.trace if whole_trace or not task.trace else reason_of(task.trace)
            groups.setdefault(replace(task, worker_id="", since=0, trace=shown), []).append(number)
    for task, numbers in groups.items():
        which = f"--task {numbers[0]}" if len(numbers) == 1 else "--include-tasks --only-failed"
        step = f"restart {shlex.quote(status.name)} {which}" if task.state is State.FAILED else ""
        for note in _note(_tasks(status.name, numbers), task, step, whole_trace):
            yield note._replace(verb="is" if len(numbers) == 1 else "are")


def _tasks(name: str, numbers: Sequence[int]) -> str:
    names = [str(TaskId(name, number)) for number in numbers]
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} tasks ({names[0]} … {names[-1]})"


def needs_attention(status: ConnectorStatus) -> bool:
    """Return whether something needs attention: it is FAILED, RETRYING or waits for its start, or a condition is
    not acknowledged."""
    parts = [status.connector, *status.tasks.values()]
    waiting = any(part.retrying or (part.state is State.UNASSIGNED and part.reason) for part in parts)
    return bool(status.conditions) or waiting or any(part.state is State.FAILED for part in parts)


def condition_notes(status: ConnectorStatus, now_ms: int) -> Iterator[Note]:
    """Yield a note for each condition."""
    for condition in status.conditions:
        records = f"{condition.count} records, " if condition.count else ""
        facts = f"{records}first {age(condition.since, now_ms)} ago, last {age(condition.last, now_ms)} ago"
        lines = [condition.text, facts]
        if condition.example and condition.example not in condition.text:
            lines.append(f"for example {condition.example}")
        if condition.hint:
            lines.append(f"→ {condition.hint}")
        step = f"acknowledge {shlex.quote(status.name)} --code {condition.code}"
        yield Note(status.name, condition.code, "\n".join(lines), step, verb="needs attention:")


def age(since: int, now_ms: int) -> str:
    """Return an age such as ``3 min`` or ``2 h 5 min``, in the two largest units; ``-`` when it is unknown."""
    if not since:
        return "-"
    left = max(0, now_ms - since) // 1000
    parts = []
    for seconds, unit in _UNITS:
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "now"


def reason_of(trace: str) -> str:
    """Return the line of a trace that names the error: the last one in Python, the first one in the JVM."""
    lines = [line for line in trace.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        last_frame = max(number for number, line in enumerate(lines) if line.startswith((" ", "Traceback")))
        return " ".join(line.strip() for line in lines[last_frame + 1 :]) or lines[-1].strip()
    return lines[0].strip()


def _note(subject: str, part: Status, next_step: str, whole_trace: bool) -> Iterator[Note]:
    if part.state is State.RUNNING and not part.reason:
        return
    trace = part.trace or ""
    said = trace.strip() if whole_trace else reason_of(trace)
    why = "\n".join(dict.fromkeys(text for text in (part.reason, said) if text))
    yield Note(
        subject, "RETRYING" if part.retrying else part.state.value, why or _DEFAULT_WHY.get(part.state, ""), next_step
    )


_DEFAULT_WHY = {
    State.UNASSIGNED: "it is starting, or no worker has it yet",
    State.RESTARTING: "it is being restarted",
}


def _for_connector(status: ConnectorStatus) -> str:
    name = shlex.quote(status.name)
    match status.connector.state:
        case State.FAILED:
            tasks_too = any(task.state is State.FAILED for task in status.tasks.values())
            return f"restart {name} --include-tasks --only-failed" if tasks_too else f"restart {name}"
        case State.PAUSED | State.STOPPED:
            return f"resume {name}"
    return ""


def _state(part: Status) -> Text:
    if part.retrying:
        return Text("RETRYING", style="yellow")
    return Text(part.state.value, style=STYLES[part.state])


def _status(body: Mapping[str, Any]) -> Status:
    return Status(
        State(body["state"]),
        body.get("worker_id", ""),
        trace=body.get("trace"),
        reason=body.get("reason"),
        since=int(body.get("since") or 0),
        retrying=body.get("condition") == "RETRYING",
    )
