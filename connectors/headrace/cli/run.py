"""``headrace run``: a worker in the foreground."""

from __future__ import annotations

import enum
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from headrace.cli import worker_processes
from headrace.cli.allocator import share_one_arena
from headrace.cli.loading import load
from headrace.cli.log_setup import configure_logging
from headrace.cli.output import print_findings
from headrace.cli.service_notify import ServiceNotifier
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
    workers: Annotated[
        int,
        typer.Option("--workers", min=1, metavar="N", help="Run N members of a group, on the ports after each other."),
    ] = 1,
    worker_number: Annotated[int, typer.Option("--worker-number", hidden=True)] = 0,
) -> None:
    """Run a worker, until Ctrl+C or SIGTERM: standalone with connectors from files, or as a member of a group.

    Files are YAML, JSON or .properties with Kafka Connect's keys. All are validated before anything starts.

      headrace run worker.yaml orders.yaml elasticsearch.yaml

    A worker file with group.id and three topics makes it a member of a group; see docs/groups.md. With --workers N
    several members run on this machine; one that dies is started again.

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
    ended = threading.Event()
    name = f"worker-{worker_number}" if worker_number else ""
    if worker_number:
        settings = worker_processes.numbered(settings, worker_number)
        worker_processes.end_with_parent(ended)
    else:
        print_findings(loaded.findings)
    configure_logging(log_level.value.upper(), log_format.value, loaded.validator.secrets.everywhere, name)
    if workers > 1:
        worker_processes.require_group(settings, workers)
        raise typer.Exit(_run_processes(worker, log_level, log_format, workers, settings.shutdown_timeout, ended))
    from headrace.app import WorkerApplication

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
        notifier = ServiceNotifier(application.worker.liveness, application.worker.health)
        notifier.start()
        ended.wait()
        notifier.stop()
    finally:
        application.stop()
    if refusals:
        raise refusals[0]


def _run_processes(
    worker: Path, level: LogLevel, form: LogFormat, count: int, shutdown_timeout: int, ended: threading.Event
) -> int:
    """Run several workers; return the exit code."""
    _end_on_signals(ended)
    command = [sys.executable, "-m", "headrace", "run", str(worker)]
    start = worker_processes.start_process([*command, "--log-level", level.value, "--log-format", form.value])
    timeout = shutdown_timeout / 1000 + worker_processes.GRACE
    return worker_processes.WorkerProcesses(start, count, ended, timeout=timeout).run()


def _end_on_signals(ended: threading.Event) -> None:
    """The first signal stops gracefully, the second exits immediately; stored offsets are correct either way."""

    def on_signal(number: int, _: FrameType | None) -> None:
        if ended.is_set():
            os._exit(128 + number)
        ended.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
