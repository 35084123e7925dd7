"""Reports in the status that a configuration file was changed while its connector runs: changes are not applied."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from headrace.config import changed_keys
from headrace.errors import ConfigError, NotFoundError
from headrace.files import ConfigFile, read_config_file
from headrace.runtime.connector_reasons import ConnectorReasons

log = structlog.stdlib.get_logger("headrace.worker")
_INTERVAL = 5.0  # seconds


class FileWatch:
    """Checks the modification times of connector files, and compares a changed file with the running configuration."""

    def __init__(
        self,
        files: Sequence[ConfigFile],
        running: Callable[[str], Mapping[str, str]],
        reasons: ConnectorReasons,
        interval: float = _INTERVAL,
    ) -> None:
        """``running`` returns the configuration of a connector. Raises NotFoundError."""
        self._files = {file.properties["name"]: Path(file.path) for file in files}
        self._running = running
        self._reasons = reasons
        self._interval = interval
        self._seen = {name: _stamp(path) for name, path in self._files.items()}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="file-watch", daemon=True)

    def start(self) -> None:
        if self._files:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            for name, path in self._files.items():
                self._look(name, path)

    def _look(self, name: str, path: Path) -> None:
        stamp = _stamp(path)
        if stamp == self._seen[name] and self._reasons.of(name) is None:
            return
        reason = self._reason(name, path) if stamp is not None else None  # a file may be removed after the start
        self._reasons.set(name, "file", reason)
        if stamp != self._seen[name]:
            self._seen[name] = stamp
            if reason is not None:
                log.warning("configuration file has changed", connector=name, reason=reason)

    def _reason(self, name: str, path: Path) -> str | None:
        try:
            changes = changed_keys(self._running(name), read_config_file(path).properties)
        except NotFoundError:  # it was deleted over REST
            return None
        except ConfigError as error:
            return f"{path} has changed and cannot be read: {error}; the connector runs with its former configuration"
        if not changes:
            return None
        text = f"{path} has changed, and the connector runs with its former configuration ({', '.join(changes)})"
        return f"{text} → `headrace validate {path}`, then `headrace connectors apply {path}`"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
