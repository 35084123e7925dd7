"""Measure a real worker group: ``python -m benchmarks.groups live``.

3 workers, 60 connectors and 200 tasks that have nothing to do, on an embedded Kafka: what the control plane costs, and
how long its changes take. ``--connectors 600 --tasks 2000`` for larger ones.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.kafka_connect import JVM, LOCK
from headrace.embedded.artifacts import locked
from headrace.embedded.jars import fetch
from headrace.embedded.kafka import Kafka
from headrace.embedded.optional_dependencies import java
from headrace.embedded.tcp_ports import free_port

WORKERS = 3
SESSION = 6.0
_TIMEOUT = 300.0
_IDLE = 20.0
_REQUESTS = 5.0
_PLUGIN = """
from headrace import ConfigModel, SourceConnector, SourceTask, Wait


class IdleTask(SourceTask):
    def start(self, context):
        pass

    def poll(self):
        return Wait(1.0)

    def stop(self):
        pass


class IdleSourceConnector(SourceConnector):
    config_model = ConfigModel
    task_class = IdleTask

    def task_configs(self, properties, max_tasks):
        return [dict(properties) for _ in range(max_tasks)]
"""


class MemberProcess:
    """One worker of a group, as a process."""

    probes = ("/health/live", "/health/ready")
    """Paths that answer 200 when REST answers, and when the worker has joined its group."""

    def __init__(self, folder: Path, bootstrap: str, group: str) -> None:
        folder.mkdir()
        self.id = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.id}"
        self.folder = folder
        self.settings = {
            "bootstrap.servers": bootstrap,
            "listeners": self.url,
            "group.id": group,
            "config.storage.topic": f"{group}-configs",
            "offset.storage.topic": f"{group}-offsets",
            "status.storage.topic": f"{group}-statuses",
            "session.timeout.ms": f"{SESSION * 1000:.0f}",
            "heartbeat.interval.ms": "2000",
            "scheduled.rebalance.max.delay.ms": "0",
        }

    def command(self) -> list[str]:
        """Return the command that runs the worker; write its files."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> tuple[float, float]:
        """Start; return the seconds until REST answers, and until the worker has joined its group."""
        command, environment = self.command(), self.environment()
        began = time.monotonic()
        with (self.folder / "worker.log").open("ab") as log:
            self.process = psutil.Popen(command, env=environment, stdout=log, stderr=log)
        found = []
        for path in self.probes:
            wait_for(lambda path=path: self._status(path) == 200)  # type: ignore[misc]
            found.append(time.monotonic() - began)
        return found[0], found[1]

    def _status(self, path: str) -> int:
        try:
            return httpx.get(self.url + path, timeout=10).status_code
        except httpx.TransportError:
            return 0

    def owners(self) -> list[str]:
        """Return the worker of each RUNNING task."""
        answer = httpx.get(f"{self.url}/connectors?expand=status", timeout=60)
        if answer.status_code != 200:
            return []
        return [
            task["worker_id"]
            for item in answer.json().values()
            for task in item["status"]["tasks"]
            if task["state"] == "RUNNING"
        ]


class HeadraceMember(MemberProcess):
    """A worker of headrace, with the plugin."""

    def __init__(self, folder: Path, bootstrap: str, group: str, plugins: Path) -> None:
        super().__init__(folder, bootstrap, group)
        self._plugins = plugins

    def command(self) -> list[str]:
        (self.folder / "worker.yaml").write_text(yaml.safe_dump(self.settings))
        return [sys.executable, "-m", "headrace", "run", str(self.folder / "worker.yaml")]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(self._plugins), os.environ.get("PYTHONPATH", "")])}


