"""kill -9 of a worker that runs a stream application: committed outputs and windows are exact, with both clients."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from headrace.testing.waiting import eventually

RECORDS = 18_000
PART = RECORDS // 3
OFFERS = 7
MINUTE = 60_000
START = 1_790_000_040_000  # a full minute
END = START + 600 * MINUTE
SEED = 20261130


@pytest.mark.timeout(600)
def test_every_record_is_counted_once_after_kill_9(
    kafka: Any, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> None:
    views, copies, minutes = f"{unique_name}-views", f"{unique_name}-copies", f"{unique_name}-minutes"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.create_topics(
        [NewTopic(topic, 2, 1, topic_configs={"retention.ms": "-1"}) for topic in (views, copies, minutes)]
    )
    admin.close()
    records = [{"n": n, "offer": n % OFFERS, "at": START + n * 37} for n in range(RECORDS)]
    parts = [records[:PART], records[PART : 2 * PART], records[2 * PART :]]
    worker = make_worker(kafka.bootstrap_servers, consumer_session_timeout_ms="6000")
    worker.write(
        unique_name,
        {
            "connector.class": "Stream",
            "commit.interval.ms": "100",
            "inputs": {"views": {"topic": views, "time": "at"}},
            "steps": {
                "doubled": {"add": {"twice": "n * 2"}},
                "per_offer": {
                    "window": {"by": "offer", "tumbling": "1m", "grace": "1h", "aggregate": {"views": "count(*)"}}
                },
            },
            "outputs": {copies: "doubled", "minutes": {"topic": minutes, "from": "per_offer"}},
        },
    )

    chance = random.Random(SEED)
    for client, part in zip(("confluent", "kafka-python"), parts, strict=False):
        worker.settings["kafka.client"] = client
        known = len(read(kafka.bootstrap_servers, copies))
        send(kafka.bootstrap_servers, views, part)
        worker.start()
        eventually(partial(has_more, kafka.bootstrap_servers, copies, known), box.timeout)
        threading.Event().wait(chance.uniform(0, 0.2))
        worker.kill()
    send(kafka.bootstrap_servers, views, parts[2])
    worker.start()
    # The two partitions are read independently: records that close the windows come after all others were counted.
    eventually(lambda: len(read(kafka.bootstrap_servers, copies)) >= RECORDS, box.timeout)
    send(kafka.bootstrap_servers, views, [{"n": RECORDS, "offer": offer, "at": END} for offer in range(OFFERS)])
    expected = Counter((record["offer"], record["at"] // MINUTE * MINUTE) for record in records)
    eventually(lambda: len(read(kafka.bootstrap_servers, minutes)) >= len(expected), box.timeout)
    assert worker.stop() == 0

    written = read(kafka.bootstrap_servers, copies)
    assert sorted(row["n"] for row in written) == [*range(RECORDS), *[RECORDS] * OFFERS]
    assert all(row["twice"] == row["n"] * 2 for row in written)
    windows = read(kafka.bootstrap_servers, minutes)
    assert len(windows) == len(expected)
    assert {(row["offer"], row["window_start"]): row["views"] for row in windows} == dict(expected)


def has_more(bootstrap: str, topic: str, known: int) -> bool:
    return len(read(bootstrap, topic)) > known


def send(bootstrap: str, topic: str, records: list[dict[str, int]]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    try:
        for record in records:
            text = json.dumps(record).encode()
            producer.send(topic, key=str(record["n"]).encode(), value=text, partition=record["n"] % 2)
        producer.flush(60)
    finally:
        producer.close()


def read(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Return the committed values of both partitions."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, partition) for partition in range(2)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found = []
        while any(consumer.position(place) < ends[place] for place in places):
            for batch in consumer.poll(timeout_ms=500).values():
                found += [json.loads(record.value) for record in batch]
        return found
    finally:
        consumer.close()
