"""Stream applications: headrace, Kafka Streams and Quix Streams over the same topics, exactly once.

Each application is a process that is started for one run. It is measured from its start (*cold*) to the commit of the
last input, and again over the last fifth of the inputs, when the JVM has compiled most of its code. Progress is the
group's committed offsets, so nothing is counted that could be undone. CPU time and peak memory are those of the whole
process, with its start.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import psutil

from benchmarks.competitors import peak_mb
from benchmarks.engines import CLIENTS, Engines
from benchmarks.report import Line
from benchmarks.stream_processes import (
    COUNT,
    ENRICHMENT,
    LEFT_JOIN,
    TOPOLOGIES,
    TUNED,
    HeadraceProcess,
    KafkaStreamsProcess,
    QuixProcess,
    StreamProcess,
    StreamTopics,
)
from headrace.broker.client_choice import choose
from headrace.broker.interfaces import NewTopic
from headrace.records import EncodedBatch

PARTITIONS = 4
OFFERS = 1_000
STEP = 20
"""Milliseconds of event time between two views: a join within an hour keeps 180,000 of them open."""
START = 1_790_000_000_000
OURS = "headrace, confluent"
_POLL = 0.05
_TIMEOUT = 300.0
_SLOWEST = 1_000
"""Records per second below which a run is given up."""
MOST_KEYS = 1_000_000
"""Keys whose state is restored."""
_CHUNK = 20_000


@dataclass(frozen=True)
class StreamRun:
    """One run of an application."""

    seconds: float
    first_output: float
    cpu: float
    peak_mb: float
    records: int
    last_fifth: tuple[int, float, float]
    """Records, seconds and CPU seconds."""

    @property
    def text(self) -> str:
        return (
            f"{self.rate:>8,.0f}/s, last fifth {self.last_rate:>8,.0f}/s; CPU {self.cpu_us:.1f} us, last fifth "
            f"{self.last_cpu_us:.1f} us; first output {self.first_output:.1f} s; {self.peak_mb:.0f} MB"
        )

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of a record in microseconds, the start of the process included."""
        return self.cpu / self.records * 1e6

    @property
    def last_rate(self) -> float:
        return self.last_fifth[0] / self.last_fifth[1] if self.last_fifth[1] else 0.0

    @property
    def last_cpu_us(self) -> float:
        return self.last_fifth[2] / self.last_fifth[0] * 1e6 if self.last_fifth[0] else 0.0


