"""Topics and groups through kafka-python's admin client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import kafka
from kafka.errors import GroupIdNotFoundError, TopicAlreadyExistsError, for_code

from headrace.broker.kafka_python.connection import Client, cluster_id
from headrace.broker.kafka_python.failures import translate, translated
from headrace.broker.ports import NewTopic
from headrace.records import TopicPartition


class KafkaPythonAdmin:
    """See :class:`headrace.broker.ports.Admin`. Its calls run on kafka-python's own thread, one after another."""

    def __init__(self, client: Client) -> None:
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

    def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        if not topics:
            return {}
        with translated(f"read the end of {', '.join(topics)}", self._client):
            found = self._admin.describe_topics(list(topics))
            partitions = {
                kafka.TopicPartition(topic["name"], partition["partition_index"]): kafka.OffsetSpec.LATEST
                for topic in found
                if not topic["error_code"]
                for partition in topic["partitions"]
            }
            ends = self._admin.list_partition_offsets(partitions) if partitions else {}
        return {TopicPartition(*partition): end.offset for partition, end in ends.items()}

    def committed(self, group: str) -> dict[TopicPartition, int]:
        with translated(f"read the offsets of group {group}", self._client):
            try:
                offsets = self._admin.list_group_offsets(group)[group]
            except GroupIdNotFoundError:
                return {}
        return {TopicPartition(*partition): found.offset for partition, found in offsets.items() if found.offset >= 0}

    def close(self) -> None:
        self._admin.close()
