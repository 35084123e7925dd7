"""``headrace run``: a worker in the foreground."""

from __future__ import annotations

import enum
import gc
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from headrace.cli.allocator import share_one_arena
from headrace.cli.loading import load
from headrace.cli.log_setup import configure_logging
from headrace.cli.output import print_findings
from headrace.errors import CommandError, HeadraceError

_NEW_OBJECTS = 10_000
"""Objects after whose creation the garbage collector looks at new ones. Each record of a batch is an object, so with
Python's 700 it runs several times for each batch, and each hundredth time over the whole state of a stream task."""


class LogLevel(enum.StrEnum):
    """Levels of the log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.StrEnum):
    """Formats of the log."""

    TEXT = "text"
    JSON = "json"


def run(
    worker: Annotated[Path, typer.Argument(metavar="WORKER", help="The worker's file: Kafka brokers, converters.")],
    connectors: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CONNECTOR]...", help="Connector files; more connectors can be created over REST."),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(envvar="HEADRACE_LOG_LEVEL", help="Minimum level.")] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="HEADRACE_LOG_FORMAT", help="Readable lines, or JSON for log collectors.")
    ] = LogFormat.TEXT,
) -> None:
    """Run a worker, until Ctrl+C or SIGTERM: standalone with connectors from files, or as a member of a group.

    Files are YAML, JSON or .properties with Kafka Connect's keys. All are validated before anything starts.

      headrace run worker.yaml orders.yaml elasticsearch.yaml

    A worker file with group.id and three topics makes it a member of a group; see docs/groups.md.

    While it runs, `headrace connectors status` shows the state of its connectors and tasks.
    """
    loaded = load([worker, *(connectors or [])], worker=worker)
    settings = loaded.require()
    if settings.group_id and loaded.files:
        raise CommandError(
            f"connectors of a worker group are not given as files: {settings.group_id} is the group.id in {worker}",
            code="group.files",
            hint="start the worker without them, then `headrace connectors apply FILE` creates or changes a connector",
        )
    print_findings(loaded.findings)
    configure_logging(log_level.value.upper(), log_format.value, loaded.validator.secrets.everywhere)
    from headrace.app import WorkerApplication

    ended = threading.Event()
    refusals: list[HeadraceError] = []

    def refused(error: HeadraceError) -> None:
        refusals.append(error)
        ended.set()

    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    share_one_arena()
    _end_on_signals(ended)
    application = WorkerApplication(settings, loaded.validator, loaded.registry, refused=refused)
    try:
        application.start(loaded.files)
        ended.wait()
    finally:
        application.stop()
    if refusals:
        raise refusals[0]


def _end_on_signals(ended: threading.Event) -> None:
    """The first signal stops gracefully, the second exits immediately; stored offsets are correct either way."""

    def on_signal(number: int, _: FrameType | None) -> None:
        if ended.is_set():
            os._exit(128 + number)
        ended.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
