"""``headrace experiment status, show, replay, promote, rollback``: the commands about a running application."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter

from headrace import CommandContext, ConfigError, ConflictError, Duration
from headrace_streams.experiments.command_options import Documents, Json, command_of, require_numpy, share_of

if TYPE_CHECKING:
    from headrace_streams.experiments.experiment_access import ExperimentAccess
    from headrace_streams.exploration.transitions import Traffic

NOT_REPRODUCED = 1
"""Exit code of a replay whose selections differ from the log."""
_DAY = timedelta(days=1)
_DURATION: TypeAdapter[int] = TypeAdapter(Duration)

Application = Annotated[
    Path, typer.Option("--application", "-a", metavar="FILE", help="The file of the stream application.")
]
Worker = Annotated[Path, typer.Option("--worker", "-w", metavar="FILE", help="The worker's file: its Kafka is used.")]
Name = Annotated[
    str, typer.Option("--experiment", metavar="NAME", help="The experiment, if the application has several.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; the log keeps it.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``headrace experiment``."""
    for function in (status, show, replay, promote, rollback):
        app.command()(function)


def status(
    context: typer.Context,
    application: Application,
    worker: Worker,
    experiment: Name = "",
    json: Json = False,
    documents: Documents = None,
) -> None:
    """Show versions, traffic, conversions, what the test says, and which evidence is missing.

    headrace experiment status -a surveys.yaml -w worker.yaml
    """
    access = _open(context, application, worker, experiment)
    from headrace_streams.experiments import output
    from headrace_streams.experiments.experiment_status import StatusView, status_of

    output.show_data(command_of(context), StatusView(status_of(access)), json_only=json, documents=documents)


def show(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    application: Application,
    worker: Worker,
    experiment: Name = "",
    most: Annotated[int, typer.Option("--most", help="Candidates to show, the most promising first.")] = 20,
    json: Json = False,
    documents: Documents = None,
) -> None:
    """Show what a version has learned about each candidate, with the reasons.

    headrace experiment show v2 -a surveys.yaml -w worker.yaml
    """
    access = _open(context, application, worker, experiment)
    from headrace_streams.experiments import output
    from headrace_streams.experiments.version_posterior import PosteriorView, posterior_of

    view = PosteriorView(posterior_of(access, version), most)
    output.show_data(command_of(context), view, json_only=json, documents=documents)


def replay(
    context: typer.Context,
    application: Application,
    worker: Worker,
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="The version that selects again.")],
    compare: Annotated[
        str, typer.Option("--compare", metavar="VERSION", help="A second version, to compare with.")
    ] = "",
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="`yesterday`, `24h` (ago), or a time in ISO 8601 (UTC).")
    ] = "yesterday",
    end: Annotated[
        str,
        typer.Option("--to", metavar="TIME", help="The end, as --from; by default a day after `yesterday`, or now."),
    ] = "",
    experiment: Name = "",
    rows: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write a JSON line for each selection, for `evaluate`."),
    ] = None,
    json: Json = False,
    documents: Documents = None,
) -> None:
    """Make logged selections again by another version, with the models of their time.

      headrace experiment replay -a surveys.yaml -w worker.yaml --from yesterday --version v3 --compare v1

    Selections that a version made itself must be equal byte by byte; exit code 1 if they are not.
    """
    access = _open(context, application, worker, experiment)
    from headrace_streams.experiments import output
    from headrace_streams.experiments.replay_view import ReplayView
    from headrace_streams.experiments.version_replay import replay as replay_log

    now = datetime.now(UTC)
    first = moment_of(start, now)
    last = moment_of(end, now) if end else (first + _DAY if start == "yesterday" else now)
    names = [version, compare] if compare else [version]
    result = replay_log(access, names, _milliseconds(first), _milliseconds(last))
    view = ReplayView(result, access.selections or "")
    output.show_data(command_of(context), view, json_only=json, documents=documents)
    if rows is not None:
        output.write_lines(command_of(context), rows, result.rows, "selections")
    if not result.reproduced:
        raise typer.Exit(NOT_REPRODUCED)


