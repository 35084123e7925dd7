"""Errors between records are ignored or raised, and the records are kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.consumer import LibrdkafkaConsumer
from headrace.broker.librdkafka.reader import LibrdkafkaReader
from headrace.errors import InfrastructureError, RetriableError
from headrace.records import TopicPartition
from headrace.testing.waiting import eventually


def record(offset: int) -> Message:
    return Message(topic="t", partition=0, offset=offset, key=b"k", value=b"v", headers=[], timestamp=(1, 5))


def failure(code: int) -> Message:
    return Message(topic="t", partition=0, error=KafkaError(code))


class FakeConsumer:
    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = list(messages)

    def consume(self, limit: int, timeout: float) -> list[Message]:
        found, self._messages = self._messages[:limit], self._messages[limit:]
        return found

    def get_watermark_offsets(self, place: object, *, cached: bool) -> tuple[int, int]:
        return 0, 10


def consumer(*messages: Message) -> LibrdkafkaConsumer:
    client = cast(Consumer, cast(Any, FakeConsumer(messages)))
    return LibrdkafkaConsumer((client, BrokerMonitor()), "g", max_poll_records=None, cooperative=False, topics_age=5)


def test_transient_errors_are_ignored() -> None:
    reader = consumer(record(3), failure(KafkaError.UNKNOWN_TOPIC_OR_PART), record(4))
    [batch] = reader.poll(0, 10)
    assert batch.offsets == [3, 4]
    assert reader.poll(0, 10) == []


def test_a_poll_of_errors_only_returns_no_batch() -> None:
    assert consumer(failure(KafkaError._TRANSPORT)).poll(0, 10) == []


def test_a_permanent_error_is_raised_after_the_records() -> None:
    reader = consumer(record(3), failure(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    [batch] = reader.poll(0, 10)
    assert batch.offsets == [3]
    with pytest.raises(InfrastructureError):
        reader.poll(0, 10)


def test_a_reader_raises_an_error_after_the_records_of_the_same_poll() -> None:
    client = cast(Consumer, cast(Any, FakeConsumer([failure(KafkaError.TOPIC_AUTHORIZATION_FAILED), record(3)])))
    reader = LibrdkafkaReader((client, BrokerMonitor()))
    [batch] = reader.poll(0, 10)
    assert batch.offsets == [3]
    with pytest.raises(InfrastructureError):
        reader.poll(0, 10)
    assert reader.poll(0, 10) == []


@pytest.mark.parametrize("topics", [["t"], ["t", "u"]])
def test_records_are_returned_by_partition_in_offset_order(topics: list[str]) -> None:
    places = [TopicPartition(topic, number) for topic in topics for number in range(2)]
    messages = [
        Message(topic=topic, partition=number, offset=offset, key=b"k", value=b"v", headers=[], timestamp=(1, 5))
        for offset in range(3)
        for topic, number in places
    ]
    batches = consumer(*messages).poll(0, 100)
    assert {batch.topic_partition: batch.offsets for batch in batches} == {place: [0, 1, 2] for place in places}


def test_an_abandoned_consumer_is_closed_when_its_pending_commit_ends() -> None:
    answered = threading.Event()

    class PendingCommitConsumer(FakeConsumer):
        def commit(self, offsets: list[Any], *, asynchronous: bool) -> list[Any]:
            answered.wait()
            return offsets

    client = cast(Consumer, cast(Any, PendingCommitConsumer([])))
    member = LibrdkafkaConsumer(
        (client, BrokerMonitor()), "g", max_poll_records=None, cooperative=False, topics_age=5, commit_timeout=0.01
    )
    assert member.abandon()
    with pytest.raises(RetriableError, match="no answer"):
        member.commit({TopicPartition("t", 0): 3})
    assert not member.abandon()
    answered.set()
    eventually(member.abandon)
