"""Kafka → Elasticsearch by the shape of documents: small rows, 10 kB of text, a hundred fields.

    python -m benchmarks.shapes [--documents 50000] [--rounds 3]

Real Kafka and Elasticsearch (embedded). The limit is ``_bulk`` with bodies made beforehand, at the number of requests
at a time that is best in this run; headrace has as many. The two run in turns; a ratio is of one round.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson

from benchmarks.sides import Measured, run
from headrace.broker.kafka_python import KafkaPythonBroker
from headrace.broker.ports import NewTopic
from headrace.embedded import EmbeddedStack
from headrace.records import EncodedBatch

CLIENT = "confluent"
_CHUNK = 1_000


def _digest(number: int) -> str:
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()


def row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"customer {number}",
        "email": f"{_digest(number)}@example.com",
        "amount": number % 100_000 / 100,
        "active": number % 7 == 0,
        "placed_at": "2026-01-01T00:00:00.000000",
        "note": _digest(number * 7) * 4,
    }


def text(number: int) -> dict[str, Any]:
    return {"id": number, "text": " ".join(_digest(number + word)[:6] for word in range(1450))}


def fields(number: int) -> dict[str, Any]:
    return {"id": number, **{f"f{n}": n * number if n % 2 else f"value {n * number}" for n in range(100)}}


SHAPES: dict[str, tuple[Callable[[int], dict[str, Any]], float]] = {
    "rows": (row, 1.0),
    "10 kB": (text, 0.1),
    "100 fields": (fields, 0.2),
}
"""Each with the part of ``--documents`` that it has."""


class Shape:
    """One topic of such documents, and runs that each write an index of their own."""

    def __init__(self, stack: EmbeddedStack, folder: Path, name: str, count: int) -> None:
        self.bootstrap, self.search, self.folder = stack.kafka.bootstrap_servers, stack.elasticsearch.url, folder
        self.topic, self.count, self._runs = name.replace(" ", "").lower(), count, 0

    def fill(self, make: Callable[[int], dict[str, Any]]) -> int:
        """Write the topic; bytes of a document on average."""
        broker = KafkaPythonBroker({"bootstrap.servers": self.bootstrap})
        admin = broker.admin({})
        admin.create_topics([NewTopic(self.topic, 1)])
        admin.close()
        producer = broker.producer({})
        size = 0
        for first in range(0, self.count, _CHUNK):
            numbers = range(first, min(first + _CHUNK, self.count))
            values: list[bytes | None] = [orjson.dumps(make(number)) for number in numbers]
            size += sum(len(value or b"") for value in values)
            producer.send(EncodedBatch(self.topic, values, [orjson.dumps({"id": number}) for number in numbers]))
        if not producer.flush(300):
            raise RuntimeError("the topic could not be filled")
        producer.close(10)
        return size // self.count

    def index(self) -> str:
        self._runs += 1
        name = f"{self.topic}-{self._runs}"
        body = {"settings": {"number_of_replicas": 0, "refresh_interval": "-1"}}
        httpx.put(f"{self.search}/{name}", json=body, timeout=60).raise_for_status()
        return name

    def raw(self, threads: int) -> Measured:
        host, port = self.search.removeprefix("http://").split(":")
        return run(
            "bare",
            "raw_bulk",
            client=CLIENT,
            bootstrap=self.bootstrap,
            topic=self.topic,
            count=self.count,
            host=host,
            port=int(port),
            index=self.index(),
            threads=threads,
        )

    def headrace(self, threads: int) -> Measured:
        index = self.index()
        config = {
            "name": index,
            "connector.class": "ElasticsearchSink",
            "connection.url": self.search,
            "topics": self.topic,
            "external.resource.usage": "INDEX",
            "topic.to.external.resource.mapping": f"{self.topic}:{index}",
            "max.in.flight.requests": str(threads),
        }
        return run(
            "framework",
            "run",
            config=config,
            client=CLIENT,
            bootstrap=self.bootstrap,
            folder=str(self.folder),
            counter="sink_record_send_total",
            count=self.count,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=50_000, help="small rows; fewer of the larger shapes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{'documents':12}{'bytes':>8}{'raw _bulk':>13}{'headrace':>13}{'ratio':>7}{'CPU s/million':>15}{'peak MB':>9}"
    )
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        with EmbeddedStack(folder / "stack", engines=["kafka", "elasticsearch"]) as stack:
            for title, (make, part) in SHAPES.items():
                shape = Shape(stack, folder, title, max(1, round(options.documents * part)))
                size = shape.fill(make)
                tries = {threads: shape.raw(threads).rate for threads in (1, 2, 4, 8)}
                best = max(tries, key=lambda threads: tries[threads])
                rounds = []
                for number in range(options.rounds):
                    sides = [shape.raw, shape.headrace]
                    found = [side(best) for side in (sides if number % 2 else reversed(sides))]
                    rounds.append(found if number % 2 else found[::-1])
                ratio = statistics.median(ours.rate / limit.rate for limit, ours in rounds)
                limit, ours = (statistics.median(found[side].rate for found in rounds) for side in (0, 1))
                cpu = statistics.median(found[1].cpu_per_million for found in rounds)
                peak = max(found[1].peak_rss_mb for found in rounds)
                print(
                    f"{title:12}{size:>8,}{limit:>11,.0f}/s{ours:>11,.0f}/s{ratio:>7.2f}{cpu:>15.1f}{peak:>9.0f}"
                    f"   {best} requests at a time",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
