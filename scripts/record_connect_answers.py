"""Record the answers of a JVM Kafka Connect worker to the requests of the golden contract.

python scripts/record_connect_answers.py    start Kafka and Connect, ask, and write tests/golden/connect/answers.jsonl

Kafka, Connect and its file connectors come from Maven Central by the lock files of the engines and the benchmarks. Run
it when the requests or the version of Connect change. No answer depends on the machine or the time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.kafka_connect import LOCK  # noqa: E402 - the folder of the project is not on the path of a script
from headrace.embedded.artifacts import locked  # noqa: E402
from headrace.embedded.engine import Engine  # noqa: E402
from headrace.embedded.jars import fetch  # noqa: E402
from headrace.embedded.java import java_command  # noqa: E402
from headrace.embedded.kafka import Kafka  # noqa: E402
from headrace.embedded.process import SupervisedProcess  # noqa: E402
from tests.golden.connect.answers import FILE, as_line, ask  # noqa: E402
from tests.golden.connect.requests import INPUT  # noqa: E402

_SETTINGS = {
    "group.id": "contract",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "offset.flush.interval.ms": "200",
    "scheduled.rebalance.max.delay.ms": "0",
    **{
        f"{kind}.storage.{key}": value
        for kind in ("config", "offset", "status")
        for key, value in (("topic", f"connect-{kind}"), ("replication.factor", "1"))
    },
}
_LOG = """
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
"""


class Connect(Engine):
    """A distributed worker, as most clusters run, with Kafka's file connectors."""

    name = "connect"
    title = "Kafka Connect"
    start_timeout = 240.0

    def __init__(self, folder: Path, bootstrap: str) -> None:
        super().__init__(folder, None)
        self._bootstrap = bootstrap

    @property
    def version(self) -> str:
        return locked("connect", LOCK).version

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "connect.log"

    def prepare(self) -> None:
        plugin = self.folder / "plugins" / "file"
        plugin.mkdir(parents=True, exist_ok=True)
        # kafka-clients: classes that the worker's own version has no more. Its other jars are those of the worker.
        wanted = [jar for jar in locked("connect-file", LOCK).jars if jar.name in ("connect-file", "kafka-clients")]
        for file in fetch(wanted):
            (plugin / file.name).symlink_to(file)
        settings = {
            "bootstrap.servers": self._bootstrap,
            "listeners": self.url,
            "plugin.path": str(plugin.parent),
            "plugin.discovery": "service_load",  # seconds instead of half a minute
            **_SETTINGS,
        }
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.folder / "worker.properties").write_text(text, encoding="utf-8")
        (self.folder / "log4j2.properties").write_text(_LOG, encoding="utf-8")

    def command(self) -> list[str]:
        return java_command(
            "org.apache.kafka.connect.cli.ConnectDistributed",
            class_path=fetch(locked("connect", LOCK).jars),
            heap="512m",
            options=[f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"],
            arguments=[str(self.folder / "worker.properties")],
        )

    def answers(self, process: SupervisedProcess) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def main() -> int:
    """Write the answers, after all of them were received."""
    with tempfile.TemporaryDirectory(prefix="connect-contract-") as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        (data / INPUT).write_text("one\ntwo\nthree\n", encoding="utf-8")
        kafka = Kafka(folder / "kafka")
        kafka.start()
        connect = Connect(folder / "connect", kafka.bootstrap_servers)
        try:
            connect.start()
            lines = [as_line(request, answer) for request, answer in ask(connect.url, data)]
        finally:
            connect.stop()
            kafka.stop()
    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} answers of Kafka Connect {connect.version}, {FILE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