class StreamBenchmark:
    """The topics and the applications of one run of the benchmarks."""

    def __init__(self, engines: Engines, applications: Mapping[str, StreamProcess] | None = None) -> None:
        """``applications``: in place of all that are compared."""
        self._engines = engines
        # Of this client, which does not wait for the end of open transactions.
        self._groups = choose("kafka-python").open({"bootstrap.servers": engines.bootstrap}).admin({})
        self._admin = choose("confluent").open({"bootstrap.servers": engines.bootstrap}).admin({})
        self.applications = dict(applications) if applications is not None else competing_applications(engines)
        self.topics = {name: f"{engines.name()}-{name}" for name in ("keyed", "shown", "clicks", "offers")}

    def fill(self) -> None:
        """Write the inputs of the topologies: views by offer, or by view with a click for each tenth, and offers."""
        for topic in self.topics.values():
            self._make(topic)
        offers: list[dict[str, Any]] = [
            {"offer_id": f"o{n}", "country": "DE", "cpi": n % 90 / 10, "loi": n % 20 + 1} for n in range(OFFERS)
        ]
        self._write("offers", ((offer["offer_id"], offer, START) for offer in offers))
        rows = range(self._engines.rows)
        if any(map(self._engines.runs_topology, (ENRICHMENT, COUNT))):
            self._write("keyed", ((row["offer_id"], row, row["shown_at"]) for row in map(view, rows)))
        if self._engines.runs_topology(LEFT_JOIN):
            self._write("shown", ((row["view_id"], row, row["shown_at"]) for row in map(view, rows)))
            self._write("clicks", ((row["view_id"], row, row["clicked_at"]) for row in map(click, rows[::10])))

    def run(self, application: StreamProcess, topology: str, processes: int = 1) -> StreamRun:
        """Run an application from its start to the commit of the last input."""
        name, output = self._engines.name(), self._engines.name()
        self._make(output)
        inputs = [self.topics["keyed" if topology != LEFT_JOIN else "shown"]]
        topics = StreamTopics(inputs[0], self.topics["clicks"], self.topics["offers"], output)
        if topology == LEFT_JOIN:
            inputs.append(topics.clicks)
        ends = self._admin.end_offsets(inputs)
        records = sum(ends.values())
        began = time.perf_counter()
        started = [application.start(topology, name, topics, number) for number in range(processes)]
        try:
            return self._watched(started, application.group(name), inputs, output, records, began)
        finally:
            for process in started:
                stop(process)
            application.forget(name)

    def restore(self, application: StreamProcess, keys: int) -> tuple[float, float]:
        """Return the seconds from a start to the first commit of an application whose state has ``keys`` keys and is
        in its changelog only, and those of an application without state."""
        name, output, views = (self._engines.name() for _ in range(3))
        self._make(output)
        self._make(views)
        topics = StreamTopics(views, self.topics["clicks"], self.topics["offers"], output)
        seconds = []
        for count in (1, keys):
            # All in one window, which stays open.
            self._write_to(views, ((f"o{n}", view_of(f"o{n}", START), START) for n in range(count)))
            self._started_and_processed(application, name, topics)
            application.forget(name)
            self._write_to(views, [("o0", view_of("o0", START), START)])
            seconds.append(self._started_and_processed(application, name, topics))
        return seconds[1], seconds[0]

    def _started_and_processed(self, application: StreamProcess, name: str, topics: StreamTopics) -> float:
        began = time.perf_counter()
        process = application.start(COUNT, name, topics)
        group = application.group(name)
        ends = self._admin.end_offsets([topics.views])
        try:
            while self._committed(group, [topics.views]) < sum(ends.values()):
                require_alive(process, began, _TIMEOUT)
                time.sleep(_POLL)
            return time.perf_counter() - began
        finally:
            stop(process)

    def _watched(
        self,
        processes: Sequence[subprocess.Popen[bytes]],
        group: str,
        inputs: Sequence[str],
        output: str,
        records: int,
        began: float,
    ) -> StreamRun:
        watched = [psutil.Process(process.pid) for process in processes]
        first_output, mark = 0.0, (0, began, 0.0)
        while True:
            for process in processes:
                require_alive(process, began, max(_TIMEOUT, records / _SLOWEST))
            done, now = self._committed(group, inputs), time.perf_counter()
            spent = sum(map(cpu_time, watched))
            if not first_output and any(self._admin.end_offsets([output]).values()):
                first_output = now - began
            if done * 5 <= records * 4:
                mark = done, now, spent
            if done >= records:
                last = records - mark[0], now - mark[1], spent - mark[2]
                return StreamRun(now - began, first_output, spent, sum(map(peak_mb, watched)), records, last)
            time.sleep(_POLL)

    def _committed(self, group: str, topics: Sequence[str]) -> int:
        """Return the sum of the group's committed offsets; transactions that are open do not delay the answer."""
        committed = self._groups.committed(group)
        return sum(offset for place, offset in committed.items() if place.topic in topics)

    def _make(self, topic: str) -> None:
        self._admin.create_topics([NewTopic(topic, PARTITIONS, 1, {"retention.ms": "-1"})])

    def _write(self, name: str, rows: Iterable[tuple[str, Mapping[str, Any], int]]) -> None:
        self._write_to(self.topics[name], rows)

    def _write_to(self, topic: str, rows: Iterable[tuple[str, Mapping[str, Any], int]]) -> None:
        producer = choose("confluent").open({"bootstrap.servers": self._engines.bootstrap}).producer({})
        rest = iter(rows)
        while chunk := list(itertools.islice(rest, _CHUNK)):
            keys, values, times = zip(*chunk, strict=True)
            batch = EncodedBatch(topic, list(map(orjson.dumps, values)), list(map(orjson.dumps, keys)), list(times))
            delivery = producer.send(batch)
            if not producer.flush(60) or delivery.error() is not None:
                raise RuntimeError(f"cannot write to {topic}: {delivery.error()}")
        producer.close(5)


def competing_applications(engines: Engines) -> dict[str, StreamProcess]:
    """Return headrace with each client, Kafka Streams, which needs ``javac``, and Quix Streams if there is one."""
    folder = engines.folder / "streams"
    folder.mkdir(exist_ok=True)
    plain = KafkaStreamsProcess(folder, engines.bootstrap)
    title = f"Kafka Streams {engines.stack.kafka.version}"
    found: dict[str, StreamProcess] = {
        **{f"headrace, {client}": HeadraceProcess(folder, engines.bootstrap, client) for client in CLIENTS},
        title: plain,
        f"{title}, tuned": KafkaStreamsProcess(folder, engines.bootstrap, TUNED),
    }
    if engines.quix is not None:
        found["Quix Streams"] = QuixProcess(folder, engines.bootstrap, engines.quix)
    wanted = {name: item for name, item in found.items() if name == OURS or engines.compares(name)}
    if any(name.startswith(title) for name in wanted):
        plain.compile()
    return wanted


