"""The process that owns a running stack: in the foreground until a signal, or in the background until it is stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from types import FrameType
from typing import IO, Any

from headrace.embedded.lock import FileLock
from headrace.embedded.process import is_alive
from headrace.embedded.stack import LOCK, EmbeddedStack, folder_error
from headrace.errors import ConflictError, HeadraceError, InfrastructureError
from headrace.retries import wait_for

Addresses = dict[str, dict[str, str]]
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_TIMEOUT = 60.0
"""Seconds: longer than the longest stop grace of an engine."""
_OWNER_EXIT_TIMEOUT = 5.0


class _StopSignal(BaseException):
    """A stop signal was received. Not an Exception, so that no handler of errors catches it."""


def addresses(stack: EmbeddedStack) -> Addresses:
    """Return for each engine its version, its address, and the environment variable that examples read it from."""
    found: Addresses = {}
    for name, engine in stack.engines.items():
        if name == "kafka":
            variable, address = "KAFKA_BOOTSTRAP_SERVERS", stack.kafka.bootstrap_servers
        elif name == "elasticsearch":
            variable, address = "ELASTICSEARCH_URL", stack.elasticsearch.url
        else:
            variable, address = "DATABASE_URL", stack.postgres.url
        found[name] = {"title": engine.title, "version": engine.version, "address": address, "variable": variable}
    return found


def run_until_signal(stack: EmbeddedStack, started: Callable[[], None]) -> None:
    """Start the stack, call ``started``, and return after SIGINT, SIGTERM or SIGHUP when all engines have ended.

    Further signals are ignored: all engines end within their stop grace. Raise the error of a failed start, and
    InfrastructureError with its log when an engine ends by itself, after stopping the others. Main thread only.
    """
    with _signals() as child_ended:
        try:
            with stack:
                started()
                while True:
                    child_ended.wait()
                    child_ended.clear()
                    stack.check()
        except _StopSignal:
            return


@contextmanager
def _signals() -> Iterator[Event]:
    """Install the signal handlers. The event is set when a child process, such as an engine's supervisor, has ended."""
    child_ended = Event()
    before = {number: signal.getsignal(number) for number in (*_STOP_SIGNALS, signal.SIGCHLD)}

    received = False

    def on_stop_signal(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if not received:
            received = True
            raise _StopSignal

    signal.signal(signal.SIGCHLD, lambda number, frame: child_ended.set())
    for number in _STOP_SIGNALS:
        signal.signal(number, on_stop_signal)
    try:
        yield child_ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_in_background(data: Path, arguments: Mapping[str, Any]) -> Addresses:
    """Start a process that runs ``EmbeddedStack(data, **arguments)``, and return when all engines answer.

    It is independent of this process and its terminal; ``up.log`` says why it ended. Raise the error of a failed start.
    """
    EmbeddedStack(data, **arguments).fetch()  # in this process, whose terminal shows the progress
    log = data / "up.log"
    command = [sys.executable, "-m", "headrace.embedded.stack_process", str(data), json.dumps(dict(arguments))]
    try:
        data.mkdir(parents=True, exist_ok=True)
        process, answers = _spawn(command, log)
    except OSError as error:
        raise folder_error(data, error) from error
    with answers:
        try:
            line = answers.readline()
        except BaseException:  # Ctrl+C while it starts
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
            raise
    ended = {"code": "embedded.start", "message": "the background process ended while it started"}
    answer: dict[str, Any] = json.loads(line) if line else ended
    if "addresses" in answer:
        found: Addresses = answer["addresses"]
        return found
    os.waitpid(process, 0)
    kind = ConflictError if answer["code"] == "embedded.already_running" else InfrastructureError
    raise kind(answer["message"], code=answer["code"], hint=answer.get("hint") or f"see {log}")


def _spawn(command: Sequence[str], log: Path) -> tuple[int, IO[str]]:
    """Start a process without waiting for it later (hence no Popen); return its id and its stdout."""
    reading, writing = os.pipe()
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            files = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ]
            process = os.posix_spawn(command[0], list(command), os.environ, file_actions=files)
        finally:
            os.close(output)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return process, os.fdopen(reading)


def stop_stack(data: Path) -> int | None:
    """Stop the stack that runs in a folder gracefully; return its owner's process id, or None if none runs there.

    Return when its last process has ended. Raise InfrastructureError if that takes over a minute or is not permitted.
    """
    lock = FileLock(data / LOCK)
    try:
        owner = lock.holder()
        if owner is None:
            return None
        with suppress(ProcessLookupError):  # it has just ended; the supervisors stop its engines
            os.kill(owner, signal.SIGTERM)
        ended = lock.acquire_within(_STOP_TIMEOUT)
    except OSError as error:
        raise InfrastructureError(
            f"the stack in {data} cannot be stopped: {error.strerror or error}",
            code="embedded.down",
            hint="it may belong to another user",
        ) from error
    lock.release()
    if not ended:
        raise InfrastructureError(
            f"the stack in {data} has not ended within {_STOP_TIMEOUT:.0f} s",
            code="embedded.down",
            hint=f"kill -9 {owner} ends it; what the engines have acknowledged is kept",
        )
    # The engines have ended. An owner that does other things too may go on.
    # There is no notification for the end of a process that is not a child.
    wait_for(lambda: not is_alive(owner), timeout=_OWNER_EXIT_TIMEOUT, interval=0.02)
    return owner


def main(arguments: list[str]) -> int:
    """Run the background process: write one line of JSON to stdout when the engines answer or fail to start."""

    def report(answer: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    started = False

    def on_start() -> None:
        nonlocal started
        report({"addresses": addresses(stack)})
        started = True

    os.setsid()  # detach from the terminal: no Ctrl+C and no hangup
    stack = EmbeddedStack(Path(arguments[0]), **json.loads(arguments[1]))
    try:
        run_until_signal(stack, on_start)
    except HeadraceError as error:
        if not started:
            report({"code": error.code, "message": error.message, "hint": error.hint})
        sys.stderr.write(f"error: {error.with_code()}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
