"""Read batches through librdkafka: records arrive in bulk, rebalances on the polling thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import repeat
from operator import is_not
from typing import Any

import confluent_kafka
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message

from headrace.broker.interfaces import GroupMetadata, RebalanceListener
from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.error_mapping import translate, translated
from headrace.broker.librdkafka.timed_commit import TimedCommit
from headrace.errors import RetriableError
from headrace.patterns import Pattern, compile_pattern
from headrace.records import ConsumedBatch, TopicPartition

_LIST_TIMEOUT = 1.0  # seconds for the names of all topics; a group's heartbeat has its own thread
_COMMIT_TIMEOUT = 5.0  # seconds; kafka-python's, too
# librdkafka recovers from these by itself.
_TRANSIENT = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._PARTITION_EOF,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._WAIT_COORD,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


class LibrdkafkaConsumer:
    """See :class:`headrace.broker.interfaces.Consumer`.

    Callbacks never raise: librdkafka would discard the records that it has fetched, and continue after them. A
    listener's exception is raised by the next poll, after the records have been delivered.
    """

    def __init__(
        self,
        client: tuple[Consumer, BrokerMonitor],
        group: str,
        *,
        max_poll_records: int | None,
        cooperative: bool,
        topics_age: float,
        commit_timeout: float = _COMMIT_TIMEOUT,
    ) -> None:
        """``topics_age``: seconds between two searches for new topics that match a pattern."""
        self._consumer, self._monitor = client
        self._group = group
        self._max_poll_records = max_poll_records
        self._cooperative = cooperative
        self._topics_age = topics_age
        self._commit_timeout = commit_timeout
        self._listener = RebalanceListener(lambda _: None, lambda _: None)
        self._pattern: Pattern | None = None
        self._subscribed: list[str] = []
        self._next_topic_search = 0.0
        self._paused = False
        self._paused_only: frozenset[TopicPartition] = frozenset()
        self._closed = False
        self._revoked: set[TopicPartition] = set()  # during the current poll
        self._error: Exception | None = None
        self._commit: TimedCommit | None = None  # the last one that was made outside of callbacks
        self._in_callback = False

    def subscribe(self, topics: Sequence[str], pattern: str | None, listener: RebalanceListener) -> None:
        self._listener = listener
        if pattern is None:
            self._subscribe(list(topics))
        else:
            # librdkafka's regular expressions are others, and do not say why they are refused.
            self._pattern = compile_pattern(pattern)
            self._next_topic_search = 0.0

    def _subscribe(self, topics: list[str]) -> None:
        self._subscribed = topics
        with translated(f"subscribe to {', '.join(topics)}", self._monitor):
            self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke)

    def _follow_pattern(self, pattern: Pattern) -> None:
        if time.monotonic() < self._next_topic_search:
            return
        self._next_topic_search = time.monotonic() + self._topics_age
        try:
            found = self._consumer.list_topics(timeout=_LIST_TIMEOUT).topics
        except KafkaException:
            return  # the next search may succeed; connection_problem() returns the reason
        matching = sorted(name for name in found if pattern.fullmatch(name))
        if matching and matching != self._subscribed:
            self._subscribe(matching)

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        limit = min(max_records, self._max_poll_records or max_records)
        if self._pattern is not None:
            self._follow_pattern(self._pattern)
        messages = self._consume(timeout, limit)
        good = messages
        # By identity: librdkafka's errors cannot be compared with None.
        if any(map(is_not, map(Message.error, messages), repeat(None))):
            good = [message for message in messages if message.error() is None]
            self._note_errors(messages)
        if not good and self._error is not None:
            error, self._error = self._error, None
            raise error
        if good:
            self._monitor.clear()
        return [consumed_batch(self._consumer, *found) for found in group_by_partition(good)]

    def _consume(self, timeout: float, limit: int) -> list[Message]:
        """Return what is buffered; else wait for the first record. ``consume`` itself waits until the batch is full."""
        self._revoked.clear()
        with translated(f"read as a member of group {self._group}", self._monitor):
            messages = self._consumer.consume(limit, 0)
            if messages or timeout <= 0:
                return messages
            first = self._consumer.consume(1, timeout)
            if not first or limit == 1:
                return first
            self._revoked.clear()
            rest = self._consumer.consume(limit - 1, 0)
        # librdkafka removes records of revoked partitions only from the batch that it is filling.
        return [item for item in first if _place(item) not in self._revoked] + rest

    def _note_errors(self, messages: Iterable[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None and not is_transient(error) and self._error is None:
                self._error = translate(error, f"read as a member of group {self._group}", self._monitor.failure())

    def _on_assign(self, consumer: Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        # First: a partition that is not assigned cannot be paused.
        if self._cooperative:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)
        if self._paused and partitions:
            consumer.pause(partitions)
        self._notify(self._listener.assigned, partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        self._notify(self._listener.revoked, partitions)
        self._revoked.update(_topic_partitions(partitions))
        self._paused_only -= self._revoked

    def _notify(
        self,
        listener: Callable[[Sequence[TopicPartition]], None],
        partitions: Iterable[confluent_kafka.TopicPartition],
    ) -> None:
        found = _topic_partitions(partitions)
        if not found or self._closed:
            return
        self._in_callback = True
        try:
            listener(found)
        except Exception as error:  # raised by poll
            self._error = self._error or error
        finally:
            self._in_callback = False

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = [confluent_kafka.TopicPartition(*place, offset) for place, offset in offsets.items()]
        doing = f"commit the positions of group {self._group}"
        if self._monitor.coordinator_away() or (self._commit is not None and self._commit.is_alive()):
            failure = self._monitor.failure()
            reason = failure.describe() if failure is not None else "the group's coordinator is unavailable"
            raise RetriableError(f"cannot {doing}: {reason}", code="kafka.unreachable")
        answers: Sequence[confluent_kafka.TopicPartition] | None
        with translated(doing, self._monitor):
            if self._in_callback:
                # Inside a callback only this thread may use librdkafka; the coordinator has just responded.
                answers = self._consumer.commit(offsets=wanted, asynchronous=False)
            else:
                self._commit = TimedCommit(self._consumer, wanted)
                answers = self._commit.answers(self._commit_timeout)
        if answers is None:
            text = f"cannot {doing}: no answer within {self._commit_timeout:g} s"
            raise RetriableError(text, code="kafka.unreachable")
        for answer in answers:
            if answer.error is not None:
                raise translate(answer.error, doing, self._monitor.failure())

    def group_metadata(self) -> GroupMetadata:
        return GroupMetadata(self._consumer.consumer_group_metadata())

    def pause_all(self) -> None:
        self._paused = True
        if assigned := self._consumer.assignment():
            self._consumer.pause(assigned)

    def resume_all(self) -> None:
        self._paused = False
        self._resume(self.assignment() - self._paused_only)

    def pause_only(self, partitions: Collection[TopicPartition]) -> None:
        assigned = self.assignment()
        before, self._paused_only = self._paused_only, assigned & set(partitions)
        # Pausing discards the fetched records of a partition, so one that is paused is not paused again.
        if added := self._paused_only - before:
            self._consumer.pause([confluent_kafka.TopicPartition(*item) for item in added])
        if not self._paused:
            self._resume(before & assigned - self._paused_only)

    def _resume(self, partitions: Collection[TopicPartition]) -> None:
        if partitions:
            self._consumer.resume([confluent_kafka.TopicPartition(*item) for item in partitions])

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        if topic_partition not in self.assignment():
            raise RetriableError(f"{topic_partition} belongs to another member", code="kafka.rebalance")
        with translated(f"go back to {topic_partition}:{offset}", self._monitor):
            self._consumer.seek(confluent_kafka.TopicPartition(*topic_partition, offset))

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(_topic_partitions(self._consumer.assignment()))

    def connection_problem(self) -> str | None:
        failure = self._monitor.failure()
        return failure.describe() if failure is not None else None

    def abandon(self) -> bool:
        # librdkafka retries a commit after its timeout here, and it cannot be cancelled.
        commit = self._commit
        return commit is None or not commit.is_alive()

    def close(self) -> None:
        if self._closed:
            return
        owned = sorted(self.assignment())
        try:
            if owned:
                self._listener.revoked(owned)
        finally:
            self._closed = True
            if self._commit is None or not self._commit.close_when_done():
                with translated(f"leave the group {self._group}", self._monitor):
                    self._consumer.close()


def is_transient(error: KafkaError) -> bool:
    """Return whether librdkafka recovers from the error by itself."""
    return error.code() in _TRANSIENT


def consumed_batch(consumer: Consumer, place: TopicPartition, messages: list[Message]) -> ConsumedBatch:
    """Return librdkafka's records of one partition as columns."""
    _, end = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(*place), cached=True)
    return ConsumedBatch(
        place,
        list(map(Message.offset, messages)),  # type: ignore[arg-type]
        list(map(Message.key, messages)),
        list(map(Message.value, messages)),
        [timestamp for _, timestamp in map(Message.timestamp, messages)],
        # An empty list per record would trigger Python's garbage collector every few hundred records.
        [fields or () for fields in map(Message.headers, messages)],  # type: ignore[misc]
        end if end != OFFSET_INVALID else None,
    )


def _place(message: Message) -> tuple[str | None, int | None]:
    return message.topic(), message.partition()


def _topic_partitions(partitions: Iterable[confluent_kafka.TopicPartition]) -> list[TopicPartition]:
    return sorted(TopicPartition(item.topic, item.partition) for item in partitions)


def group_by_partition(messages: list[Message]) -> Iterable[tuple[TopicPartition, list[Message]]]:
    """Return the records of each partition, in order; librdkafka interleaves partitions.

    With one topic no object is created per record: so many objects would trigger Python's garbage collector.
    """
    topics, numbers = set(map(Message.topic, messages)), set(map(Message.partition, messages))
    if len(topics) == len(numbers) == 1:
        return [(TopicPartition(topics.pop(), numbers.pop()), messages)]  # type: ignore[arg-type]
    found: dict[Any, list[Message]] = {}
    for place, message in zip(map(Message.partition if len(topics) == 1 else _place, messages), messages, strict=True):
        if place in found:
            found[place].append(message)
        else:
            found[place] = [message]
    return [(TopicPartition(*_place(group[0])), group) for group in found.values()]  # type: ignore[arg-type]
