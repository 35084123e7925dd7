"""Write a topic in which one document in a hundred is bad; exactly these must be in the dead letter queue.

    python -m benchmarks bad-documents
    python -m benchmarks.bad_documents [--documents 1000000]

Real Kafka and Elasticsearch (embedded), and ``headrace run`` as a process. Prints the time, CPU time and memory of the
worker (after a tenth of the documents, and its peak). Fails if a good document is missing, a bad one is written, or the
dead letters are not exactly the bad documents.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import yaml

from benchmarks.engines import Engines
from benchmarks.report import Line
from headrace.broker.client_choice import choose
from headrace.broker.interfaces import Admin, KafkaClients, NewTopic, RebalanceListener
from headrace.embedded import EmbeddedStack
from headrace.errors import RetriableError
from headrace.records import EncodedBatch

TOPIC, DEAD, INDEX = "documents", "documents.dead", "documents"
EVERY = 100
"""Every document whose number is a multiple of this is bad."""
PARTITIONS = 4
_CHUNK = 5_000
_MAPPING = {
    "settings": {"number_of_replicas": 0, "refresh_interval": "-1"},
    "mappings": {"properties": {"amount": {"type": "integer"}, "at": {"type": "date"}}},
}


def document(number: int) -> bytes:
    """Return the value of record ``number``; the kinds of bad documents take turns."""
    if number % EVERY:
        return b'{"id":%d,"amount":%d,"at":"2026-01-01T00:00:00Z","text":"document number %d"}' % (
            number,
            number,
            number,
        )
    kinds = (
        b'{"id":%d,"amount":"not a number"}',
        b'{"id":%d,"at":"soon"}',
        b'{"id":%d,"amount":1',
        b"no JSON at all: %d",
        b'"text and no object %d"',
        b'{"id":%d,"amount":NaN}',
    )
    return kinds[number // EVERY % len(kinds)] % number


def fill(broker: KafkaClients, count: int) -> None:
    admin = broker.admin({})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS)])
    admin.close()
    producer = broker.producer({})
    for first in range(0, count, _CHUNK):
        numbers = range(first, min(first + _CHUNK, count))
        producer.send(
            EncodedBatch(TOPIC, [document(number) for number in numbers], [b"%d" % number for number in numbers])
        )
    if not producer.flush(600):
        raise RuntimeError("the topic could not be filled")
    producer.close(10)


def dead_numbers(broker: KafkaClients, count: int) -> list[int]:
    """Return the keys of the dead letters, sorted."""
    consumer = broker.consumer("bad-documents-benchmark", {"auto.offset.reset": "earliest"})
    nothing = RebalanceListener(lambda _: None, lambda _: None)
    consumer.subscribe([DEAD], None, nothing)
    found: list[int] = []
    quiet = time.monotonic() + 30
    while time.monotonic() < quiet:
        for batch in consumer.poll(1.0, 10_000):
            found += [int(key or b"-1") for key in batch.keys]
            quiet = time.monotonic() + (30 if len(found) < count else 3)
    consumer.close()
    return sorted(found)


@dataclass(frozen=True)
class Outcome:
    """The result of one run. Memory is in MB, after a tenth of the documents and at its peak."""

    seconds: float
    cpu: float
    early: float
    peak: float
    written: int
    dead: list[int]

    def exact(self, count: int) -> bool:
        """Return whether all good documents are written and exactly the bad ones are dead letters."""
        bad = list(range(0, count, EVERY))
        return self.written == count - len(bad) and self.dead == bad


def measure(folder: Path, bootstrap: str, search: str, count: int) -> Outcome:
    """Fill the topic, run a worker until all offsets are committed, and count documents and dead letters."""
    broker = choose("auto").open({"bootstrap.servers": bootstrap})
    print(f"  {count:,} documents, {len(range(0, count, EVERY)):,} of them bad", file=sys.stderr, flush=True)
    fill(broker, count)
    httpx.put(f"{search}/{INDEX}", json=_MAPPING, timeout=60).raise_for_status()
    seconds, cpu, early, peak = run(folder, broker, bootstrap, search, count)
    httpx.post(f"{search}/{INDEX}/_refresh", timeout=120).raise_for_status()
    written = httpx.get(f"{search}/{INDEX}/_count", timeout=60).json()["count"]
    return Outcome(seconds, cpu, early, peak, written, dead_numbers(broker, len(range(0, count, EVERY))))


def bad_documents(engines: Engines) -> list[Line]:
    """Measure a million documents, independent of ``--rows``. Raise RuntimeError if the result is not exact."""
    count = 50_000 if engines.quick else 1_000_000
    found = measure(engines.folder, engines.bootstrap, engines.search, count)
    if not found.exact(count):
        raise RuntimeError(f"{found.written:,} written, {len(found.dead):,} dead letters of {count:,} documents")
    return [
        Line(
            f"Kafka → Elasticsearch, {count:,} documents, 1 % bad, exact",
            rate=count / found.seconds,
            cpu_s_per_million=found.cpu / count * 1e6,
            peak_rss_mb=found.peak,
            notes={"s": round(found.seconds, 1), "dead letters": len(found.dead), "MB at a tenth": round(found.early)},
        )
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    count: int = parser.parse_args().documents
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        with EmbeddedStack(folder / "stack", engines=["kafka", "elasticsearch"]) as stack:
            found = measure(folder, stack.kafka.bootstrap_servers, stack.elasticsearch.url, count)
    exact = found.exact(count)
    print(f"time               {found.seconds:>10.1f} s   {count / found.seconds:,.0f} documents/s")
    print(f"CPU of the worker  {found.cpu:>10.1f} s   {found.cpu / count * 1e6:.1f} s a million")
    print(f"memory             {found.early:>10.0f} MB at a tenth, {found.peak:.0f} MB at most")
    print(f"written            {found.written:>10,}")
    print(f"dead letters       {len(found.dead):>10,}   all good ones written, exactly the bad ones here: {exact}")
    return 0 if exact else 1


def committed(admin: Admin) -> int:
    """Return the sum of the group's committed offsets; 0 while the group has no coordinator."""
    try:
        return sum(admin.committed("connect-documents").values())
    except RetriableError:
        return 0


