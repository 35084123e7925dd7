"""Exactly once: two workers run one stream application, and workers and the broker are killed and suspended.

One worker starts with each Kafka client; a killed one is started with either. Afterwards a reader with read_committed
finds every output once and every window count exact, and the state is what a batch computation over the inputs gives.

``make test`` runs a round of each kind. ``make soak`` runs HEADRACE_SOAK_ROUNDS seeded rounds over more records.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.broker.interfaces import NewTopic
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.embedded.kafka import Kafka
from headrace.errors import RetriableError
from headrace.pipeline.stream import state_codec
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.waiting import eventually

ROUNDS = int(os.environ.get("HEADRACE_SOAK_ROUNDS", "0"))
RECORDS = 200_000 if ROUNDS else 24_000
SEED = int(os.environ.get("HEADRACE_SOAK_SEED", "20261130"))
OFFERS = 7
PARTITIONS = 4
MINUTE = 60_000
START = 1_790_000_040_000  # a full minute
SPAN = 60 * MINUTE
END = START + 10 * SPAN
CLIENTS = ("confluent", "kafka-python")
KINDS = ("kill a worker", "suspend a worker", "kill the broker")
TRANSACTION_TIMEOUT = 10.0
"""Seconds. The broker looks for such transactions every 10 s. A shorter interval makes Kafka 4.4 abort them while it
starts, before it knows the leaders of partitions: then it writes no markers there, and the next transaction of the
producer id makes the records visible."""
Window = tuple[int, int]
"""Offer and start."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """A broker of its own, which can be killed."""
    kafka = Kafka(tmp_path / "kafka")
    kafka.start()
    yield kafka
    kafka.stop()


class Topics:
    """The inputs of an application, and what it has committed."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.name = name
        self.views, self.copies, self.minutes = f"{name}-views", f"{name}-copies", f"{name}-minutes"
        self.repartition, self.changelog = f"{name}-per_offer-repartition", f"{name}-per_offer-changelog"
        self._clients = LibrdkafkaClients({"bootstrap.servers": bootstrap})
        self._admin = self._clients.admin({})
        self._admin.create_topics(
            NewTopic(topic, PARTITIONS, config={"retention.ms": "-1"})
            for topic in (self.views, self.copies, self.minutes)
        )

    def close(self) -> None:
        self._admin.close()

    def config(self) -> dict[str, Any]:
        return {
            "connector.class": "Stream",
            "commit.interval.ms": "100",
            "producer.override.transaction.timeout.ms": f"{TRANSACTION_TIMEOUT * 1000:.0f}",
            "inputs": {"views": {"topic": self.views, "time": "at"}},
            "steps": {
                "doubled": {"add": {"twice": "n * 2"}},
                "per_offer": {
                    "window": {"by": "offer", "tumbling": "1m", "grace": "2h", "aggregate": {"views": "count(*)"}}
                },
            },
            "outputs": {self.copies: "doubled", "minutes": {"topic": self.minutes, "from": "per_offer"}},
        }

    def send(self, records: list[dict[str, int]]) -> None:
        producer = self._clients.producer({})
        batch = EncodedBatch(
            self.views, [json.dumps(row).encode() for row in records], [b"%d" % row["n"] for row in records]
        )
        delivery = producer.send(batch)
        assert producer.flush(60)
        assert delivery.error() is None
        producer.close(5)

    def progress(self) -> int:
        """Return a number that grows with each committed transaction."""
        try:
            return sum(self._admin.end_offsets([self.copies]).values())
        except RetriableError:
            return 0

    def processed(self) -> bool:
        """Return whether all views and all records of the repartition topic are committed."""
        try:
            committed = self._admin.committed(f"connect-{self.name}")
            ends = self._admin.end_offsets([self.views])
        except RetriableError:  # while a transaction is open
            return False
        if any(committed.get(place, 0) < end for place, end in ends.items()):
            return False
        last = {place: offset for place, offset, _, _ in self.read(self.repartition)}
        return all(committed.get(place, 0) > offset for place, offset in last.items())

    def read(self, topic: str) -> list[tuple[TopicPartition, int, bytes | None, bytes | None]]:
        """Return partition, offset, key and value of the committed records."""
        ends = self._admin.end_offsets([topic])
        reader = self._clients.reader({})
        found: list[tuple[TopicPartition, int, bytes | None, bytes | None]] = []
        try:
            reader.assign(dict.fromkeys(ends, 0))
            while any(reader.positions().get(place, 0) < end for place, end in ends.items()):
                for batch in reader.poll(0.5, 20_000):
                    columns = zip(batch.offsets, batch.keys, batch.values, strict=True)
                    found += [(batch.topic_partition, *row) for row in columns]
        finally:
            reader.close()
        return found

    def rows(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(value or b"") for _, _, _, value in self.read(topic)]

    def state(self) -> dict[Window, int]:
        """Return the open windows that a restart would restore."""
        last: dict[tuple[int, int, Any], Any] = {}
        for place, _, key, value in self.read(self.changelog):
            segment, name = state_codec.decode(key or b"")
            last[place.partition, segment, name] = None if value is None else state_codec.decode(value)
        return {(name, segment): acc[0] for (_, segment, name), acc in last.items() if segment > 0 and acc is not None}


