"""Keeps a stack running until somebody says stop, in the foreground or as a process of its own in the background."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from types import FrameType
from typing import IO, Any

from headrace.embedded.lock import FileLock
from headrace.embedded.process import is_alive
from headrace.embedded.stack import LOCK, EmbeddedStack
from headrace.errors import ConflictError, HeadraceError, InfrastructureError

Addresses = dict[str, dict[str, str]]
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DOWN_WITHIN = 60.0
"""Seconds: longer than the longest grace of an engine."""
_OWNER_ENDS = 5.0


class _Told(BaseException):
    """A signal has come. Not an Exception, so that nothing on the way takes it for a fault."""


def addresses(stack: EmbeddedStack) -> Addresses:
    """For each engine its version, its address, and the environment variable that examples expect the address in."""
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


def keep(stack: EmbeddedStack, started: Callable[[], None]) -> None:
    """Start the stack, call ``started``, return when SIGINT, SIGTERM or SIGHUP has come and all engines have ended.

    Further signals change nothing: all engines have ended within their grace. Raises what a start raises, and
    InfrastructureError with its log when an engine ends by itself (the others are stopped). Main thread only.
    """
    with _signals() as child_ended:
        try:
            with stack:
                started()
                while True:
                    child_ended.wait()
                    child_ended.clear()
                    stack.check()
        except _Told:
            return


@contextmanager
def _signals() -> Iterator[Event]:
    """The event is set when a child of this process, such as an engine's supervisor, has ended."""
    child_ended = Event()
    before = {number: signal.getsignal(number) for number in (*_ENDS, signal.SIGCHLD)}

    been_told = False

    def told(number: int, frame: FrameType | None) -> None:
        nonlocal been_told
        if not been_told:
            been_told = True
            raise _Told

    signal.signal(signal.SIGCHLD, lambda number, frame: child_ended.set())
    for end in _ENDS:
        signal.signal(end, told)
    try:
        yield child_ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_in_background(data: Path, arguments: Mapping[str, Any]) -> Addresses:
    """Start a process that keeps ``EmbeddedStack(data, **arguments)``, and return when all engines answer.

    It is independent of this process and its terminal, and says why it ended in ``up.log``. Raises what a start raises.
    """
    EmbeddedStack(data, **arguments).fetch()  # here, where somebody sees the progress
    log = data / "up.log"
    command = [sys.executable, "-m", "headrace.embedded.keeper", str(data), json.dumps(dict(arguments))]
    try:
        data.mkdir(parents=True, exist_ok=True)
        process, answers = _spawn(command, log)
    except OSError as error:
        raise InfrastructureError(
            f"the data folder {data} cannot be used: {error.strerror or error}",
            code="embedded.folder",
            hint="make room or mend its rights, or choose another data folder",
        ) from error
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
    """A process that nobody is going to wait for (hence no Popen): its id, and what it writes on stdout."""
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


def stop_in(data: Path) -> int | None:
    """End the stack that runs in a folder, in order, and return its owner's process id; None if nothing runs there.

    Return after its last process ended. Raise InfrastructureError if that takes over a minute or is not allowed.
    """
    lock = FileLock(data / LOCK)
    try:
        owner = lock.holder()
        if owner is None:
            return None
        with suppress(ProcessLookupError):  # it was killed a moment ago; its engines' supervisors end them
            os.kill(owner, signal.SIGTERM)
        ended = lock.acquire_within(_DOWN_WITHIN)
    except OSError as error:
        raise InfrastructureError(
            f"the stack in {data} cannot be stopped: {error.strerror or error}",
            code="embedded.down",
            hint="it may belong to another user",
        ) from error
    lock.release()
    if not ended:
        raise InfrastructureError(
            f"the stack in {data} has not ended within {_DOWN_WITHIN:.0f} s",
            code="embedded.down",
            hint=f"kill -9 {owner} ends it; what the engines have acknowledged is kept",
        )
    # The engines are gone; the owner has nothing left to do. One that does other things too may go on.
    deadline, pause = monotonic() + _OWNER_ENDS, Event()
    while is_alive(owner) and monotonic() < deadline:
        pause.wait(0.02)  # nobody tells when a process that is no child ends
    return owner


def main(arguments: list[str]) -> int:
    """The background process: one line of JSON on stdout when the engines answer or cannot be started."""

    def say(answer: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    started = False

    def on_start() -> None:
        nonlocal started
        say({"addresses": addresses(stack)})
        started = True

    os.setsid()  # Ctrl+C and the end of the terminal do not reach it
    stack = EmbeddedStack(Path(arguments[0]), **json.loads(arguments[1]))
    try:
        keep(stack, on_start)
    except HeadraceError as error:
        if not started:
            say({"code": error.code, "message": error.message, "hint": error.hint})
        sys.stderr.write(f"error: {error.code}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