def run(
    folder: Path, broker: KafkaClients, bootstrap: str, search: str, count: int
) -> tuple[float, float, float, float]:
    """Return seconds, CPU seconds, and MB after a tenth of the documents and at the peak."""
    worker = {
        "bootstrap.servers": bootstrap,
        "listeners": "http://127.0.0.1:0",
        "offset.storage.file.filename": str(folder / "offsets.jsonl"),
        "offset.flush.interval.ms": "500",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
    }
    sink = {
        "name": "documents",
        "connector.class": "ElasticsearchSink",
        "connection.url": search,
        "topics": TOPIC,
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": DEAD,
    }
    (folder / "worker.yaml").write_text(yaml.safe_dump(worker))
    (folder / "sink.yaml").write_text(yaml.safe_dump(sink))
    headrace = Path(sysconfig.get_path("scripts")) / "headrace"
    log = (folder / "worker.log").open("wb")
    began = time.monotonic()
    process = subprocess.Popen(
        [str(headrace), "run", str(folder / "worker.yaml"), str(folder / "sink.yaml")], stdout=log, stderr=log
    )
    admin = broker.admin({})
    early = peak = 0.0
    try:
        memory = psutil.Process(process.pid)
        while (done := committed(admin)) < count:
            if process.poll() is not None:
                raise RuntimeError((folder / "worker.log").read_text()[-4000:])
            now = memory.memory_info().rss / (1 << 20)
            peak = max(peak, now)
            early = early or (now if done >= count / 10 else 0.0)
            time.sleep(0.25)
        times = memory.cpu_times()
        return time.monotonic() - began, times.user + times.system, early, peak
    finally:
        admin.close()
        process.terminate()
        process.wait(60)
        log.close()


if __name__ == "__main__":
    sys.exit(main())
