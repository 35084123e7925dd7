"""Input and output of the commands: logs from files or topics; results as text, JSON, documents and HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from headrace import CommandContext, ConfigError
from headrace_streams.experiments.impression_log import ImpressionLog, of_topics, read_files


class DataView(Protocol):
    """A result as text and data, with the same numbers."""

    def write_text(self, command: CommandContext) -> None:
        """Print the result for people."""
        ...

    def data(self) -> dict[str, Any]:
        """Return the result as JSON has it."""
        ...

    def documents(self) -> Sequence[Mapping[str, Any]]:
        """Return the numbers as flat documents. Each has ``document``, the kind of the document."""
        ...


class ResultView(DataView, Protocol):
    """A result that is a page, too."""

    def html(self) -> str:
        """Return a page that needs no other file. Raise ConfigError when matplotlib is not installed."""
        ...


@dataclass(frozen=True)
class Targets:
    """Where a result goes besides the terminal."""

    json: bool
    documents: Path | None
    html: Path | None


def read_log(command: CommandContext, sources: Sequence[str], worker: Path | None) -> ImpressionLog:
    """Read files, or with a worker's file topics. Raise ConfigError, and the errors of Kafka."""
    if worker is not None:
        return of_topics(command.read_topics(worker, sources), sources)
    return read_files([Path(source) for source in sources])


def show(command: CommandContext, view: ResultView, targets: Targets) -> None:
    """Print a result, and write its files. Raise ConfigError when one cannot be written."""
    show_data(command, view, json_only=targets.json, documents=targets.documents)
    if targets.html is not None:
        _write(targets.html, view.html())
        command.note(f"report written to {targets.html}")


def show_data(command: CommandContext, view: DataView, *, json_only: bool, documents: Path | None) -> None:
    """Print a result, and write its documents. Raise ConfigError when they cannot be written."""
    if json_only:
        command.print_json(view.data())
    else:
        view.write_text(command)
    if documents is not None:
        write_lines(command, documents, view.documents(), "documents")


def write_lines(command: CommandContext, path: Path, items: Sequence[Mapping[str, Any]], what: str) -> None:
    """Write JSON lines, and say so. Raise ConfigError when the file cannot be written."""
    _write(path, "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in items))
    command.note(f"{len(items)} {what} written to {path}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}",
            code="experiment.file",
            hint="name a file in a folder that exists and may be written",
        ) from error
