"""The cost of a whole worker: startup, idling, many tables, many tasks, and the time from a commit to a search hit.

The worker is ``headrace run``. CPU time and memory are those of its process.
"""

from __future__ import annotations

import math
import socket
import statistics
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.engines import CLIENTS, Engines
from benchmarks.framework import CONVERTERS
from benchmarks.paths import source_config
from benchmarks.report import Line

_TIMEOUT = 300.0
"""Seconds until a wait fails."""
_POLL = 0.02
"""Seconds between two checks of a condition."""
_SETTLE = 3.0
"""Seconds before the idle worker is measured."""


class WorkerProcess:
    """``headrace run`` with some connectors, in a process of its own."""

    def __init__(self, engines: Engines, connectors: Sequence[Mapping[str, str]], client: str = CLIENTS[0]) -> None:
        folder = engines.folder / engines.name()
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        settings = {
            "bootstrap.servers": engines.bootstrap,
            "kafka.client": client,
            "listeners": self.url,
            "offset.storage.file.filename": str(folder / "offsets.jsonl"),
            **CONVERTERS,
        }
        files = [self._write(folder / "worker.yaml", settings)]
        files += [self._write(folder / f"{item['name']}.yaml", item) for item in connectors]
        self._names = [item["name"] for item in connectors]
        began = time.perf_counter()
        self._log = (folder / "worker.log").open("wb")
        program = Path(sysconfig.get_path("scripts")) / "headrace"
        self._process = subprocess.Popen([str(program), "run", *map(str, files)], stdout=self._log, stderr=self._log)
        self.process = psutil.Process(self._process.pid)
        self._wait(lambda: self._get("/health") is not None)
        self.started_s = time.perf_counter() - began
        self._wait(self._all_running)
        self.running_s = time.perf_counter() - began

    @staticmethod
    def _write(path: Path, content: Mapping[str, str]) -> Path:
        path.write_text(yaml.safe_dump(dict(content)))
        return path

    def _get(self, path: str) -> Any:
        try:
            answer = httpx.get(self.url + path, timeout=30)
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def _all_running(self) -> bool:
        statuses = self._get("/connectors?expand=status") or {}
        tasks = [task["state"] for item in statuses.values() for task in item["status"]["tasks"]]
        if "FAILED" in tasks:
            raise RuntimeError(f"a task failed: {statuses}")
        return set(statuses) >= set(self._names) and len(tasks) >= len(self._names) and set(tasks) <= {"RUNNING"}

    def count(self, counter: str) -> int:
        """Return the sum of a counter over all tasks."""
        answer = self._get("/v1/metrics") or {"tasks": []}
        return sum(task["metrics"].get(counter, 0) for task in answer["tasks"])

    def cpu(self) -> float:
        """Return the CPU time so far in seconds."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        return float(self.process.memory_info().rss) / 2**20

    def idle(self, seconds: float) -> float:
        """Return the CPU time of an idle worker, in percent of one core."""
        before, began = self.cpu(), time.perf_counter()
        threading.Event().wait(seconds)
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker has ended: {Path(self._log.name).read_text()[-3000:]}")
        return (self.cpu() - before) / (time.perf_counter() - began) * 100

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker is not ready: {Path(self._log.name).read_text()[-3000:]}")
            time.sleep(_POLL)

    def wait_for(self, counter: str, count: int) -> None:
        """Wait until the sum of a counter over all tasks is ``count``."""
        self._wait(lambda: self.count(counter) >= count)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextmanager
def running(
    engines: Engines, connectors: Sequence[Mapping[str, str]], client: str = CLIENTS[0]
) -> Iterator[WorkerProcess]:
    """Run a worker until the block ends."""
    worker = WorkerProcess(engines, connectors, client)
    try:
        yield worker
    finally:
        worker.stop()


def idle(engines: Engines) -> list[Line]:
    """Measure startup and idling with 0, 2 and 50 connectors."""
    engines.make_table("quiet", 1_000)
    seconds = 10.0 if engines.quick else 15.0
    lines = []
    for client in CLIENTS:
        for pairs, what in ((0, "0 connectors"), (1, "1 SQL source and 1 sink"), (25, "25 SQL sources and 25 sinks")):
            connectors = [item for _ in range(pairs) for item in _pair(engines)]
            with running(engines, connectors, client) as worker:
                if pairs:
                    worker.wait_for("sink_record_send_total", pairs * 1_000)
                threading.Event().wait(_SETTLE)
                percent = worker.idle(seconds)
                engines.say(f"  {what}, {client}: {percent:.1f} % of a core, {worker.rss_mb():.0f} MB")
                notes = {
                    "REST answers after s": round(worker.started_s, 2),
                    "all RUNNING after s": round(worker.running_s, 2),
                    "idle % of a core": round(percent, 2),
                }
                lines.append(Line(f"worker, {what}, {client}", peak_rss_mb=worker.rss_mb(), notes=notes))
    return lines


def _pair(engines: Engines) -> list[dict[str, str]]:
    """Return the configurations of a source without new rows, and of a sink for its topic."""
    source, sink = engines.name(), engines.name()
    engines.make_topic(f"{source}.quiet")
    engines.make_index(sink)
    return [
        source_config(engines, source, "quiet", engines.database),
        {
            "name": sink,
            "connector.class": "ElasticsearchSink",
            "connection.url": engines.search,
            "topics": f"{source}.quiet",
            "key.ignore": "false",
            "external.resource.usage": "INDEX",
            "topic.to.external.resource.mapping": f"{source}.quiet:{sink}",
        },
    ]


def end_to_end(engines: Engines) -> list[Line]:
    """Measure the time from the commit of a row to the search that finds it, row by row, in an otherwise idle worker.

    The source polls every 100 ms and the index is refreshed every 100 ms: half of each is part of the median.
    """
    lines = []
    for client in CLIENTS:
        table = f"live_{client.replace('-', '_')}"
        engines.make_table(table, 1)
        index = engines.name()
        engines.make_index(index, refresh_interval="100ms")
        source = source_config(engines, engines.name(), table, engines.database) | {"poll.interval.ms": "100"}
        topic = f"{source['topic.prefix']}{table}"
        engines.make_topic(topic)
        sink = {
            "name": engines.name(),
            "connector.class": "ElasticsearchSink",
            "connection.url": engines.search,
            "topics": topic,
            "key.ignore": "false",
            "external.resource.usage": "INDEX",
            "topic.to.external.resource.mapping": f"{topic}:{index}",
        }
        with running(engines, [source, sink], client) as worker, httpx.Client(timeout=30) as search:
            worker.wait_for("sink_record_send_total", 1)
            times = [
                _searchable(engines, search, table, index, number) * 1000
                for number in range(2, 22 if engines.quick else 102)
            ]
            notes = {
                "p50 ms": round(statistics.median(times)),
                "p99 ms": round(sorted(times)[math.ceil(len(times) * 0.99) - 1]),
                "rows": len(times),
            }
            engines.say(f"  {client}: {notes}")
            lines.append(Line(f"row committed → searchable, {client}", peak_rss_mb=worker.rss_mb(), notes=notes))
    return lines


def _searchable(engines: Engines, search: httpx.Client, table: str, index: str, number: int) -> float:
    columns = "name, email, amount, active, placed_at, note"
    insert = f"INSERT INTO {table} SELECT %s, {columns} FROM {table} WHERE id = 1"
    engines.connection.execute(insert.encode(), [number])
    began = time.perf_counter()
    query = {"query": {"term": {"id": number}}, "size": 0, "track_total_hits": True}
    while True:
        found = search.post(f"{engines.search}/{index}/_search", json=query).raise_for_status().json()
        if found["hits"]["total"]["value"]:
            return time.perf_counter() - began
        if time.perf_counter() - began > _TIMEOUT:
            raise RuntimeError(f"row {number} is not searchable")


def tables(engines: Engines) -> list[Line]:
    """Measure one task with the same rows in 1, 10, 100 and 500 tables: throughput, and CPU time of idle polls."""
    lines = []
    base: float | None = None
    for count in (1, 10, 100) if engines.quick else (1, 10, 100, 500):
        each = engines.rows // count
        names = [f"many{count}_{number}" for number in range(count)]
        for name in names:
            engines.make_table(name, each)
        config = source_config(engines, engines.name(), ",".join(names), engines.database)
        line = _moved(engines, [config | {"poll.interval.ms": "5000"}], each * count, f"{count} tables, 1 task", base)
        base = base or line.rate
        lines.append(line)
        for name in names:
            engines.connection.execute(f"DROP TABLE {name}".encode())
    return lines


def tasks(engines: Engines) -> list[Line]:
    """Measure 1, 2 and 4 tasks of one worker with the same four tables."""
    names = [f"task_{number}" for number in range(4)]
    for name in names:
        engines.make_table(name, engines.rows // 4)
    lines = []
    base: float | None = None
    for count in (1, 2, 4):
        config = source_config(engines, engines.name(), ",".join(names), engines.database)
        line = _moved(engines, [config | {"tasks.max": str(count)}], engines.rows, f"4 tables, {count} tasks", base)
        base = base or line.rate
        lines.append(line)
    return lines


def _moved(engines: Engines, connectors: Sequence[Mapping[str, str]], rows: int, what: str, base: float | None) -> Line:
    """Measure one run from RUNNING to the last record, then idling. ``base`` is the rate of the first line."""
    began = time.perf_counter()
    with running(engines, connectors) as worker:
        cpu, started = worker.cpu(), began + worker.running_s
        worker.wait_for("source_record_write_total", rows)
        seconds, spent = time.perf_counter() - started, worker.cpu() - cpu
        peak = worker.rss_mb()
        threading.Event().wait(_SETTLE)
        percent = worker.idle(10.0)  # two polls of all tables
        rate = rows / seconds
        engines.say(f"  {what}: {rate:,.0f}/s, idle {percent:.1f} % of a core")
        return Line(
            f"PostgreSQL → Kafka, {what}" + (" : first of these" if base else ""),
            rate=rate,
            limit=base,
            ratio=rate / base if base else None,
            cpu_s_per_million=spent / rows * 1e6,
            peak_rss_mb=peak,
            notes={"idle % of a core": round(percent, 2), "all RUNNING after s": round(worker.running_s, 2)},
        )
