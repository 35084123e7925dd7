"""Topics and consumer groups through kafka-python's admin client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import uuid4

import kafka
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    GroupIdNotFoundError,
    KafkaError,
    NoError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata

from headrace.broker.interfaces import NO_TOPIC, NewTopic, group_in_use, wait_until_deleted
from headrace.broker.kafka_python.connection import ClientHandle, cluster_id
from headrace.broker.kafka_python.error_mapping import translate, translated
from headrace.errors import RetriableError
from headrace.records import TopicPartition
from headrace.retries import Backoff, RetryPolicy

T = TypeVar("T")

_WAIT_FOR_COORDINATOR = RetryPolicy(0.1, 0.5, timeout=10.0)
"""Until a group has a coordinator; a new cluster creates a topic first."""
_NO_COORDINATOR = (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError)


class KafkaPythonAdmin:
    """See :class:`headrace.broker.interfaces.Admin`. Its calls run on kafka-python's own thread, one after another."""

    def __init__(self, client: ClientHandle) -> None:
        self._client = client
        self._admin: kafka.KafkaAdminClient = client.client

    def cluster_id(self) -> str:
        with translated("describe the cluster", self._client):
            return cluster_id(self._admin)

    def topics(self) -> frozenset[str]:
        with translated("list the topics", self._client):
            found = self._admin.describe_topics()
        return frozenset(topic["name"] for topic in found if not topic["is_internal"])

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        wanted = {
            topic.name: {
                "num_partitions": topic.partitions,
                "replication_factor": topic.replication_factor,
                "configs": dict(topic.config),
            }
            for topic in topics
        }
        if not wanted:
            return
        doing = f"create {', '.join(wanted)}"
        with translated(doing, self._client):
            answers = self._admin.create_topics(wanted, raise_errors=False)["topics"]
        for answer in answers:
            kind = for_code(answer["error_code"])
            if answer["error_code"] and kind is not TopicAlreadyExistsError:
                raise translate(kind(answer.get("error_message")), f"create the topic {answer['name']}")
        with translated(doing, self._client):
            self._admin.wait_for_topics(list(wanted))

    def delete_topics(self, topics: Iterable[str]) -> None:
        names = list(topics)
        if not names:
            return
        with translated(f"delete {', '.join(names)}", self._client):
            answers = self._admin.delete_topics(names, raise_errors=False)["topics"]
        for answer in answers:
            kind = for_code(answer["error_code"])
            if answer["error_code"] and kind is not UnknownTopicOrPartitionError:
                raise translate(kind(answer.get("error_message")), f"delete the topic {answer['name']}")
        wait_until_deleted(self.topics, names)

    def end_offsets(self, topics: Sequence[str], *, committed: bool = True) -> dict[TopicPartition, int]:
        doing = f"read the end of {', '.join(topics)}"
        return self._offsets(topics, kafka.OffsetSpec.LATEST, doing, committed=committed)

    def begin_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return self._offsets(topics, kafka.OffsetSpec.EARLIEST, f"read the beginning of {', '.join(topics)}")

    def _offsets(
        self, topics: Sequence[str], which: kafka.OffsetSpec, doing: str, *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        isolation = kafka.IsolationLevel.READ_COMMITTED if committed else kafka.IsolationLevel.READ_UNCOMMITTED
        if not topics:
            return {}
        with translated(doing, self._client):
            found = self._admin.describe_topics(list(topics))
            partitions = {
                kafka.TopicPartition(topic["name"], partition["partition_index"]): which
                for topic in found
                if not topic["error_code"]
                for partition in topic["partitions"]
            }
            offsets = self._admin.list_partition_offsets(partitions, isolation) if partitions else {}
        return {TopicPartition(*partition): item.offset for partition, item in offsets.items()}

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = {kafka.TopicPartition(*item): offset for item, offset in offsets.items()}
        topics = ", ".join(sorted({item.topic for item in offsets}))
        with translated(f"delete records of {topics}", self._client):
            self._admin.delete_records(wanted)

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        if not topics:
            return {}
        with translated(f"read the ids of {', '.join(topics)}", self._client):
            found = self._admin.describe_topics(list(topics))
        ids = {topic["name"]: topic.get("topic_id") for topic in found if not topic["error_code"]}
        return {name: str(found) for name, found in ids.items() if found and str(found).strip("0-")}

    def topic_configs(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        if not topics:
            return {}
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
        with translated(f"read the settings of {', '.join(topics)}", self._client):
            found = self._admin.describe_configs(wanted, config_filter="all").get("topic", {})
        # A topic without settings: the broker has sent an error, which kafka-python does not show.
        return {
            name: {key: item["value"] for key, item in settings.items() if item["value"] is not None}
            for name, settings in found.items()
            if settings
        }

    def topic_operations(self, topics: Sequence[str]) -> dict[str, frozenset[str]]:
        if not topics:
            return {}
        with translated(f"read the operations that are allowed on {', '.join(topics)}", self._client):
            found = self._admin.describe_topics(list(topics))
        forbidden = {topic["name"] for topic in found if topic["error_code"] == TopicAuthorizationFailedError.errno}
        allowed = {
            topic["name"]: frozenset(topic["authorized_operations"])
            for topic in found
            if not topic["error_code"] and topic["authorized_operations"] is not None
        }
        return {**allowed, **dict.fromkeys(forbidden, frozenset())}

    def committed(self, group: str) -> dict[TopicPartition, int]:
        def ask() -> dict[kafka.TopicPartition, OffsetAndMetadata]:
            try:
                found: dict[kafka.TopicPartition, OffsetAndMetadata] = self._admin.list_group_offsets(group)[group]
            except GroupIdNotFoundError:
                return {}
            return found

        offsets = self._ask_coordinator(f"read the offsets of group {group}", ask)
        return {TopicPartition(*partition): found.offset for partition, found in offsets.items() if found.offset >= 0}

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        doing = f"move the offsets of group {group}"
        wanted = {kafka.TopicPartition(*place): OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}

        def ask() -> None:
            for kind in self._admin.alter_group_offsets(group, wanted).values():
                if kind is UnknownMemberIdError:
                    raise group_in_use(group)
                if kind is not NoError:
                    raise kind

        self._ask_coordinator(doing, ask)

    def may_read_as(self, group: str) -> bool:
        nowhere = kafka.TopicPartition(f"{NO_TOPIC}{uuid4().hex}", 0)

        def ask() -> bool:
            try:
                found = self._admin.alter_group_offsets(group, {nowhere: OffsetAndMetadata(0, "", -1)})
            except GroupAuthorizationFailedError:  # not even DESCRIBE: its coordinator is not told
                return False
            return GroupAuthorizationFailedError not in found.values()

        return self._ask_coordinator(f"commit the positions of group {group}", ask)

    def _ask_coordinator(self, doing: str, ask: Callable[[], T]) -> T:
        """Retry while the group has no coordinator: the first group of a cluster has to wait for one."""
        backoff = Backoff(_WAIT_FOR_COORDINATOR)
        while True:
            try:
                return ask()
            except KafkaError as error:
                failure = translate(error, doing, self._client.failure())
                # Not retry(): any other RetriableError is the caller's to retry.
                awaited = isinstance(error, _NO_COORDINATOR)
                wait = backoff.next_wait(failure) if awaited and isinstance(failure, RetriableError) else None
                if wait is None:
                    raise failure from error
            time.sleep(wait)

    def close(self) -> None:
        self._admin.close()
