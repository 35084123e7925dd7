"""Topics and consumer groups through librdkafka's admin client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import uuid4

import confluent_kafka
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.admin import NewTopic as KafkaNewTopic  # type: ignore[attr-defined]

from headrace.broker.interfaces import NO_TOPIC, NewTopic, group_in_use, wait_until_deleted
from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.error_mapping import translate, translated
from headrace.broker.librdkafka.timed_commit import TimedCommit
from headrace.errors import RetriableError
from headrace.records import TopicPartition
from headrace.retries import wait_for

T = TypeVar("T")

_TIMEOUT = 5.0  # seconds for a response; the caller retries
_VISIBILITY_TIMEOUT = 30.0  # seconds until the brokers know a new topic and its leaders
_POLL_INTERVAL = 0.02  # seconds
_NO_LEADER = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.FENCED_LEADER_EPOCH)
_NOT_TOLD = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_INTERNAL = {"__consumer_offsets", "__transaction_state", "__share_group_state"}


class LibrdkafkaAdmin:
    """See :class:`headrace.broker.interfaces.Admin`."""

    def __init__(self, client: tuple[AdminClient, BrokerMonitor], open_consumer: Callable[[str], Consumer]) -> None:
        """``open_consumer`` returns a consumer that has the group's id and does not join it."""
        self._admin, self._monitor = client
        self._open_consumer = open_consumer

    def cluster_id(self) -> str:
        # describe_cluster asks the broker; cluster_id() would return a cached response.
        description = self._result(self._admin.describe_cluster(request_timeout=_TIMEOUT), "describe the cluster")
        self._admin.poll(0)  # runs the callback of statistics
        return str(description.cluster_id)

    def topics(self) -> frozenset[str]:
        with translated("list the topics", self._monitor):
            found = self._admin.list_topics(timeout=_TIMEOUT).topics
        return frozenset(found) - _INTERNAL

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        wanted = [
            KafkaNewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication_factor,
                config=dict(topic.config),
            )
            for topic in topics
        ]
        if not wanted:
            return
        answers = self._admin.create_topics(wanted, request_timeout=_TIMEOUT)
        for name, answer in answers.items():
            self._result(answer, f"create the topic {name}", KafkaError.TOPIC_ALREADY_EXISTS)
        self._wait_for(list(answers))

    def _wait_for(self, names: list[str]) -> None:
        doing = f"create {', '.join(names)}"
        if not _eventually(lambda: len(self._partitions(names, doing)) == len(names)):
            raise RetriableError(f"cannot {doing}: created, but not visible yet", code="kafka.unreachable")

    def delete_topics(self, topics: Iterable[str]) -> None:
        names = list(topics)
        if not names:
            return
        answers = self._admin.delete_topics(names, request_timeout=_TIMEOUT)
        for name, answer in answers.items():
            self._result(answer, f"delete the topic {name}", KafkaError.UNKNOWN_TOPIC_OR_PART)
        wait_until_deleted(self.topics, names)

    def end_offsets(self, topics: Sequence[str], *, committed: bool = True) -> dict[TopicPartition, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offsets(topics, latest, f"read the end of {', '.join(topics)}", committed=committed)

    def begin_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return self._offsets(topics, OffsetSpec.earliest(), f"read the beginning of {', '.join(topics)}")  # type: ignore[no-untyped-call]

    def _offsets(
        self, topics: Sequence[str], which: OffsetSpec, doing: str, *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        if not topics:
            return {}
        wanted = {
            confluent_kafka.TopicPartition(name, number): which
            for name, count in self._partitions(topics, doing).items()
            for number in range(count)
        }
        if not wanted:
            return {}
        found = _eventually(lambda: self._list_offsets(wanted, isolation, doing))
        if found is None:
            raise RetriableError(f"cannot {doing}: a partition has no leader", code="kafka.unreachable")
        return found

    def _list_offsets(
        self, wanted: Mapping[confluent_kafka.TopicPartition, OffsetSpec], isolation: IsolationLevel, doing: str
    ) -> dict[TopicPartition, int] | None:
        """Return the offset of each partition; None while one of them has no leader."""
        answers = self._admin.list_offsets(dict(wanted), isolation_level=isolation, request_timeout=_TIMEOUT)
        found = {place: self._result(answer, doing, *_NO_LEADER) for place, answer in answers.items()}
        if None in found.values():
            return None
        return {TopicPartition(place.topic, place.partition): item.offset for place, item in found.items()}

    def _partitions(self, topics: Sequence[str], doing: str) -> dict[str, int]:
        """Return the number of partitions of each existing topic, without creating topics."""
        answers = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT)
        found = {
            name: self._result(answer, doing, KafkaError.UNKNOWN_TOPIC_OR_PART) for name, answer in answers.items()
        }
        return {name: len(topic.partitions) for name, topic in found.items() if topic is not None}

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        wanted = [confluent_kafka.TopicPartition(*item, offset) for item, offset in offsets.items()]
        for item, answer in self._admin.delete_records(wanted, request_timeout=_TIMEOUT).items():
            self._result(answer, f"delete records of {item.topic}")

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        if not topics:
            return {}
        doing = f"read the ids of {', '.join(topics)}"
        answers = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT)
        found = {
            name: self._result(answer, doing, KafkaError.UNKNOWN_TOPIC_OR_PART) for name, answer in answers.items()
        }
        return {name: str(topic.topic_id) for name, topic in found.items() if topic is not None and topic.topic_id}

    def topic_configs(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        if not topics:
            return {}
        wanted = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        answers = self._admin.describe_configs(wanted, request_timeout=_TIMEOUT)
        doing = f"read the settings of {', '.join(topics)}"
        found = {resource.name: self._result(answer, doing, *_NOT_TOLD) for resource, answer in answers.items()}
        return {
            name: {key: item.value for key, item in settings.items() if item.value is not None}
            for name, settings in found.items()
            if settings is not None
        }

    def topic_operations(self, topics: Sequence[str]) -> dict[str, frozenset[str]]:
        if not topics:
            return {}
        answers = self._admin.describe_topics(
            TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=_TIMEOUT
        )
        doing = f"read the operations that are allowed on {', '.join(topics)}"
        found: dict[str, frozenset[str]] = {}
        for name, answer in answers.items():
            topic = self._result(answer, doing, *_NOT_TOLD)
            if topic is None:
                failure = answer.exception()
                assert failure is not None, "an expected error of the broker"
                if failure.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    found[name] = frozenset()
            elif topic.authorized_operations is not None:
                found[name] = frozenset(operation.name for operation in topic.authorized_operations)
        return found

    def committed(self, group: str) -> dict[TopicPartition, int]:
        # Through a consumer that joins nothing: the admin client's own call crashes the process when a broker responds
        # that it is not (or not yet) the group's coordinator, https://github.com/confluentinc/librdkafka/issues/5040.
        doing = f"read the offsets of group {group}"
        counts = self._partitions(sorted(self.topics()), doing)
        places = [confluent_kafka.TopicPartition(name, number) for name in counts for number in range(counts[name])]
        if not places:
            return {}
        consumer = self._open_consumer(group)
        try:
            with translated(doing, self._monitor):
                found = consumer.committed(places, timeout=_TIMEOUT)
        finally:
            consumer.close()
        for place in found:
            if place.error is not None:
                raise translate(place.error, doing, self._monitor.failure())
        return {TopicPartition(place.topic, place.partition): place.offset for place in found if place.offset >= 0}

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        doing = f"move the offsets of group {group}"
        for failure in self._commit(group, offsets, doing):
            if failure.code() == KafkaError.UNKNOWN_MEMBER_ID:
                raise group_in_use(group)
            raise translate(failure, doing, self._monitor.failure())

    def may_read_as(self, group: str) -> bool:
        nowhere = TopicPartition(f"{NO_TOPIC}{uuid4().hex}", 0)
        failures = self._commit(group, {nowhere: 0}, f"commit the positions of group {group}")
        return all(failure.code() != KafkaError.GROUP_AUTHORIZATION_FAILED for failure in failures)

    def _commit(self, group: str, offsets: Mapping[TopicPartition, int], doing: str) -> list[KafkaError]:
        """Commit offsets; return why some were refused. Raise RetriableError without an answer."""
        # Through a consumer, for the same reason.
        consumer = self._open_consumer(group)
        commit = TimedCommit(
            consumer, [confluent_kafka.TopicPartition(*place, offset) for place, offset in offsets.items()]
        )
        try:
            answers = commit.answers(_TIMEOUT)
        except KafkaException as error:
            return [error.args[0]]
        finally:
            if not commit.close_when_done():
                consumer.close()
        if answers is None:
            raise RetriableError(f"cannot {doing}: no answer within {_TIMEOUT:g} s", code="kafka.unreachable")
        return [answer.error for answer in answers if answer.error is not None]

    def _result(self, answer: Future[Any], doing: str, *expected: int) -> Any:
        """Return the response, or None for one of the ``expected`` errors."""
        try:
            return answer.result(2 * _TIMEOUT)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() in expected:
                return None
            with translated("", self._monitor):
                self._admin.poll(0)  # runs the error callback
            raise translate(reason, doing, self._monitor.failure()) from error
        except TimeoutError as error:
            raise RetriableError(f"cannot {doing}: no answer", code="kafka.unreachable") from error

    def close(self) -> None:
        """Nothing to do: the client is released with this object."""


def _eventually(state: Callable[[], T]) -> T:
    """Wait until the brokers know a new topic and its leaders. Errors pass: their retry is the caller's."""
    return wait_for(state, timeout=_VISIBILITY_TIMEOUT, interval=_POLL_INTERVAL)
