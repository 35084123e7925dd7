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

from headrace.embedded.kafka import Kafka
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


class MeasuredWorker:
    """One worker of the group, as a process."""

    def __init__(self, folder: Path, bootstrap: str, plugins: Path) -> None:
        folder.mkdir()
        self.id = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.id}"
        self._folder, self._plugins = folder, plugins
        settings = {
            "bootstrap.servers": bootstrap,
            "listeners": self.url,
            "group.id": "measured",
            "config.storage.topic": "configs",
            "offset.storage.topic": "offsets",
            "status.storage.topic": "statuses",
            "session.timeout.ms": f"{SESSION * 1000:.0f}",
            "heartbeat.interval.ms": "2000",
            "scheduled.rebalance.max.delay.ms": "0",
        }
        (folder / "worker.yaml").write_text(yaml.safe_dump(settings))

    def start(self) -> tuple[float, float]:
        """Start; return the seconds until REST answers, and until the worker has joined its group."""
        began = time.monotonic()
        with (self._folder / "worker.log").open("ab") as log:
            self.process = psutil.Popen(
                [sys.executable, "-m", "headrace", "run", str(self._folder / "worker.yaml")],
                env={**os.environ, "PYTHONPATH": str(self._plugins)},
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: self._status("/health/live") == 200)
        answered = time.monotonic() - began
        wait_for(lambda: self._status("/health/ready") == 200)
        return answered, time.monotonic() - began

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
            MeasuredWorker(folder / f"worker-{number}", kafka.bootstrap_servers, plugins) for number in range(WORKERS)
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


def _install(folder: Path) -> Path:
    """Write a plugin with its entry point into a folder for PYTHONPATH."""
    info = folder / "headrace_idle-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "headrace_idle.py").write_text(_PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace-idle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headrace.connectors]\nIdleSource = headrace_idle:IdleSourceConnector\n")
    return folder


def _settled(workers: Sequence[MeasuredWorker], tasks: int) -> bool:
    ids = {worker.id for worker in workers}
    owners = workers[0].owners()
    return len(owners) == tasks and set(owners) <= ids


def _spread(shown_by: MeasuredWorker, tasks: int) -> bool:
    owners = shown_by.owners()
    counts = [owners.count(worker) for worker in set(owners)]
    return len(counts) == WORKERS and min(counts) >= tasks // WORKERS


def _memory(workers: Sequence[MeasuredWorker]) -> str:
    sizes = [worker.process.memory_info().rss / (1 << 20) for worker in workers]
    return f"{statistics.median(sizes):.0f} MB per worker"


def _idle(workers: Sequence[MeasuredWorker]) -> str:
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