def view(number: int) -> dict[str, Any]:
    return {"view_id": f"v{number}", **view_of(f"o{number * 7919 % OFFERS}", START + number * STEP)}


def view_of(offer: str, moment: int) -> dict[str, Any]:
    """Return a view of about 150 bytes as JSON."""
    columns = {"country": "DE", "device": "phone", "position": moment % 10, "campaign": "autumn-2026", "user_id": "u17"}
    return {"offer_id": offer, "shown_at": moment, **columns}


def click(number: int) -> dict[str, Any]:
    """Return a click 10 s after the view with this number."""
    return {"view_id": f"v{number}", "clicked_at": START + number * STEP + 10_000}


def cpu_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def require_alive(process: subprocess.Popen[bytes], began: float, timeout: float) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"{process.args!r} has ended with exit code {process.returncode}")
    if time.perf_counter() - began > timeout:
        raise RuntimeError(f"{process.args!r} has not processed its inputs within {timeout:.0f} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the process: an orderly stop would write local state, and take the time of the next run."""
    process.kill()
    process.wait()


def streams(engines: Engines) -> list[Line]:
    """Measure each topology with each application, and the restore of state."""
    benchmark = StreamBenchmark(engines)
    if engines.quix is None:
        engines.say("  Quix Streams: no --quix, not measured")
    benchmark.fill()
    lines: list[Line] = []
    for topology in filter(engines.runs_topology, TOPOLOGIES):
        found: dict[str, list[StreamRun]] = {name: [] for name in benchmark.applications}
        for number in range(engines.rounds):
            order = list(found) if number % 2 else list(found)[::-1]
            for name in order:
                measured = benchmark.run(benchmark.applications[name], topology)
                found[name].append(measured)
                engines.say(f"  round {number + 1}  {topology:12} {name:28} {measured.text}")
        lines += [_line(topology, name, found[OURS], runs) for name, runs in found.items() if name != OURS]
    keys = min(engines.rows, MOST_KEYS)
    restored = benchmark.applications if engines.runs_topology(COUNT) else {}  # whose state it is
    for name, application in restored.items():
        if "tuned" in name or name == "Quix Streams":
            continue
        lines.append(restore_line(engines, benchmark, name, application, keys))
    return lines


def restore_line(
    engines: Engines, benchmark: StreamBenchmark, name: str, application: StreamProcess, keys: int
) -> Line:
    """Measure the restore of an application's state."""
    with_state, without = benchmark.restore(application, keys)
    engines.say(f"  restore of {keys:,} keys  {name:28} {with_state:.1f} s, start without state {without:.1f} s")
    notes = {"start with restore in s": round(with_state, 1), "start without state in s": round(without, 1)}
    return Line(f"restore of {keys:,} keys: {name}", rate=keys / max(with_state - without, 0.1), notes=notes)


def _line(topology: str, name: str, ours: Sequence[StreamRun], theirs: Sequence[StreamRun]) -> Line:
    def middle(runs: Sequence[StreamRun], figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in runs))

    ratios = [mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True)]
    last = [mine.last_rate / other.last_rate for mine, other in zip(ours, theirs, strict=True)]
    return Line(
        f"{topology}, cold : {name}",
        rate=middle(ours, "rate"),
        limit=middle(theirs, "rate"),
        ratio=statistics.median(ratios),
        cpu_s_per_million=middle(ours, "cpu_us"),
        peak_rss_mb=max(run.peak_mb for run in ours),
        spread=(min(ratios), max(ratios)),
        notes={
            "limit's CPU s/million": round(middle(theirs, "cpu_us"), 1),
            "limit's peak MB": round(max(run.peak_mb for run in theirs)),
            "ratio in the last fifth": round(statistics.median(last), 2),
            "CPU in the last fifth": round(middle(ours, "last_cpu_us"), 1),
            "limit's": round(middle(theirs, "last_cpu_us"), 1),
            "first output after s": round(middle(ours, "first_output"), 1),
            "limit's first after s": round(middle(theirs, "first_output"), 1),
        },
    )
