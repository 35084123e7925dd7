"""kill -9 of a worker that retries dead letters: none is lost, each is marked once, newer documents stay."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

LETTERS = 1600  # several chunks of a retry
NEWER = 100
ROUNDS = 4
SEED = 20261130


@pytest.mark.timeout(600)
def test_every_letter_is_written_and_marked_once_after_kill_9(
    kafka: Any, elasticsearch: Any, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> None:
    index, queue, sink = f"{unique_name}-items", f"{unique_name}-dead", f"{unique_name}-sink"
    place = f"{elasticsearch.url}/{index}"
    strict = {"mappings": {"dynamic": "strict", "properties": {"id": {"type": "integer"}}}}
    HTTP.put(place, json=strict).raise_for_status()
    refused = [(f"k{number}", {"id": number, "note": "x"}) for number in range(LETTERS)]
    newer = [(f"k{number}", {"id": -number}) for number in range(NEWER)]
    send(kafka.bootstrap_servers, index, [*refused, *newer])
    worker = make_worker(kafka.bootstrap_servers)
    worker.write(
        sink,
        {
            "connector.class": "ElasticsearchSink",
            "connection.url": elasticsearch.url,
            "topics": index,
            "schema.ignore": "true",
            "key.converter": "StringConverter",
            "errors.tolerance": "all",
            "errors.deadletterqueue.topic.name": queue,
        },
    )
    letters = f"/v1/connectors/{sink}/dead-letters"

    worker.start()
    eventually(lambda: len(box.documents(elasticsearch.url, index)) == NEWER, box.timeout)
    eventually(lambda: worker.get(letters)["open"] == LETTERS, box.timeout)
    assert worker.stop() == 0
    more = {"properties": {"note": {"type": "keyword"}}}
    HTTP.put(f"{place}/_mapping", json=more).raise_for_status()

    chance = random.Random(SEED)
    for number in range(ROUNDS):
        worker.settings["kafka.client"] = ("confluent", "kafka-python")[number % 2]
        worker.start()
        HTTP.post(worker.url + letters + "/retry", json={}).raise_for_status()
        threading.Event().wait(chance.uniform(0, 1.0))
        worker.kill()
    worker.start()
    HTTP.post(worker.url + letters + "/retry", json={}).raise_for_status()
    eventually(lambda: worker.get(f"{letters}/job")["state"] != "RUNNING", box.timeout)

    assert worker.get(f"{letters}/job")["error"] is None
    assert worker.get(letters)["open"] == 0
    assert worker.stop() == 0
    assert box.documents(elasticsearch.url, index) == {**dict(refused), **dict(newer)}
    marks = read(kafka.bootstrap_servers, f"{queue}-marks")
    assert len(marks) == len({key for key, _ in marks}) == LETTERS
    results = [json.loads(value)["mark"] for _, value in marks]
    assert (results.count("superseded"), results.count("retried")) == (NEWER, LETTERS - NEWER)
    assert len(read(kafka.bootstrap_servers, queue)) == LETTERS


def send(bootstrap: str, topic: str, records: list[tuple[str, Any]]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        for key, value in records:
            producer.send(topic, key=key.encode(), value=json.dumps(value).encode(), partition=0)
        producer.flush(60)
    finally:
        producer.close()


def read(bootstrap: str, topic: str) -> list[tuple[bytes, bytes]]:
    """Return keys and values of committed records of partition 0."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        found = []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=500).values():
                found += [(record.key, record.value) for record in records]
        return found
    finally:
        consumer.close()
