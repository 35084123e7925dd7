"""The life of one engine: prepare once, start, wait until it answers, stop, kill, start again on the same data."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import free_port, require_free
from headrace.errors import InfrastructureError


class Engine(ABC):
    """One server process on 127.0.0.1 with its data in one folder.

    ``start`` raises InfrastructureError with the end of the engine's own log if it does not answer within
    ``start_timeout`` seconds. ``stop`` and ``kill`` return when every process of it is gone; both are harmless on an
    engine that does not run. Methods are for one thread; ``stop`` and ``kill`` may be called from another to end a
    ``start`` that is under way.
    """

    name: ClassVar[str]
    title: str
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_grace: ClassVar[float] = 15.0
    start_timeout: ClassVar[float] = 90.0

    def __init__(self, folder: Path, port: int | None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self._keep_open: tuple[int, ...] = ()
        self._process: SupervisedProcess | None = None

    @property
    @abstractmethod
    def version(self) -> str:
        """The engine's own version, ``4.4.0``."""

    @property
    @abstractmethod
    def log_path(self) -> Path:
        """What the engine prints."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what must be there before a start: settings always, the data's format once."""

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def answers(self, process: SupervisedProcess) -> bool:
        """Whether clients can work now with the engine that runs as this process. False if it has ended."""

    def environment(self) -> Mapping[str, str] | None:
        """The variables it runs with; None = this process's."""
        return None

    @property
    def pid(self) -> int:
        """The engine's process id. Raises InfrastructureError if it is not running."""
        if self._process is None or not self._process.alive:
            raise InfrastructureError(f"{self.title} is not running", code="embedded.not_running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> None:
        """Returns when clients can work. Harmless on an engine that runs."""
        if self.running:
            return
        self.kill()  # what is left of one that ended by itself
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
                hint="make room or mend the folder's rights, or choose another data folder",
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
        """File descriptors that stay open until the engine has ended, even if this process is killed."""
        self._keep_open = descriptors

    def check(self) -> None:
        """InfrastructureError with the end of its log if it was started and has ended by itself."""
        if self._process is not None and not self._process.alive:
            raise self._fault("ended by itself", "embedded.ended", self._process)

    def stop(self) -> None:
        """Ends it in order: what was acknowledged is on disk."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def kill(self) -> None:
        """SIGKILL, as a power cut would do."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and nothing answers, as on a machine that hangs."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """SIGCONT: it goes on where it was."""
        if self._process is not None:
            self._process.resume()

    def restart(self) -> None:
        """Stops it if it runs; then it starts with the same port and data."""
        self.stop()
        self.start()

    def _fault(self, why: str, code: str, process: SupervisedProcess) -> InfrastructureError:
        return InfrastructureError(
            f"{self.title} {why}; the end of its log:\n{process.log_tail()}",
            code=code,
            hint=f"the whole log is in {self.log_path}",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
