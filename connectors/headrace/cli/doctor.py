"""``headrace doctor``: the findings of `check`, and checks of the worker's environment, with the commands to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from headrace.cli import surroundings
from headrace.cli.loading import Loaded, load
from headrace.cli.output import JsonFlag, out, print_json
from headrace.cli.surroundings import Diagnosis
from headrace.cli.validate import AdminCheck, WorkerGroupLookup, check_files
from headrace.errors import ConfigError, Finding
from headrace.files import parse_config_file

Files = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE...]", help="The worker's file, and those of connectors.")
]
_MISTAKE, _ENVIRONMENT = 2, 3  # exit codes
_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(files: Files = None, json: JsonFlag = False) -> None:
    """Examine this machine and the systems in the files, and print for each problem the command to run.

      headrace doctor worker.yaml connectors/*.yaml

    Without files only this machine is examined. Changes nothing.

    Exit code 0: no errors (there may be warnings). 2: fix the files. 3: fix the environment.
    """
    diagnoses, exit_code = examine(files or [])
    if json:
        print_json({"ok": exit_code == 0, "checks": [asdict(item) for item in diagnoses]})
    else:
        for item in diagnoses:
            _show(item)
    if exit_code:
        raise typer.Exit(exit_code)


def examine(
    paths: Sequence[Path],
    admin_check: AdminCheck | None = None,
    worker_group_lookup: WorkerGroupLookup | None = None,
) -> tuple[list[Diagnosis], int]:
    """Return all results and the exit code. ``admin_check`` and ``worker_group_lookup`` replace requests to Kafka."""
    found = [surroundings.python()]
    loaded = load(paths)
    if loaded.settings is not None:
        found += surroundings.worker_surroundings(loaded.settings)
    else:
        found += surroundings.kafka_client("auto")
    found += surroundings.clocks(config.properties for config in loaded.configs.values())
    found += _secrets(paths)
    findings = check_files(paths, admin_check, worker_group_lookup=worker_group_lookup) if paths else []
    found += [_diagnosis(finding) for finding in findings]
    if paths and not findings:
        found.append(Diagnosis("systems", "ok", _systems(loaded)))
    mistakes = any(item.severity == "error" and item.cause == "configuration" for item in findings)
    errors = any(item.state == "error" for item in found)
    return found, _MISTAKE if mistakes else _ENVIRONMENT if errors else 0


def _secrets(paths: Sequence[Path]) -> Iterator[Diagnosis]:
    for path in paths:
        try:
            yield from surroundings.secrets(parse_config_file(path))
        except ConfigError:
            continue  # `check` reports the file


def _diagnosis(finding: Finding) -> Diagnosis:
    place = f"{finding.location}: " if finding.location else ""
    state: surroundings.State = "warning" if finding.severity == "warning" else "error"
    return Diagnosis(finding.code, state, f"{place}{finding.message}", finding.hint)


def _systems(loaded: Loaded) -> str:
    kafka = ["Kafka"] if loaded.settings is not None else []
    if loaded.settings is not None and loaded.settings.group_id:
        kafka.append(f"the topics of worker group {loaded.settings.group_id}")
    names = [f"connector {name}" for name in loaded.configs]
    return f"{', '.join([*kafka, *names])}: nothing to report"


def _show(item: Diagnosis) -> None:
    out.print(Text.assemble((f"{item.state:<8}", _STYLES[item.state]), f"{item.subject}: {item.text}"))
    if item.command:
        out.print(Text(f"        → {item.command}"))
