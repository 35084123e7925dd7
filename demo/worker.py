"""The worker of the demo: ``headrace run`` in a process of its own, with its log in a file."""

from __future__ import annotations

import os
import socket
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.embedded.process import SupervisedProcess
from headrace.errors import InfrastructureError

CONFIG = Path(__file__).parent.parent / "config"


class DemoWorker:
    """``headrace run`` with all files of ``config``, and addresses from ``environment``.

    Ctrl+C in the terminal does not reach it (the demo stops it), and it does not outlive the demo. ``stop_timeout`` is
    the time in seconds to commit what it has; after it the worker is killed.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        *,
        command: Sequence[str] | None = None,
        stop_timeout: float = 15.0,
    ) -> None:
        self.log = log
        self.command = list(command or default_command())
        self._stop_timeout = stop_timeout
        self._environment = os.environ | dict(environment)
        self._process: SupervisedProcess | None = None

    def start(self) -> None:
        """Start the process; REST responds a moment later. Raises InfrastructureError."""
        if not Path(self.command[0]).is_file():
            raise InfrastructureError(
                f"there is no {self.command[0]}: the project is not installed into this Python",
                code="demo.not_installed",
                hint="pip install -e '.[embedded,postgres]'",
            )
        self._process = SupervisedProcess(
            self.command, self.log, grace=self._stop_timeout, environment=self._environment
        )

    @property
    def ended(self) -> bool:
        """Return whether the process was started and ended by itself."""
        return self._process is not None and not self._process.alive

    def stop(self) -> None:
        """Stop the process; kill it if it does not stop in time. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def tail(self, lines: int = 20) -> str:
        """Return the end of the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def default_command() -> list[str]:
    """Return the command line that a user would type."""
    connectors = [path for folder in ("connectors", "streams") for path in sorted((CONFIG / folder).glob("*.yaml"))]
    program = Path(sysconfig.get_path("scripts")) / "headrace"
    return [str(program), "run", str(CONFIG / "worker-standalone.yaml"), *map(str, connectors)]


def free_port(preferred: int) -> int:
    """Return ``preferred`` if no program listens there, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise InfrastructureError("no free TCP port on 127.0.0.1", code="demo.port")
