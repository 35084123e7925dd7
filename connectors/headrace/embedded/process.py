"""A supervised process: it writes to a log file, and ends when its owner ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from headrace.embedded.optional_dependencies import psutil
from headrace.errors import InfrastructureError

_SUPERVISOR = Path(__file__).with_name("engine_supervisor.py")


def is_alive(pid: int) -> bool:
    """Return whether a process runs. A zombie does not."""
    try:
        return bool(psutil().Process(pid).status() != psutil().STATUS_ZOMBIE)
    except psutil().NoSuchProcess:
        return False


class SupervisedProcess:
    """A running engine process below its supervisor.

    ``stop_signal`` stops it gracefully; ``grace`` seconds later it is killed. Its output is appended to ``log``.
    ``keep_open`` are file descriptors that the supervisor, not the process, keeps open until the process has ended.
    Thread-safe. Raises InfrastructureError if the program cannot be run.
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
            # In its own session: Ctrl+C in the terminal reaches only the owner, which stops the engines gracefully.
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
        # It remembers when the process began, so that no signal goes to a later process with the same id.
        try:
            self._engine = psutil().Process(self.pid)
        except psutil().NoSuchProcess:
            self._engine = None

    @property
    def alive(self) -> bool:
        return self._supervisor.poll() is None

    def ended(self, within: float) -> bool:
        """Wait up to ``within`` seconds for the end of the process; return whether it has ended."""
        try:
            self._supervisor.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_until(self, ready: Callable[[], bool], within: float) -> bool:
        """Call ``ready`` until it returns True. Return False when the process has ended or the time is up."""
        # Not wait_for: the end of the process ends the wait at once.
        deadline = monotonic() + within
        while monotonic() < deadline:
            if ready():
                return True
            if self.ended(0.03):
                return False
        return False

    def stop(self) -> None:
        """Stop it gracefully; kill it after the grace. Return when it has ended."""
        self.resume()  # a paused process does not handle signals
        self._signal(self._stop_signal)
        if not self.ended(self._grace):
            self.kill()
        self._close()

    def kill(self) -> None:
        """Send SIGKILL, to its children too. Return when all of them have ended."""
        psutil().wait_procs(self._signal_tree(signal.SIGKILL))
        self._close()

    def pause(self) -> None:
        """Send SIGSTOP, to its children too: connections stay open and nothing answers."""
        self._signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT, to its children too."""
        self._signal_tree(signal.SIGCONT)

    def log_text(self) -> str:
        """Return what this process has written to the log."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that this process has written to the log, indented for a message."""
        return "\n".join(f"    {line}" for line in self.log_text().splitlines()[-lines:]) or "    (its log is empty)"

    def _signal(self, number: signal.Signals) -> None:
        if self._engine is not None:
            try:
                self._engine.send_signal(number)
            except psutil().NoSuchProcess:
                return  # it ended by itself

    def _signal_tree(self, number: signal.Signals) -> list[Any]:
        """Send a signal to the process, then to its children, so that it starts no new ones. Return all of them."""
        try:
            tree = [self._engine, *self._engine.children(recursive=True)] if self._engine is not None else []
        except psutil().NoSuchProcess:
            tree = []
        for process in tree:
            try:
                process.send_signal(number)
            except psutil().NoSuchProcess:
                continue
        return tree

    def _close(self) -> None:
        """Reap the supervisor and close both pipes."""
        self._supervisor.wait()
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()
