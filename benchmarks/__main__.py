"""``make bench``: measure every path and its limit in one run on this machine.

    python -m benchmarks [NAME…] [--quick] [--rows N] [--rounds N] [--apart] [--compare build/bench.json]

Real PostgreSQL, Kafka and Elasticsearch (embedded). Each runner is a process of its own, so CPU time and memory are
its own. The runners of a path take turns, in an order that alternates from round to round. Rates are measured from
the first record and do not include connecting; a figure is the median of its rounds. With --apart the engines have
one core and each runner another, so that a runner takes no CPU time from the engine that it waits for.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from benchmarks import bad_documents, deletes, paths, shapes, stream_scaling, streams, versions, worker
from benchmarks.competitors import competitors
from benchmarks.engines import Engines
from benchmarks.report import Line, compare, machine, read, show, write
from benchmarks.stream_processes import TOPOLOGIES

RESULTS = Path("build/bench.json")
SUITE = {
    "noise": paths.noise,
    "postgres-kafka": paths.postgres_kafka,
    "kafka-elasticsearch": paths.kafka_elasticsearch,
    "shapes": shapes.shapes,
    "bad-documents": bad_documents.bad_documents,
    "sqlite-kafka": paths.sqlite_kafka,
    "sizes": paths.sizes,
    "snapshot": paths.snapshot,
    "deletes": deletes.deletes,
    "end-to-end": worker.end_to_end,
    "tables": worker.tables,
    "tasks": worker.tasks,
    "worker": worker.idle,
}

OPTIONAL = {
    "competitors": competitors,
    "streams": streams.streams,
    "stream-scaling": stream_scaling.stream_scaling,
    "versions": versions.versions,
}
"""Run by name only: they need something to compare with, which they download or are given."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(SUITE)}; all of these when left out, or {', '.join(OPTIONAL)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds: half the time")
    parser.add_argument("--rows", type=int, help="rows and documents of each run")
    parser.add_argument("--rounds", type=int, help="rounds that count")
    parser.add_argument("--apart", action="store_true", help="engines on one core, each runner on another (Linux)")
    parser.add_argument("--compare", type=Path, metavar="JSON", help="an earlier build/bench.json to compare with")
    parser.add_argument("--plugins", type=Path, metavar="FOLDER", help="connectors for Kafka Connect (competitors)")
    parser.add_argument("--quix", type=Path, metavar="PYTHON", help="a Python with Quix Streams (streams)")
    parser.add_argument(
        "--applications",
        default="",
        metavar="NAMES",
        help="parts of names, separated by commas: what to compare headrace, confluent with (streams)",
    )
    parser.add_argument(
        "--topologies",
        default="",
        metavar="NAMES",
        help=f"of {', '.join(TOPOLOGIES)}, separated by commas (streams, stream-scaling)",
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout with its .venv (versions)")
    options = parser.parse_args()
    known = {**SUITE, **OPTIONAL}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"unknown benchmark: {', '.join(unknown)}; choose from {', '.join(known)}")
    topologies = _parts(options.topologies)
    if unknown := [name for name in topologies if name not in TOPOLOGIES]:
        parser.error(f"unknown topology: {', '.join(unknown)}; choose from {', '.join(TOPOLOGIES)}")
    if options.plugins and not options.plugins.is_dir():
        parser.error(f"--plugins: {options.plugins} is not a folder")
    earlier = read(options.compare) if options.compare else None  # before it is overwritten
    logging.disable(logging.WARNING)
    rows = options.rows or (50_000 if options.quick else 150_000)
    rounds = options.rounds or (2 if options.quick else 3)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        _say("starting PostgreSQL, Kafka, Elasticsearch")
        with Engines(
            Path(name),
            rows=rows,
            rounds=rounds,
            quick=options.quick,
            say=_say,
            plugins=options.plugins,
            quix=options.quix,
            against=options.against and options.against.absolute(),
            apart=options.apart,
            applications=_parts(options.applications),
            topologies=topologies,
        ) as engines:
            description = [*machine(apart=options.apart), *engines.versions()]
            for path in options.names or SUITE:
                _say(f"{path} …")
                lines += known[path](engines)
    write(RESULTS, description, lines)
    print(show(description, lines))
    if earlier is not None:
        print(compare(earlier, lines))
    _say(f"written to {RESULTS}")
    return 0


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
