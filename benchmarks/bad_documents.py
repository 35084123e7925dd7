"""A topic with one bad document in a hundred into Elasticsearch: are exactly those in the dead letter queue?

    python -m benchmarks.bad_documents [--documents 1000000]

Real Kafka and Elasticsearch (embedded), a worker process as a user runs it. Prints the time, the worker's memory at a
tenth of the way and at its peak, and fails when a good document is missing, a bad one is written, or the dead letters
are not exactly the bad ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import yaml

from headrace.broker.kafka_python import KafkaPythonBroker
from headrace.broker.ports import Admin, Broker, NewTopic, RebalanceListener
from headrace.embedded import EmbeddedStack
from headrace.errors import RetriableError
from headrace.records import EncodedBatch

TOPIC, DEAD, INDEX = "documents", "documents.dead", "documents"
EVERY = 100
"""One document of so many is bad."""
PARTITIONS = 4
_CHUNK = 5_000
_MAPPING = {
    "settings": {"number_of_replicas": 0, "refresh_interval": "-1"},
    "mappings": {"properties": {"amount": {"type": "integer"}, "at": {"type": "date"}}},
}


def document(number: int) -> bytes:
    """The value of record ``number``; each bad kind in turn."""
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


def fill(broker: Broker, count: int) -> None:
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


def dead_numbers(broker: Broker, count: int) -> list[int]:
    """Keys of the dead letters, sorted."""
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    count: int = parser.parse_args().documents
    bad = list(range(0, count, EVERY))
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        with EmbeddedStack(folder / "stack", engines=["kafka", "elasticsearch"]) as stack:
            broker = KafkaPythonBroker({"bootstrap.servers": stack.kafka.bootstrap_servers})
            search = stack.elasticsearch.url
            print(f"{count:,} documents, {len(bad):,} of them bad: writing them to Kafka", file=sys.stderr, flush=True)
            fill(broker, count)
            httpx.put(f"{search}/{INDEX}", json=_MAPPING, timeout=60).raise_for_status()
            seconds, early, peak = run(folder, broker, stack.kafka.bootstrap_servers, search, count)
            httpx.post(f"{search}/{INDEX}/_refresh", timeout=120).raise_for_status()
            written = httpx.get(f"{search}/{INDEX}/_count", timeout=60).json()["count"]
            dead = dead_numbers(broker, len(bad))
    print(f"time               {seconds:>10.1f} s   {count / seconds:,.0f} documents/s")
    print(f"memory             {early:>10.0f} MB at a tenth, {peak:.0f} MB at most")
    print(f"written            {written:>10,}   of {count - len(bad):,} good ones")
    print(f"dead letters       {len(dead):>10,}   exactly the bad ones: {dead == bad}")
    return 0 if written == count - len(bad) and dead == bad else 1


def committed(admin: Admin) -> int:
    """Records behind the group's positions; 0 while the group has no coordinator yet."""
    try:
        return sum(admin.committed("connect-documents").values())
    except RetriableError:
        return 0


def run(folder: Path, broker: Broker, bootstrap: str, search: str, count: int) -> tuple[float, float, float]:
    """Seconds, MB at a tenth of the way, MB at most."""
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
        return time.monotonic() - began, early, peak
    finally:
        admin.close()
        process.terminate()
        process.wait(60)
        log.close()


if __name__ == "__main__":
    sys.exit(main())
