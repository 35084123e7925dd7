"""The compared stream applications, each a process: headrace, Kafka Streams on the JVM, and Quix Streams."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from benchmarks.framework import CONVERTERS
from benchmarks.kafka_connect import LOCK
from headrace.embedded.artifacts import locked
from headrace.embedded.jars import fetch
from headrace.embedded.optional_dependencies import java

ENRICHMENT, COUNT, LEFT_JOIN = "enrichment", "count", "left join"
TOPOLOGIES = (ENRICHMENT, COUNT, LEFT_JOIN)
COMMIT_INTERVAL = 500
"""Milliseconds."""
SESSION_TIMEOUT = 6_000
"""Milliseconds after which Kafka forgets a killed process; its successor waits for that (the default is 45 s)."""


@dataclass(frozen=True)
class StreamTopics:
    """The topics of one run."""

    views: str
    clicks: str
    offers: str
    output: str


class StreamProcess(Protocol):
    """Starts an application."""

    def start(self, topology: str, name: str, topics: StreamTopics, number: int = 0) -> subprocess.Popen[bytes]:
        """Start the process. An equal ``name`` continues where the last process ended, and shares the partitions with
        those that run and have another ``number``."""
        ...

    def group(self, name: str) -> str:
        """Return the consumer group of the application."""
        ...

    def forget(self, name: str) -> None:
        """Delete what the application has stored on this machine."""
        ...


@dataclass(frozen=True)
class HeadraceProcess:
    """A worker with one application of YAML steps."""

    folder: Path
    bootstrap: str
    client: str
    checkpoints: bool = False

    def start(self, topology: str, name: str, topics: StreamTopics, number: int = 0) -> subprocess.Popen[bytes]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        worker = {
            "bootstrap.servers": self.bootstrap,
            "kafka.client": self.client,
            "listeners": f"http://127.0.0.1:{port}",
            "consumer.session.timeout.ms": SESSION_TIMEOUT,
            "rest.advertised.port": 8083 + number,  # the transactional.id does not change from start to start
            "offset.storage.file.filename": str(self.folder / f"{name}-{number}-offsets.jsonl"),
            **({"state.dir": str(self._state(name) / str(number))} if self.checkpoints else {}),
            **CONVERTERS,
        }
        files = [self.folder / f"{name}-{number}-worker.yaml", self.folder / f"{name}.yaml"]
        application = {"name": name, "connector.class": "Stream", "commit.interval.ms": COMMIT_INTERVAL}
        for file, content in zip(files, (worker, {**application, **_sections(topology, topics)}), strict=True):
            file.write_text(yaml.safe_dump(content, sort_keys=False))
        program = Path(sysconfig.get_path("scripts")) / "headrace"
        return _started([str(program), "run", *map(str, files)], self.folder / f"{name}-{number}.log")

    def group(self, name: str) -> str:
        return f"connect-{name}"

    def forget(self, name: str) -> None:
        """Checkpoints are kept: a start that reads them is what they are for."""

    def _state(self, name: str) -> Path:
        return self.folder / f"{name}-state"


def _sections(topology: str, topics: StreamTopics) -> dict[str, Any]:
    if topology == ENRICHMENT:
        return {
            "inputs": {"views": topics.views},
            "tables": {"offers": topics.offers},
            "steps": {
                "found": {"lookup": {"offer": "offers[offer_id]"}},
                "enriched": {"add": {"epi": "offer.cpi / offer.loi", "country_match": "country = offer.country"}},
            },
            "outputs": {topics.output: "enriched"},
        }
    if topology == COUNT:
        window = {"by": "offer_id", "tumbling": "1m", "grace": "1m", "aggregate": {"views": "count(*)"}}
        return {
            "inputs": {"views": {"topic": topics.views, "key": "offer_id"}},
            "steps": {"counted": {"window": window}},
            "outputs": {topics.output: "counted"},
        }
    join = {"type": "left", "left": "views", "right": "clicks", "by": "view_id", "within": "1h", "grace": "1m"}
    return {
        "inputs": {
            "views": {"topic": topics.views, "key": "view_id"},
            "clicks": {"topic": topics.clicks, "key": "view_id"},
        },
        "steps": {"labelled": {"join": {**join, "as": "click"}}},
        "outputs": {topics.output: "labelled"},
    }


@dataclass(frozen=True)
class KafkaStreamsProcess:
    """An application of Kafka Streams, with exactly_once_v2 and one thread."""

    folder: Path
    bootstrap: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def start(self, topology: str, name: str, topics: StreamTopics, number: int = 0) -> subprocess.Popen[bytes]:
        settings = {
            "processing.guarantee": "exactly_once_v2",
            "commit.interval.ms": str(COMMIT_INTERVAL),
            "num.stream.threads": "1",
            "consumer.session.timeout.ms": str(SESSION_TIMEOUT),
            "state.dir": str(self._state(name)),
            **self.settings,
        }
        jars = fetch(locked("kafka-streams", LOCK).jars)
        command = [
            java(), "-Xmx2g", "--enable-native-access=ALL-UNNAMED",
            "-cp", os.pathsep.join(map(str, [self.folder / "classes", *jars])), "StreamBenchmark",
            self.bootstrap, name, topology, topics.views, topics.clicks, topics.offers, topics.output,
            *(f"{key}={value}" for key, value in settings.items()),
        ]  # fmt: skip
        return _started(command, self.folder / f"{name}.log")

    def compile(self) -> None:
        """Compile the program. Needs ``javac``."""
        source = Path(__file__).parent / "kafka_streams" / "StreamBenchmark.java"
        jars = os.pathsep.join(map(str, fetch(locked("kafka-streams", LOCK).jars)))
        subprocess.run(["javac", "-d", str(self.folder / "classes"), "-cp", jars, str(source)], check=True)

    def group(self, name: str) -> str:
        return name

    def forget(self, name: str) -> None:
        shutil.rmtree(self._state(name), ignore_errors=True)

    def _state(self, name: str) -> Path:
        return self.folder / f"{name}-state"


TUNED = {
    "dsl.store.suppliers.class": "org.apache.kafka.streams.state.BuiltInDslStoreSuppliers$InMemoryDslStoreSuppliers",
    "producer.linger.ms": "5",
    "producer.batch.size": "262144",
    "producer.buffer.memory": "67108864",
    "consumer.max.poll.records": "4000",
    "consumer.max.partition.fetch.bytes": "4194304",
    "statestore.cache.max.bytes": "104857600",
}
"""What makes Kafka Streams faster in this benchmark: stores in memory, and the batch sizes that headrace has."""


@dataclass(frozen=True)
class QuixProcess:
    """An application of Quix Streams, which needs an environment of its own: ``python`` is that of it."""

    folder: Path
    bootstrap: str
    python: Path

    def start(self, topology: str, name: str, topics: StreamTopics, number: int = 0) -> subprocess.Popen[bytes]:
        program = Path(__file__).parent / "quix_application.py"
        command = [
            str(self.python), str(program), self.bootstrap, name, topology,
            topics.views, topics.clicks, topics.offers, topics.output, str(self._state(name)),
        ]  # fmt: skip
        return _started(command, self.folder / f"{name}.log")

    def group(self, name: str) -> str:
        return name

    def forget(self, name: str) -> None:
        shutil.rmtree(self._state(name), ignore_errors=True)

    def _state(self, name: str) -> Path:
        return self.folder / f"{name}-state"


def _started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)
