"""Life cycle of one engine: prepare, start, wait until it responds, stop or kill, start again on the same data."""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from headrace.embedded.lifecycle import StartStop
from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import free_port, require_free
from headrace.errors import InfrastructureError


class Engine(StartStop):
    """One server process on 127.0.0.1 with its data in one folder.

    ``start`` raises InfrastructureError with the end of the engine's log if it does not answer within
    ``start_timeout`` seconds. ``stop`` and ``kill`` return when all its processes have ended; both do nothing when the
    engine does not run. Call methods from one thread; only ``stop`` and ``kill`` may be called from another thread, to
    end a ``start`` that is in progress.
    """

    name: ClassVar[str]
    title: str
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_grace: ClassVar[float] = 15.0
    start_timeout: float = 180.0  # Elasticsearch was ready after 95 s on two cores under a load of 15

    def __init__(self, folder: Path, port: int | None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self._keep_open: tuple[int, ...] = ()
        self._process: SupervisedProcess | None = None

    @property
    @abstractmethod
    def version(self) -> str:
        """The engine's version, ``4.4.0``."""

    @property
    @abstractmethod
    def log_path(self) -> Path:
        """The file that the engine's output goes to."""

    @abstractmethod
    def prepare(self) -> None:
        """Write the settings, and create the data folder if there is none. Called before each start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def answers(self, process: SupervisedProcess) -> bool:
        """Return whether clients can use the engine that runs as this process. False if it has ended."""

    def environment(self) -> Mapping[str, str] | None:
        """Return its environment variables; None for those of this process."""
        return None

    @property
    def pid(self) -> int:
        """The engine's process id. Raise InfrastructureError if it is not running."""
        if self._process is None or not self._process.alive:
            raise InfrastructureError(f"{self.title} is not running", code="embedded.not_running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> None:
        """Start it and return when clients can use it. Do nothing if it runs."""
        if self.running:
            return
        self.kill()  # remaining processes of an engine that ended by itself
        require_free(self.port, self.name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.prepare()
            process = SupervisedProcess(
                self.command(),
                self.log_path,
                stop_signal=self.stop_signal,
                grace=self.stop_grace,
                environment=self.environment(),
                keep_open=self._keep_open,
            )
        except OSError as error:
            raise InfrastructureError(
                f"{self.title} cannot be started: {error.strerror or error} ({error.filename or self.folder})",
                code="embedded.folder",
                hint="free disk space or fix the folder's permissions, or choose another data folder",
            ) from error
        self._process = process
        try:
            ready = process.wait_until(lambda: self.answers(process), self.start_timeout)
        except BaseException:
            process.kill()
            raise
        if not ready:
            why = f"does not answer after {self.start_timeout:.0f} s" if process.alive else "ended while it started"
            process.kill()
            raise self._fault(why, "embedded.start", process)

    def hold(self, *descriptors: int) -> None:
        """Keep file descriptors open until the engine has ended, even if this process is killed."""
        self._keep_open = descriptors

    def check(self) -> None:
        """Raise InfrastructureError with the end of its log if it was started and has ended by itself."""
        if self._process is not None and not self._process.alive:
            raise self._fault("ended by itself", "embedded.ended", self._process)

    def stop(self) -> None:
        """Stop it gracefully: acknowledged data is on disk."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def kill(self) -> None:
        """Send SIGKILL, as a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def pause(self) -> None:
        """Send SIGSTOP: connections stay open and nothing answers, as on a machine that hangs."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """Send SIGCONT."""
        if self._process is not None:
            self._process.resume()

    def restart(self) -> None:
        """Stop it if it runs, and start it with the same port and data."""
        self.stop()
        self.start()

    def _fault(self, why: str, code: str, process: SupervisedProcess) -> InfrastructureError:
        return InfrastructureError(
            f"{self.title} {why}; the end of its log:\n{process.log_tail()}",
            code=code,
            hint=f"the whole log is in {self.log_path}",
        )
