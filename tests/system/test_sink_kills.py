"""Two workers share a topic and are killed at random times under load: in the end the index equals the topic."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaProducer

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.data_comparison import compare_index, index_entries, latest, settle, topic_entries
from headrace.testing.recording_consumer import create
from tests.engines.http import HTTP

KEYS = 400
KILLS = 3


class Writer:
    """Writes new values of a few keys, and deletes some, until it is stopped."""

    def __init__(self, bootstrap: str, topic: str, seed: int) -> None:
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
        self._topic = topic
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self.written = 0
        self.error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush()
        self._producer.close()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.01):
                for _ in range(self._random.randint(1, 60)):
                    key = self._random.randrange(KEYS)
                    value = None if self._random.random() < 0.05 else {"id": key, "version": self.written}
                    encoded = None if value is None else json.dumps(value).encode()
                    self._producer.send(self._topic, encoded, json.dumps(key).encode())
                    self.written += 1
        except Exception as error:  # shown by stop(), on the test's thread
            self.error = error


@pytest.mark.parametrize(("method", "seed"), [("insert", 1), ("upsert", 2)])
def test_the_index_equals_the_topic_after_kills_of_workers_during_rebalances(
    kafka: Any, elasticsearch: Any, make_worker: Callable[..., Any], unique_name: str, method: str, seed: int, box: Any
) -> None:
    name = unique_name
    kafka_clients = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers, "bootstrap.timeout.ms": "60000"})
    create(kafka_clients, name, 4)
    workers = [make_worker(kafka.bootstrap_servers) for _ in range(2)]
    for worker in workers:
        worker.write(
            f"{name}-sink",
            {
                "connector.class": "ElasticsearchSink",
                "connection.url": elasticsearch.url,
                "topics": name,
                "write.method": method,
                "behavior.on.null.values": "delete",
                "batch.size": "50",
                "consumer.override.session.timeout.ms": "6000",
                "consumer.override.heartbeat.interval.ms": "1000",
            },
        )
        worker.start()
    chance = random.Random(seed)
    writer = Writer(kafka.bootstrap_servers, name, seed)
    writer.start()
    pause = threading.Event()
    try:
        for _ in range(KILLS):
            # A random time until the kill.
            pause.wait(chance.uniform(0.3, 3.0))
            victim = chance.choice(workers)
            victim.kill()
            pause.wait(chance.uniform(0.0, 1.0))
            victim.start()
    finally:
        writer.stop()

    def look() -> list[Any]:
        rows = latest(topic_entries(kafka_clients, name))
        return [compare_index(rows, index_entries(elasticsearch.url, name))]

    (comparison,) = settle(look, box.timeout)
    assert comparison.exact, str(comparison)
    assert writer.written > 1000
    assert HTTP.get(f"{elasticsearch.url}/{name}/_count").json()["count"] == comparison.expected
    for worker in workers:
        assert worker.stop() == 0