def account(workers: list[Any], name: str) -> Counter[str]:
    """Return the terms of the window's account, over the partitions of both workers."""
    total: Counter[str] = Counter()
    for worker in workers:
        for task in worker.get(f"/v1/connectors/{name}/records")["tasks"]:
            for step in task["steps"]:  # none before the task has partitions
                assert step.pop("step") == "per_offer"
                assert step["balance"] == 0
                total.update(step)
    return +total


class Chaos:
    """Strikes the workers and the broker."""

    def __init__(self, broker: Kafka, workers: list[Any], topics: Topics, timeout: float) -> None:
        self._broker, self._workers, self._topics, self._timeout = broker, workers, topics, timeout
        self._chance = random.Random(SEED)

    def strike(self, kind: str, known: int) -> str:
        """Wait until more than ``known`` is committed, and strike in the middle of the work. Return what was done."""
        eventually(lambda: self._topics.progress() > known, self._timeout)
        self._wait(self._chance.uniform(0, 0.3))
        number = self._chance.randrange(2)
        worker = self._workers[number]
        if kind == "kill a worker":
            worker.kill()
            worker.settings["kafka.client"] = self._chance.choice(CLIENTS)
            worker.start()
            eventually(partial(runs, worker, self._topics.name), self._timeout)
            return f"kill worker {number}, start it with {worker.settings['kafka.client']}"
        if kind == "suspend a worker":
            seconds = (
                TRANSACTION_TIMEOUT + 2 if not ROUNDS or self._chance.random() < 0.5 else self._chance.uniform(0, 3)
            )
            worker.pause()
            self._wait(seconds)
            worker.resume()
            return f"suspend worker {number} for {seconds:.1f} s"
        self._broker.kill()
        self._wait(self._chance.uniform(0, 2))
        self._broker.start()
        return "kill the broker"

    def choose(self, number: int) -> str:
        return self._chance.choice(KINDS) if ROUNDS else KINDS[number]

    def _wait(self, seconds: float) -> None:
        """Let time pass: when a strike comes is the point of the test."""
        threading.Event().wait(seconds)


def runs(worker: Any, name: str) -> bool:
    """the task runs"""
    return bool(worker.answers() and worker.running(name))


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_outputs_windows_and_state_are_exact_after_kills_and_suspensions(
    broker: Kafka, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> None:
    topics = Topics(broker.bootstrap_servers, unique_name)
    workers = [
        make_worker(broker.bootstrap_servers, kafka_client=client, consumer_session_timeout_ms="6000")
        for client in CLIENTS
    ]
    for worker in workers:
        worker.write(unique_name, topics.config())
        worker.start(wait=False)
    for worker in workers:
        eventually(partial(runs, worker, unique_name), box.timeout)
    rounds = ROUNDS or len(KINDS)
    records = [{"n": n, "offer": n % OFFERS, "at": START + n * SPAN // RECORDS} for n in range(RECORDS)]
    chaos = Chaos(broker, workers, topics, box.timeout)
    part = -(-RECORDS // rounds)
    for number in range(rounds):
        known = topics.progress()
        topics.send(records[number * part : (number + 1) * part])
        print(f"round {number + 1}: {chaos.strike(chaos.choose(number), known)}", flush=True)
    eventually(topics.processed, box.timeout)

    expected = Counter((record["offer"], record["at"] // MINUTE * MINUTE) for record in records)
    assert topics.state() == expected
    # Kafka may show the end of a transaction in one partition later than in another one.
    eventually(lambda: len(topics.read(topics.copies)) >= RECORDS, box.timeout)
    copies = topics.rows(topics.copies)
    assert sorted(row["n"] for row in copies) == list(range(RECORDS))
    assert all(row["twice"] == row["n"] * 2 for row in copies)
    assert topics.rows(topics.minutes) == []
    # Every record counts once, although many were processed several times.
    eventually(lambda: account(workers, unique_name) == {"received": RECORDS, "open": RECORDS}, box.timeout)

    topics.send([{"n": RECORDS, "offer": offer, "at": END} for offer in range(OFFERS)])
    eventually(topics.processed, box.timeout)
    eventually(lambda: len(topics.read(topics.minutes)) >= len(expected), box.timeout)
    windows = topics.rows(topics.minutes)
    assert len(windows) == len(expected)
    assert {(row["offer"], row["window_start"]): row["views"] for row in windows} == expected
    assert topics.state() == {(offer, END): 1 for offer in range(OFFERS)}
    total = {"received": RECORDS + OFFERS, "results": RECORDS, "open": OFFERS}
    eventually(lambda: account(workers, unique_name) == total, box.timeout)
    fenced = sum(worker.log.count("kafka.producer_fenced") for worker in workers)
    print(f"{rounds} rounds, seed {SEED}: {len(copies):,} records, {len(windows)} windows; fenced {fenced} times")
    for worker in workers:
        assert worker.running(unique_name), worker.log
        assert worker.stop() == 0
    topics.close()
