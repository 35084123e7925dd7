"""A commit without a response times out, and the consumer is closed when the commit has ended."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace.broker.librdkafka.timed_commit import TimedCommit
from headrace.testing.waiting import eventually

PLACES = [TopicPartition("t", 0, 7)]


class FakeCommitConsumer:
    """A consumer whose commit blocks until ``let_go`` is set."""

    def __init__(self, error: KafkaException | None = None) -> None:
        self.let_go, self.closed, self._error = threading.Event(), threading.Event(), error

    def commit(self, offsets: Sequence[TopicPartition], *, asynchronous: bool) -> Sequence[TopicPartition]:
        assert not asynchronous
        self.let_go.wait()
        assert not self.closed.is_set(), "closed while a commit was in it"
        if self._error is not None:
            raise self._error
        return offsets

    def close(self) -> None:
        self.closed.set()


def commit(client: FakeCommitConsumer) -> TimedCommit:
    return TimedCommit(cast(Consumer, cast(Any, client)), PLACES)


def test_results_are_returned() -> None:
    client = FakeCommitConsumer()
    client.let_go.set()
    work = commit(client)
    assert work.answers(10) == PLACES
    assert not work.is_alive()
    assert not work.close_when_done()  # so the caller closes
    assert not client.closed.is_set()


def test_errors_are_raised() -> None:
    client = FakeCommitConsumer(KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION)))
    client.let_go.set()
    with pytest.raises(KafkaException):
        commit(client).answers(10)


def test_an_unanswered_commit_times_out_and_the_consumer_is_closed_when_it_ends() -> None:
    client = FakeCommitConsumer()
    work = commit(client)
    assert work.answers(0.01) is None
    assert work.is_alive()
    assert work.close_when_done()
    assert not client.closed.is_set()
    client.let_go.set()
    assert client.closed.wait(10)
    eventually(lambda: not work.is_alive())
