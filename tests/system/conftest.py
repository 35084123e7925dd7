"""A worker as a black box: the real command, real engines, YAML files, signals."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
import yaml
from sqlalchemy import make_url

from headrace.embedded.tcp_ports import free_port
from headrace.testing.waiting import eventually
from tests.engines import canaries
from tests.engines.http import HTTP, WORKER_PORTS

HEADRACE = Path(sysconfig.get_path("scripts")) / "headrace"
TIMEOUT = 120.0
"""Seconds until things must have settled; only a failure takes that long."""
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
JAAS = f'{LOGIN} required username="w" password="{canaries.KAFKA_PASSWORD}";'
SECRETS = {"sasl.mechanism": "PLAIN", "sasl.jaas.config": JAAS, "ssl.key.password": canaries.TLS_KEY_PASSWORD}
"""Of a worker whose Kafka needs no login: no connection uses them."""
ANSWERS = ("/", "/health", "/metrics", "/v1/metrics", "/admin/loggers", "/connectors?expand=status&expand=progress")
ANSWERS_OF_CONNECTORS = ("/connectors/{}/topics", "/v1/connectors/{}/records", "/v1/connectors/{}/conditions")
CONFIGURATIONS = re.compile(r"/connectors/[^/]+(/config|/tasks|)$|expand=info")
"""Paths whose answers have what the caller sent, as in Kafka Connect."""
# Commands and workers inherit it.
os.environ[canaries.API_KEY_VARIABLE] = canaries.API_KEY


def command_environment() -> dict[str, str]:
    """Return the environment of a command, which logs in to the workers of a test."""
    return {**os.environ, "COLUMNS": "200", "HEADRACE_TOKEN": canaries.REST_TOKEN}


def command(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command until it ends. Its output must contain no secret."""
    done = subprocess.run(
        [str(HEADRACE), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**command_environment(), **(environment or {})},
        check=False,
    )
    for output in (done.stdout, done.stderr):
        canaries.require_none(f"headrace {arguments[0]}", output)
    return done


