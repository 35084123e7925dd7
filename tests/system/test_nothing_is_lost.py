"""kill -9 of worker and broker, and an Elasticsearch outage: in the end the index equals the tables.

Starts of the worker alternate between the Kafka clients: both must lose no row, and continue after each other.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.data_comparison import (
    Comparison,
    compare_index,
    compare_topic,
    index_entries,
    latest,
    settle,
    table_rows,
    topic_entries,
)
from headrace.testing.waiting import eventually

ROUNDS = 24
SEED = 20261125
SOURCE = {
    "connector.class": "SqlSource",
    "poll.interval.ms": "50",
    "batch.max.rows": "200",
    "pk.mode": "primary_key",
    "topic.prefix": "shop.",
}
# Shorter than Kafka's default of 45 s, so that rounds do not wait for the timeout of a killed consumer.
GROUP = {"consumer.override": {"session.timeout.ms": "1500", "heartbeat.interval.ms": "400"}}
BROKER = {"group.min.session.timeout.ms": "500", "group.initial.rebalance.delay.ms": "0"}


def pause(seconds: float) -> None:
    """Wait for a random time, chosen by the seed."""
    threading.Event().wait(seconds)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("brokers", "rounds"), [(1, ROUNDS), (3, ROUNDS // 3)], ids=["one broker", "three brokers"])
def test_the_index_equals_the_tables_after_kill_9_at_random_times(
    private_stack: Callable[..., Any],
    make_worker: Callable[..., Any],
    load: Callable[..., Any],
    box: Any,
    brokers: int,
    rounds: int,
) -> None:
    """A single broker is killed once; of three, one is restarted in every round, gracefully or by kill -9."""
    stack = private_stack(brokers=brokers, options={"kafka": {"settings": BROKER, "heap": "320m"}})
    database, search = stack.postgres.url, stack.elasticsearch.url
    chance = random.Random(SEED)
    writer = load(database, SEED)

    worker = make_worker(stack.kafka.bootstrap_servers)
    worker.write(
        "events",
        {
            **SOURCE,
            "connection.url": database,
            "table.whitelist": "events",
            "mode": "timestamp+incrementing",
            "timestamp.column.name": "updated_at",
            "incrementing.column.name": "id",
            "timestamp.delay.interval.ms": "300",
            "topic.creation.default": {"partitions": "3", "replication.factor": str(brokers)},
        },
    )
    worker.write(
        "journal",
        {
            **SOURCE,
            "connection.url": database,
            "table.whitelist": "journal",
            "mode": "incrementing",
            "incrementing.column.name": "id",
        },
    )
    worker.write(
        "search",
        {
            "connector.class": "ElasticsearchSink",
            "connection.url": search,
            "topics": "shop.events,shop.journal",
            "key.ignore": "false",
            "schema.ignore": "true",
            **GROUP,
        },
    )

    writer.start()
    blows = 0
    for number in range(rounds):
        worker.settings["kafka.client"] = ("confluent", "kafka-python")[number % 2]
        worker.start(wait=False)
        if number % 3:  # every third kill happens during the start
            eventually(lambda: _indexing(worker), box.timeout)
        if brokers == 3:
            rolled = stack.kafka.brokers[number % 3]
            chance.choice([rolled.stop, rolled.kill])()
            pause(chance.uniform(0, 1))
            rolled.start()
        elif number == rounds // 3:
            stack.kafka.kill()
            pause(chance.uniform(0.5, 2))
            stack.kafka.start()
        if number == rounds // 2:
            stack.elasticsearch.stop()
            pause(chance.uniform(2, 4))
            assert worker.process.poll() is None, worker.log
            stack.elasticsearch.start()
        pause(chance.uniform(0, 1.5))
        worker.kill()
        blows += 1
    assert blows == rounds
    writer.stop()

    worker.start()
    with box.connect(database) as connection:
        events = table_rows(connection, "SELECT * FROM events", key="id")
        journal = table_rows(connection, "SELECT * FROM journal", key="id")
    assert len(events) > 1000, "the load was too small to prove anything"
    tables = {"shop.events": events, "shop.journal": journal}
    kafka_clients = KafkaPythonClients({"bootstrap.servers": stack.kafka.bootstrap_servers})

    def indexes() -> list[Comparison]:
        return [compare_index(rows, index_entries(search, name), side=name) for name, rows in tables.items()]

    settle(indexes, box.timeout)
    assert worker.stop() == 0
    for name, rows in tables.items():
        topic = topic_entries(kafka_clients, name)
        print(compare_topic(rows, topic, side=f"topic {name}"))
        assert compare_topic(rows, topic, side=f"topic {name}").complete
        assert compare_index(latest(topic), index_entries(search, name), side=f"topic and index {name}").exact
    assert all(comparison.exact for comparison in indexes())


def _indexing(worker: Any) -> bool:
    if not worker.answers():
        return False
    names = worker.get("/connectors")
    return len(names) == 3 and all(worker.running(name) for name in names)
