"""A distributed worker of Kafka Connect on the JVM, with Kafka's file connectors, for recordings and system tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from benchmarks.kafka_connect import LOCK
from headrace.embedded.artifacts import locked
from headrace.embedded.engine import Engine
from headrace.embedded.jars import fetch
from headrace.embedded.java import java_command
from headrace.embedded.process import SupervisedProcess

PLUGINS_VARIABLE = "HEADRACE_TEST_CONNECT_PLUGINS"
"""A folder of further plugins in the form of Connect's ``plugin.path``; ``scripts/build_competitors.py`` makes one."""
_LOG = """
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
"""


class ConnectWorker(Engine):
    """As most clusters run, with Kafka's file connectors. Its jars come from Maven Central by the lock file."""

    name = "connect"
    title = "Kafka Connect"
    start_timeout = 240.0

    def __init__(self, folder: Path, bootstrap: str, settings: Mapping[str, str]) -> None:
        super().__init__(folder, None)
        self._bootstrap = bootstrap
        self.settings = dict(settings)

    @property
    def version(self) -> str:
        return locked("connect", LOCK).version

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "connect.log"

    @property
    def properties(self) -> Path:
        """The worker's file."""
        return self.folder / "worker.properties"

    def prepare(self) -> None:
        plugin = self.folder / "plugins" / "file"
        if not plugin.exists():
            plugin.mkdir(parents=True)
            # kafka-clients: classes that the worker's own version has no more. Its other jars are those of the worker.
            wanted = [jar for jar in locked("connect-file", LOCK).jars if jar.name in ("connect-file", "kafka-clients")]
            for file in fetch(wanted):
                (plugin / file.name).symlink_to(file)
        folders = [str(plugin.parent), *filter(None, [os.environ.get(PLUGINS_VARIABLE)])]
        settings = {
            "bootstrap.servers": self._bootstrap,
            "listeners": self.url,
            "plugin.path": ",".join(folders),
            # seconds instead of half a minute; other plugins may have no manifest
            "plugin.discovery": "service_load" if len(folders) == 1 else "hybrid_warn",
            **self.settings,
        }
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
        (self.folder / "log4j2.properties").write_text(_LOG, encoding="utf-8")

    def command(self) -> list[str]:
        return java_command(
            "org.apache.kafka.connect.cli.ConnectDistributed",
            class_path=fetch(locked("connect", LOCK).jars),
            heap="512m",
            options=[f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"],
            arguments=[str(self.properties)],
        )

    def answers(self, process: SupervisedProcess) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False
