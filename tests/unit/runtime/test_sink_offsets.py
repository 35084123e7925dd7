"""Changed offsets of a sink are checked against the topics in Kafka before they are stored."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.errors import CommandError
from headrace.records import EncodedBatch, TopicPartition
from headrace.runtime import sink_offsets

ORDERS = TopicPartition("orders", 1)


@pytest.fixture
def kafka_clients() -> InMemoryKafka:
    kafka_clients = InMemoryKafka()
    kafka_clients.create("orders", 2)
    producer = kafka_clients.producer({})
    for number in range(20):
        producer.send(EncodedBatch("orders", [b"x"], [str(number).encode()]))
    return kafka_clients


def move(kafka_clients: InMemoryKafka, partition: Any, offset: Any) -> int:
    return sink_offsets.move(kafka_clients.admin({}), "group", [(partition, offset)])


def place(topic: Any = "orders", number: Any = 1) -> dict[str, Any]:
    return {"kafka_topic": topic, "kafka_partition": number}


@pytest.mark.parametrize(("offset", "stored"), [({"kafka_offset": 3}, 3), ({"kafka_offset": "3"}, 3), (None, 0)])
def test_an_offset_is_stored(kafka_clients: InMemoryKafka, offset: Any, stored: int) -> None:
    assert move(kafka_clients, place(number="1"), offset) == 1
    assert kafka_clients.committed("group") == {ORDERS: stored}


def test_the_last_offset_of_a_partition_is_stored(kafka_clients: InMemoryKafka) -> None:
    changes = [(place(), {"kafka_offset": 3}), (place(number="1"), {"kafka_offset": 2})]
    assert sink_offsets.move(kafka_clients.admin({}), "group", changes) == 1
    assert kafka_clients.committed("group") == {ORDERS: 2}


def test_the_end_offset_is_the_greatest_accepted_offset(kafka_clients: InMemoryKafka) -> None:
    end = kafka_clients.admin({}).end_offsets(["orders"])[ORDERS]
    move(kafka_clients, place(), {"kafka_offset": end})
    with pytest.raises(CommandError, match=f"orders-1 ends at offset {end}; it cannot be read from {end + 1}") as info:
        move(kafka_clients, place(), {"kafka_offset": end + 1})
    assert info.value.code == "connector.offset_beyond_end"
    assert kafka_clients.committed("group") == {ORDERS: end}


@pytest.mark.parametrize(
    ("partition", "offset"),
    [
        ({"table": "orders"}, {"kafka_offset": 1}),
        ({}, {"kafka_offset": 1}),
        (place(topic=7), {"kafka_offset": 1}),
        (place(topic=""), {"kafka_offset": 1}),
        (place(number=-1), {"kafka_offset": 1}),
        (place(number=True), {"kafka_offset": 1}),
        (place(number=1.0), {"kafka_offset": 1}),
        (place(number="one"), {"kafka_offset": 1}),
        (place(), {"kafka_offset": -1}),
        (place(), {"kafka_offset": "٣"}),
        (place(), {"offset": 1}),
        (place(), {}),
    ],
)
def test_an_invalid_offset_is_refused_with_the_expected_form(
    kafka_clients: InMemoryKafka, partition: Any, offset: Any
) -> None:
    with pytest.raises(CommandError, match="is no position of a sink") as info:
        move(kafka_clients, partition, offset)
    assert "kafka_topic" in str(info.value.hint)
    assert kafka_clients.committed("group") == {}


def test_an_unknown_topic_is_reported_with_the_nearest(kafka_clients: InMemoryKafka) -> None:
    with pytest.raises(CommandError, match="no partition order-1") as info:
        move(kafka_clients, place(topic="order"), None)
    assert "orders" in str(info.value.hint)


def test_an_unknown_partition_is_reported_with_the_existing_ones(kafka_clients: InMemoryKafka) -> None:
    with pytest.raises(CommandError, match="no partition orders-2") as info:
        move(kafka_clients, place(number=2), None)
    assert info.value.hint == "partitions of orders are 0 to 1"


def test_a_reset_leaves_out_deleted_topics(kafka_clients: InMemoryKafka) -> None:
    admin = kafka_clients.admin({})
    admin.commit("group", {ORDERS: 5, TopicPartition("gone", 0): 5})
    assert sink_offsets.reset(admin, "group") == 1
    assert kafka_clients.committed("group") == {ORDERS: 0, TopicPartition("gone", 0): 5}
    assert sink_offsets.reset(admin, "unknown-group") == 0