class ConnectMember(MemberProcess):
    """A distributed worker of Kafka Connect on the JVM, without plugins."""

    probes = ("/", "/health")

    def command(self) -> list[str]:
        (self.folder / "plugins").mkdir()
        settings = {
            **self.settings,
            "plugin.path": str(self.folder / "plugins"),
            **{f"{side}.converter": "org.apache.kafka.connect.json.JsonConverter" for side in ("key", "value")},
            **{f"{topic}.storage.replication.factor": "1" for topic in ("config", "offset", "status")},
        }
        (self.folder / "worker.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        jars = fetch(locked("connect", LOCK).jars)
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        return [java(), *JVM, "-cp", os.pathsep.join(map(str, jars)), main, str(self.folder / "worker.properties")]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the group does not settle")
        time.sleep(0.02)


def measure(connectors: int, tasks: int) -> Iterator[tuple[str, str]]:
    """Yield each figure with its name."""
    with ExitStack() as stop:
        folder = Path(stop.enter_context(tempfile.TemporaryDirectory(prefix="headrace-groups-")))
        kafka = Kafka(folder / "kafka", settings={"group.min.session.timeout.ms": "500"})
        kafka.start()
        stop.callback(kafka.stop)
        plugins = _install(folder / "plugins")
        workers = [
            HeadraceMember(folder / f"worker-{number}", kafka.bootstrap_servers, "headrace", plugins)
            for number in range(WORKERS)
        ]
        starts = []
        for worker in workers:
            starts.append(worker.start())
            stop.callback(_kill, worker.process)
        yield "start until REST answers", _seconds(statistics.median(answered for answered, _ in starts))
        yield "start until the group is joined", _seconds(statistics.median(joined for _, joined in starts))
        yield "memory without connectors", _memory(workers)
        first = workers[0]
        began = time.monotonic()
        with httpx.Client(base_url=first.url, timeout=60) as client:
            for number in range(connectors):
                share = tasks // connectors + (number < tasks % connectors)
                config = {"connector.class": "IdleSource", "tasks.max": str(share)}
                client.post("/connectors", json={"name": f"idle-{number}", "config": config}).raise_for_status()
        created = time.monotonic() - began
        wait_for(lambda: len(first.owners()) == tasks)
        yield f"{connectors} connectors created, one request each", _seconds(created)
        yield "until all tasks run", _seconds(time.monotonic() - began)
        yield "memory", _memory(workers)
        yield f"CPU without work, {_IDLE:g} s", _idle(workers)
        for name, path in (
            ("GET /connectors/NAME/status", "/connectors/idle-0/status"),
            ("GET /connectors?expand=status", "/connectors?expand=status"),
        ):
            yield f"{name}, one client", f"{_rate(workers[1].url + path):.0f} requests/s"
        with _timed() as seconds:
            workers[2].process.terminate()
            wait_for(lambda: _settled(workers[:2], tasks))
        yield "SIGTERM of a worker until all tasks run", _seconds(seconds())
        with _timed() as seconds:
            workers[2].start()
            wait_for(lambda: _settled(workers, tasks) and _spread(first, tasks))
        yield "start of a worker until it has its share", _seconds(seconds())
        with _timed() as seconds:
            workers[2].process.kill()
            wait_for(lambda: _settled(workers[:2], tasks))
        yield f"kill -9 until all tasks run (session {SESSION:g} s, no delay)", _seconds(seconds())
        for worker in workers:
            _kill(worker.process)
        connect = ConnectMember(folder / "connect", kafka.bootstrap_servers, "connect")
        answered, joined = connect.start()
        yield "Kafka Connect: start until REST answers", _seconds(answered)
        yield "Kafka Connect: start until the group is joined", _seconds(joined)
        yield "Kafka Connect: memory without connectors", _memory([connect])
        _kill(connect.process)


def _install(folder: Path) -> Path:
    """Write a plugin with its entry point into a folder for PYTHONPATH."""
    info = folder / "headrace_idle-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "headrace_idle.py").write_text(_PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace-idle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headrace.connectors]\nIdleSource = headrace_idle:IdleSourceConnector\n")
    return folder


def _settled(workers: Sequence[MemberProcess], tasks: int) -> bool:
    ids = {worker.id for worker in workers}
    owners = workers[0].owners()
    return len(owners) == tasks and set(owners) <= ids


def _spread(shown_by: MemberProcess, tasks: int) -> bool:
    owners = shown_by.owners()
    counts = [owners.count(worker) for worker in set(owners)]
    return len(counts) == WORKERS and min(counts) >= tasks // WORKERS


def _memory(workers: Sequence[MemberProcess]) -> str:
    sizes = [worker.process.memory_info().rss / (1 << 20) for worker in workers]
    return f"{statistics.median(sizes):.0f} MB per worker"


def _idle(workers: Sequence[MemberProcess]) -> str:
    def used() -> list[float]:
        return [sum(worker.process.cpu_times()[:2]) for worker in workers]

    before = used()
    time.sleep(_IDLE)
    shares = [(after - start) / _IDLE * 100 for start, after in zip(before, used(), strict=True)]
    return f"{statistics.median(shares):.1f} % of a core per worker"


def _rate(url: str) -> float:
    count, began = 0, time.monotonic()
    with httpx.Client(timeout=60) as client:
        while time.monotonic() - began < _REQUESTS:
            client.get(url).raise_for_status()
            count += 1
    return count / (time.monotonic() - began)


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    began = time.monotonic()
    ended: list[float] = []
    yield lambda: ended[0] - began
    ended.append(time.monotonic())


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _kill(process: Any) -> None:
    try:
        process.kill()
        process.wait(10)
    except (psutil.NoSuchProcess, subprocess.TimeoutExpired):
        pass  # it has ended


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.groups live")
    parser.add_argument("--connectors", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=200)
    options = parser.parse_args(arguments)
    print(f"{WORKERS} workers, {options.connectors} connectors, {options.tasks} tasks without work")
    for name, figure in measure(options.connectors, options.tasks):
        print(f"{name:<62} {figure}", flush=True)
    return 0
