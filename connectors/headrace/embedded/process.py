"""One supervised process: started with a log file, ended by signals, gone when its owner is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from headrace.embedded.extra import psutil
from headrace.errors import InfrastructureError

_SUPERVISOR = Path(__file__).with_name("supervisor.py")


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and that its parent has not noticed yet does not."""
    try:
        return bool(psutil().Process(pid).status() != psutil().STATUS_ZOMBIE)
    except psutil().NoSuchProcess:
        return False


class SupervisedProcess:
    """A running engine process below its supervisor.

    ``stop_signal`` asks it to end in order, ``grace`` seconds later it is killed. Its output is appended to ``log``.
    ``keep_open`` are file descriptors that the supervisor, not the process, holds until the process has ended.
    Methods may be called from any thread. Raises InfrastructureError if the program cannot be run at all.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 15.0,
        environment: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._stop_signal, self._grace = stop_signal, grace
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            # A session of its own: Ctrl+C in the terminal reaches the owner alone, and he stops engines in order.
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(int(stop_signal)), str(grace), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
                pass_fds=keep_open,
            )
        assert self._supervisor.stdout is not None
        first_line = self._supervisor.stdout.readline()
        if not first_line.strip().isdigit():
            self._close()
            raise InfrastructureError(
                f"{command[0]} cannot be run:\n{self.log_tail()}",
                code="embedded.start",
                hint=f"see {log}",
            )
        self.pid = int(first_line)
        # It remembers when the process began, so that no signal ever goes to a later one with the same number.
        try:
            self._engine = psutil().Process(self.pid)
        except psutil().NoSuchProcess:
            self._engine = None

    @property
    def alive(self) -> bool:
        return self._supervisor.poll() is None

    def ended(self, within: float) -> bool:
        """Waits up to ``within`` seconds for the end of the process."""
        try:
            self._supervisor.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_until(self, ready: Callable[[], bool], within: float) -> bool:
        """Asks ``ready`` until it holds. False when the process ended or the time is up."""
        deadline = monotonic() + within
        while monotonic() < deadline:
            if ready():
                return True
            if self.ended(0.03):
                return False
        return False

    def stop(self) -> None:
        """End it in order; kill it if that takes longer than its grace. Returns when it is gone."""
        self.resume()  # a paused one would not hear it
        self._signal(self._stop_signal)
        if not self.ended(self._grace):
            self.kill()
        self._close()

    def kill(self) -> None:
        """SIGKILL, to its children too. Returns when all of them are gone."""
        psutil().wait_procs(self._signal_family(signal.SIGKILL))
        self._close()

    def pause(self) -> None:
        """SIGSTOP, to its children too: connections stay open, nothing answers."""
        self._signal_family(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal_family(signal.SIGCONT)

    def log_text(self) -> str:
        """What this start has written to the log so far."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 20) -> str:
        """The end of the log of this start, indented for a message."""
        return "\n".join(f"    {line}" for line in self.log_text().splitlines()[-lines:]) or "    (its log is empty)"

    def _signal(self, number: signal.Signals) -> None:
        if self._engine is not None:
            try:
                self._engine.send_signal(number)
            except psutil().NoSuchProcess:
                return  # it ended by itself

    def _signal_family(self, number: signal.Signals) -> list[Any]:
        """To the parent first, so that it starts no new ones; all that were there."""
        try:
            family = [self._engine, *self._engine.children(recursive=True)] if self._engine is not None else []
        except psutil().NoSuchProcess:
            family = []
        for process in family:
            try:
                process.send_signal(number)
            except psutil().NoSuchProcess:
                continue
        return family

    def _close(self) -> None:
        """Reap the supervisor and close both pipes."""
        self._supervisor.wait()
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()
