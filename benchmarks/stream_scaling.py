"""One and two processes of a stream application, and its restore from the changelog and from checkpoints.

Two processes share the four partitions of the inputs. On a machine whose cores are busy with one process and Kafka,
two of them share these cores: the sum of their CPU time shows what the second one costs, and not what it brings.
"""

from __future__ import annotations

import statistics

from benchmarks.engines import Engines
from benchmarks.report import Line
from benchmarks.stream_processes import TOPOLOGIES, HeadraceProcess
from benchmarks.streams import MOST_KEYS, StreamBenchmark, StreamRun, restore_line

_CLIENT = "confluent"


def stream_scaling(engines: Engines) -> list[Line]:
    """Measure headrace alone: processes, then restores."""
    folder = engines.folder / "stream-scaling"
    folder.mkdir()
    application = HeadraceProcess(folder, engines.bootstrap, _CLIENT)
    benchmark = StreamBenchmark(engines, {})
    benchmark.fill()
    lines = []
    for topology in filter(engines.runs_topology, TOPOLOGIES):
        found: dict[int, list[StreamRun]] = {1: [], 2: []}
        for number in range(engines.rounds):
            for processes in (1, 2) if number % 2 else (2, 1):
                measured = benchmark.run(application, topology, processes)
                found[processes].append(measured)
                engines.say(f"  round {number + 1}  {topology:12} {processes} processes  {measured.text}")
        lines.append(_line(topology, found[1], found[2]))
    keys = min(engines.rows, MOST_KEYS)
    kept = HeadraceProcess(folder, engines.bootstrap, _CLIENT, checkpoints=True)
    for name, restored in (("changelog", application), ("checkpoint", kept)):
        lines.append(restore_line(engines, benchmark, f"headrace, {name}", restored, keys))
    return lines


def _line(topology: str, one: list[StreamRun], two: list[StreamRun]) -> Line:
    ratios = [other.rate / single.rate for single, other in zip(one, two, strict=True)]
    last = [other.last_rate / single.last_rate for single, other in zip(one, two, strict=True)]
    return Line(
        f"{topology}: 2 processes by 1",
        rate=statistics.median(run.rate for run in two),
        limit=statistics.median(run.rate for run in one),
        ratio=statistics.median(ratios),
        cpu_s_per_million=statistics.median(run.cpu_us for run in two),
        peak_rss_mb=max(run.peak_mb for run in two),
        spread=(min(ratios), max(ratios)),
        notes={
            "CPU s/million of one": round(statistics.median(run.cpu_us for run in one), 1),
            "peak MB of one": round(max(run.peak_mb for run in one)),
            "ratio in the last fifth": round(statistics.median(last), 2),
        },
    )