def promote(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    application: Application,
    worker: Worker,
    share: Annotated[
        str, typer.Option("--share", metavar="SHARE", help="Give it this share, such as 20%; else it becomes current.")
    ] = "",
    experiment: Name = "",
    reason: Reason = "promoted by a command",
    yes: Yes = False,
) -> None:
    """Make a version the current one, or give it a share of the traffic. The running application follows the log.

    headrace experiment promote v2 -a surveys.yaml -w worker.yaml --share 20%
    """
    from headrace_streams.exploration import transitions

    def change(history: Sequence[Mapping[str, Any]], at: int) -> Traffic:
        if share:
            return transitions.raised(history, version, share_of(share), at)
        return transitions.promoted(history, version, at)

    access = _open(context, application, worker, experiment)
    _transition(command_of(context), access, change, "raise" if share else "promote", version, reason, yes=yes)


def rollback(
    context: typer.Context,
    application: Application,
    worker: Worker,
    version: Annotated[str, typer.Argument(metavar="[VERSION]", show_default=False)] = "",
    experiment: Name = "",
    reason: Reason = "rolled back by a command",
    yes: Yes = False,
) -> None:
    """Take a version's traffic back; without VERSION, undo the last change of the traffic.

    headrace experiment rollback v2 -a surveys.yaml -w worker.yaml
    """
    from headrace_streams.exploration import transitions

    def change(history: Sequence[Mapping[str, Any]], at: int) -> Traffic:
        return transitions.rolled_back(history, version or None, at)

    access = _open(context, application, worker, experiment)
    _transition(command_of(context), access, change, "rollback", version or None, reason, yes=yes)


def _transition(
    command: CommandContext,
    access: ExperimentAccess,
    change: Callable[[Sequence[Mapping[str, Any]], int], Traffic],
    transition: str,
    version: str | None,
    reason: str,
    *,
    yes: bool,
) -> None:
    """Write the record of a transition, with the evidence of the last look."""
    from headrace_streams.exploration.transitions import TransitionError, commanded

    history = access.transitions()
    try:
        traffic = change(history, int(time.time() * 1000))
    except TransitionError as error:
        raise ConflictError(str(error), code=error.code, hint=error.hint) from error
    before = history[-1]["shares"]
    names = dict.fromkeys((*before, *traffic.shares))
    command.print_table(
        ("version", "traffic", "then", ""),
        [
            (
                name,
                f"{before.get(name, 0.0):.2%}",
                f"{traffic.shares.get(name, 0.0):.2%}",
                "current" if name == traffic.allocation.default else "",
            )
            for name in names
        ],
    )
    if not yes:
        typer.confirm(f"Change the traffic of experiment {access.experiment.name}?", abort=True, err=True)
    counts = access.last_counts()
    evidence = {} if counts is None else {"counts": counts["counts"], "decision": counts["decision"]}
    record = commanded(history[-1], traffic, transition, reason=reason, version=version, evidence=evidence)
    access.connector.write_shared(access.experiment.log_topic, access.experiment.name, record)
    command.print(
        f"transition {traffic.number} is written to {access.experiment.log_topic}; selections that follow use it"
    )


def moment_of(text: str, now: datetime) -> datetime:
    """Return a point in time: ``yesterday``, ``today``, a duration before ``now``, or ISO 8601. Raise ConfigError."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "yesterday"):
        return midnight if text == "today" else midnight - _DAY
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - timedelta(milliseconds=_DURATION.validate_python(text))
        except ValueError as error:
            raise ConfigError(
                f"'{text}' is not a time",
                code="experiment.time",
                hint="write yesterday, 24h, 2026-11-29 or 2026-11-29T08:00:00Z",
            ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _open(context: typer.Context, application: Path, worker: Path, name: str) -> ExperimentAccess:
    require_numpy()
    from headrace_streams.experiments.experiment_access import open_experiment

    return open_experiment(command_of(context), worker, application, name)
