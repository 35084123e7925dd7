"""A Kafka Connect worker on the JVM and its connectors, to compare headrace with.

Connect and Debezium come from Maven Central by ``competitors.lock.json``. Connectors that are not published there are
given as a folder in the form of Connect's ``plugin.path``: one folder of jars for each plugin.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import httpx
import psutil

from headrace.embedded.artifacts import locked
from headrace.embedded.jars import fetch
from headrace.embedded.optional_dependencies import java

LOCK = Path(__file__).parent / "competitors.lock.json"
_TIMEOUT = 120.0
_POLL = 0.02
JVM = ("-Xms256m", "-Xmx2g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true")
"""The JVM options of connect-standalone.sh."""
_SETTINGS = {
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    # headrace's own defaults, which are larger than Kafka's: with those Connect is slower.
    "producer.linger.ms": "5",
    "producer.batch.size": "262144",
    "producer.buffer.memory": "67108864",
    "consumer.max.partition.fetch.bytes": "4194304",
    "consumer.fetch.max.bytes": "52428800",
    "consumer.max.poll.records": "2000",
}
_LOG = """
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class KafkaConnect:
    """A standalone worker without connectors; :attr:`url` is its REST API. Raises RuntimeError if the start fails."""

    def __init__(self, folder: Path, bootstrap: str, plugins: Path | None = None) -> None:
        """Without ``plugins``, run Debezium on the version of Connect that it supports."""
        folder.mkdir()
        connect = locked("connect" if plugins else "connect-for-debezium", LOCK)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        settings = {
            "bootstrap.servers": bootstrap,
            "listeners": self.url,
            "offset.storage.file.filename": str(folder / "offsets"),
            "plugin.path": str(plugins or _debezium(folder)),
            **_SETTINGS,
        }
        (folder / "worker.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        (folder / "log4j2.properties").write_text(_LOG)
        jars = fetch(connect.jars)
        self._log = (folder / "worker.log").open("wb")
        self._process = subprocess.Popen(
            [
                java(), *JVM, f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
                "-cp", os.pathsep.join(map(str, jars)),
                "org.apache.kafka.connect.cli.ConnectStandalone", str(folder / "worker.properties"),
            ],
            stdout=self._log,
            stderr=self._log,
        )  # fmt: skip
        self.process = psutil.Process(self._process.pid)
        deadline = time.monotonic() + _TIMEOUT
        while self.plugins() is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = self.log()
                self.stop()
                raise RuntimeError(f"Kafka Connect does not answer:\n{text}")
            time.sleep(_POLL)

    def plugins(self) -> Collection[str] | None:
        """Return the classes of its connectors; None while it does not respond."""
        try:
            answer = httpx.get(f"{self.url}/connector-plugins", timeout=10)
        except httpx.TransportError:
            return None
        found: list[dict[str, Any]] = answer.json() if answer.status_code == 200 else []
        return [item["class"] for item in found] or None

    def log(self) -> str:
        """Return the end of its log."""
        return Path(self._log.name).read_text(errors="replace")[-6000:]

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _debezium(folder: Path) -> Path:
    plugin = folder / "plugins" / "debezium"
    plugin.mkdir(parents=True)
    for jar in fetch(locked("debezium", LOCK).jars):
        (plugin / jar.name).symlink_to(jar)
    return plugin.parent
