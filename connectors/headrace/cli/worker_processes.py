"""``headrace run --workers N``: a parent process that runs N members of a worker group, and starts dead ones again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from headrace.errors import CommandError, ConfigError, Finding
from headrace.rest.listeners import Listener, parse_listeners
from headrace.settings import WorkerSettings

log = structlog.stdlib.get_logger("headrace.workers")

MISTAKE = 2
"""Exit code of a worker that a restart does not help: the configuration is wrong."""
_SHORTEST, _LONGEST = 1.0, 60.0
"""Seconds before a dead worker is started again; a worker that has run for the longer time starts over with the
shorter."""
GRACE = 15.0
"""Seconds that a worker may take to stop, in addition to its tasks."""


class ChildProcess(Protocol):
    """The part of :class:`subprocess.Popen` that is used."""

    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


StartWorker = Callable[[int], ChildProcess]
"""Start the worker with a number, from 1 on."""


class WorkerProcesses:
    """Runs workers until ``ended`` is set, or the configuration is wrong."""

    def __init__(
        self,
        start: StartWorker,
        count: int,
        ended: threading.Event,
        *,
        timeout: float = GRACE,
        backoff: tuple[float, float] = (_SHORTEST, _LONGEST),
    ) -> None:
        """``timeout``: seconds that a worker may take to stop before it is killed. ``backoff``: the shortest and the
        longest time before a dead worker is started again."""
        self._start = start
        self._ended = ended
        self._timeout = timeout
        self._backoff = backoff
        self._lock = threading.Lock()
        self._running: dict[int, ChildProcess] = {}
        self._codes: dict[int, int] = {}
        self._threads = [
            threading.Thread(target=self._supervise, args=(number,), name=f"{number}-worker-process", daemon=True)
            for number in range(1, count + 1)
        ]

    def run(self) -> int:
        """Return the exit code: 0 when all workers have stopped in order, else the largest of theirs."""
        for thread in self._threads:
            thread.start()
        self._ended.wait()
        self._stop()
        return max((_exit_code(code) for code in self._codes.values()), default=0)

    def _stop(self) -> None:
        with self._lock:
            for child in self._running.values():
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        with self._lock:
            for number, child in self._running.items():
                log.error("worker killed", process=f"worker-{number}", reason=f"not stopped in {self._timeout:g} s")
                child.kill()
        for thread in self._threads:
            thread.join()

    def _supervise(self, number: int) -> None:
        name = f"worker-{number}"
        shortest, longest = self._backoff
        wait = shortest
        while True:
            with self._lock:
                if self._ended.is_set():
                    return
                child = self._running[number] = self._start(number)
            began = time.monotonic()
            code = child.wait()
            with self._lock:
                del self._running[number]
                self._codes[number] = code
            if self._ended.is_set():
                return
            if code == MISTAKE:
                log.error("all workers are stopped", process=name, reason=f"exit code {code}: fix the configuration")
                self._ended.set()
                return
            if time.monotonic() - began >= longest:
                wait = shortest
            log.error("worker ended", process=name, reason=_how(code), next=f"it is started again in {wait:g} s")
            if self._ended.wait(wait):
                return
            wait = min(wait * 2, longest)
            del self._codes[number]


def numbered(settings: WorkerSettings, number: int) -> WorkerSettings:
    """Return the settings of one of several workers on this machine: the first has the ports of the file, the others
    the next ones, and each has a part of ``state.dir``."""
    shift = number - 1
    return settings.model_copy(
        update={
            "listeners": _shifted(settings.listeners, shift),
            "admin_listeners": settings.admin_listeners and _shifted(settings.admin_listeners, shift),
            "advertised_port": settings.advertised_port and settings.advertised_port + shift,
            "state_dir": settings.state_dir and str(Path(settings.state_dir) / f"worker-{number}"),
        }
    )


def require_group(settings: WorkerSettings, count: int) -> None:
    """Raise the error of settings with which several workers cannot run on this machine."""
    if not settings.group_id:
        raise CommandError(
            "--workers runs members of a worker group, and the worker's file has no group.id",
            code="group.required",
            hint="set group.id and the three topics of a group; see docs/groups.md",
        )
    ports = [
        listener.port
        for number in range(1, count + 1)
        for own in [numbered(settings, number)]
        for listener in _all_listeners(own)
        if listener.port
    ]
    if len(set(ports)) < len(ports):
        text = f"{count} workers need {count} ports from each listener's on, and these of two listeners overlap"
        hint = f"leave at least {count} ports between the listeners"
        raise ConfigError(findings=[Finding("config.conflict", text, "listeners", hint)])


def start_process(arguments: Sequence[str]) -> StartWorker:
    """Return a function that runs ``arguments`` with the number of the worker.

    The workers end when this process does: they have a pipe as stdin, which is closed then. They do not get the signals
    of the terminal, which this process passes on.
    """

    def start(number: int) -> ChildProcess:
        return subprocess.Popen(
            [*arguments, "--worker-number", str(number)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
        )

    return start


def end_with_parent(ended: threading.Event) -> None:
    """Set ``ended`` when the parent process has ended, on a thread."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        ended.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _all_listeners(settings: WorkerSettings) -> list[Listener]:
    return parse_listeners([*settings.listeners, *(settings.admin_listeners or ())])


def _shifted(listeners: Sequence[str], shift: int) -> tuple[str, ...]:
    parsed = parse_listeners(listeners)
    return tuple(_url(item._replace(port=item.port + shift if item.port else 0)) for item in parsed)


def _url(listener: Listener) -> str:
    return f"http{'s' if listener.tls else ''}://{listener}"


def _exit_code(code: int) -> int:
    return 128 - code if code < 0 else code


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