@dataclass
class WorkerProcess:
    """``headrace run`` over files in one folder, started and ended as often as a test likes."""

    folder: Path
    bootstrap: str
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    connectors: list[Path] = field(default_factory=list)
    program: Sequence[str | Path] = (HEADRACE,)
    environment: dict[str, str] = field(default_factory=dict)
    """Variables in addition to those of the test."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Return the output on stderr of all starts."""
        return (self.folder / "worker.log").read_text()

    def write(self, name: str, config: Mapping[str, Any]) -> Path:
        """Write a YAML file; files of connectors are run. An Elasticsearch sink gets a key, which no test needs."""
        path = self.folder / f"{name}.yaml"
        if config.get("connector.class") == "ElasticsearchSink":
            config = {"connection.api.key": f"${{env:{canaries.API_KEY_VARIABLE}}}", **config}
        path.write_text(yaml.safe_dump({"name": name, **config}, sort_keys=False))
        if path not in self.connectors:
            self.connectors.append(path)
        return path

    def worker_file(self) -> Path:
        """Write the worker's file, and that of its users: every request to its REST API needs a token."""
        path, users = self.folder / "worker.yaml", self.folder / "users"
        users.write_text(canaries.USERS)
        users.chmod(0o600)
        WORKER_PORTS.add(self.port)
        settings = {
            "bootstrap.servers": self.bootstrap,
            "listeners": self.url,
            "offset.storage.file.filename": str(self.folder / "offsets.jsonl"),
            "rest.users.file": str(users),
            "offset.flush.interval.ms": "200",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
            **({} if "security.protocol" in self.settings else SECRETS),
            **self.settings,
        }
        path.write_text(yaml.safe_dump(settings))
        return path

    def start(self, *, wait: bool = True) -> None:
        """Start; with ``wait`` return when its REST API responds."""
        with (self.folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, self.program), "run", str(self.worker_file()), *map(str, self.connectors)],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        if wait:
            eventually(self.answers, TIMEOUT)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return HTTP.get(self.url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        answer = HTTP.get(self.url + path).raise_for_status()
        if not CONFIGURATIONS.search(path):
            canaries.require_none(f"GET {path}", answer.text)
        return answer.json()

    def task_states(self, name: str) -> list[str]:
        return [task["state"] for task in self.get(f"/connectors/{name}/status")["tasks"]]

    def running(self, name: str) -> bool:
        return self.task_states(name) == ["RUNNING"]

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Send SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def require_balance(self) -> None:
        """Assert that every record that the running tasks have read is accounted for (docs/operating.md)."""
        for name in self.get("/connectors"):
            for task in self.get(f"/v1/connectors/{quote(name, safe='')}/records")["tasks"]:
                assert task["balance"] == 0, (name, task)
                assert [step["balance"] for step in task["steps"]] == [0] * len(task["steps"]), (name, task)
                assert all(partition["balance"] == 0 for partition in task["partitions"]), (name, task)

    def require_no_secret_shown(self) -> None:
        """Assert that answers, arguments and dead letters contain no secret."""
        assert self.process is not None
        names = [quote(name, safe="") for name in self.get("/connectors")]
        for path in (*ANSWERS, *(path.format(name) for name in names for path in ANSWERS_OF_CONNECTORS)):
            canaries.require_none(f"GET {path}", HTTP.get(self.url + path).text)
        canaries.require_none("the process list", Path(f"/proc/{self.process.pid}/cmdline").read_bytes())
        configs = [yaml.safe_load(path.read_text()) for path in self.connectors]
        queues = {config.get("errors.deadletterqueue.topic.name") for config in configs} - {None}
        if queues and HTTP.get(f"{self.url}/health").status_code == 200:  # Kafka responds
            canaries.require_none_in_topics(self.bootstrap, sorted(queues))

    def require_no_secret_written(self) -> None:
        """Assert that the log and the files of the worker contain no secret; not its configuration, which has them."""
        configurations = self.settings.get("config.storage.file.filename")
        for file in self.folder.rglob("*"):
            if file.is_file() and file.suffix != ".yaml" and str(file) != configurations:
                canaries.require_none(str(file), file.read_bytes())

    def stop(self) -> int:
        """Send SIGTERM and return the exit code. A worker that responds must have accounted for every record, and no
        output may contain a secret."""
        assert self.process is not None
        if self.process.poll() is None and self.answers():
            self.require_balance()
            self.require_no_secret_shown()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(TIMEOUT)
        self.require_no_secret_written()
        return code


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Return a function that creates folders of workers; a process that still runs after the test is killed."""
    made: list[WorkerProcess] = []

    def make(bootstrap: str, **settings: str) -> WorkerProcess:
        folder = tmp_path / f"worker-{len(made)}"
        folder.mkdir()
        made.append(
            WorkerProcess(folder, bootstrap, {name.replace("_", "."): value for name, value in settings.items()})
        )
        return made[-1]

    yield make
    for worker in made:
        if worker.process is not None and worker.process.poll() is None:
            worker.kill()
        worker.require_no_secret_written()


def connect(url: str) -> psycopg.Connection[Any]:
    """Connect to a SQLAlchemy URL with autocommit."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def documents(url: str, index: str) -> dict[str, Any]:
    """Return every document of an index by id; empty without an index."""
    if HTTP.post(f"{url}/{index}/_refresh").status_code == 404:
        return {}
    found: dict[str, Any] = {}
    after: list[Any] | None = None
    pit = HTTP.post(f"{url}/{index}/_pit?keep_alive=1m").raise_for_status().json()["id"]
    while True:
        body: dict[str, Any] = {"size": 5000, "pit": {"id": pit}, "sort": ["_shard_doc"]}
        if after:
            body["search_after"] = after
        hits = HTTP.post(f"{url}/_search", json=body).raise_for_status().json()["hits"]["hits"]
        if not hits:
            return found
        found.update({hit["_id"]: hit["_source"] for hit in hits})
        after = hits[-1]["sort"]


class Load:
    """A seeded writer: inserts and updates rows of ``events``, appends to ``journal``, until it is stopped."""

    def __init__(self, url: str, seed: int) -> None:
        self.rows = 0
        self.error: Exception | None = None
        self._random = random.Random(seed)
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        with connect(url) as connection:
            connection.execute(
                "CREATE TABLE events (id bigint PRIMARY KEY, version int NOT NULL, note text,"
                " updated_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
            connection.execute("CREATE INDEX ON events (updated_at, id)")
            connection.execute("CREATE TABLE journal (id bigserial PRIMARY KEY, event bigint NOT NULL, version int)")

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Ask the writer to stop, without waiting for it."""
        self._stop.set()

    def stop(self) -> None:
        self.end()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            with connect(self._url) as connection:
                while not self._stop.wait(0.01):
                    self._turn(connection)
        except Exception as error:  # shown by stop(), on the test's thread
            self.error = error

    def _turn(self, connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            for _ in range(self._random.randint(1, 30)):
                if self.rows and self._random.random() < 0.4:
                    event = self._random.randrange(self.rows)
                    connection.execute(
                        "UPDATE events SET version = version + 1, updated_at = clock_timestamp() WHERE id = %s", [event]
                    )
                else:
                    event = self.rows
                    self.rows += 1
                    note = self._random.choice(["", "ä€𝄞", "x" * 200, None])
                    connection.execute("INSERT INTO events (id, version, note) VALUES (%s, 0, %s)", [event, note])
                connection.execute(
                    "INSERT INTO journal (event, version) SELECT id, version FROM events WHERE id = %s", [event]
                )


@pytest.fixture
def load(request: pytest.FixtureRequest) -> Iterator[Callable[[str, int], Load]]:
    made: list[Load] = []

    def make(url: str, seed: int) -> Load:
        made.append(Load(url, seed))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture(scope="session")
def box() -> Any:
    """The helpers above, for tests that cannot import them (test folders are not packages)."""
    from types import SimpleNamespace

    return SimpleNamespace(
        command=command,
        command_environment=command_environment,
        connect=connect,
        documents=documents,
        free_port=free_port,
        headrace=HEADRACE,
        timeout=TIMEOUT,
        worker_process=WorkerProcess,
        clock=time.monotonic,
    )
