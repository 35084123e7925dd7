"""Topics and consumer groups of the in-memory Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace.broker.in_memory.cluster import InMemoryCluster
from headrace.broker.interfaces import NewTopic, group_in_use
from headrace.records import TopicPartition

_ALL_OPERATIONS = frozenset({"READ", "WRITE", "DESCRIBE"})


class InMemoryAdmin:
    """See :class:`headrace.broker.interfaces.Admin`."""

    def __init__(self, cluster: InMemoryCluster) -> None:
        self._cluster = cluster

    def cluster_id(self) -> str:
        self._cluster.require_up()
        return "in-memory"

    def topics(self) -> frozenset[str]:
        self._cluster.require_up()
        return frozenset(topic for topic in self._cluster.topics() if not topic.startswith("__"))

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        self._cluster.require_up()
        for topic in topics:
            self._cluster.create(topic.name, max(1, topic.partitions), topic.config)

    def delete_topics(self, topics: Iterable[str]) -> None:
        self._cluster.require_up()
        for topic in topics:
            self._cluster.delete(topic)

    def end_offsets(self, topics: Sequence[str], *, committed: bool = True) -> dict[TopicPartition, int]:
        self._cluster.require_up()
        with self._cluster.changed:
            partitions = [item for topic in topics for item in self._cluster.partitions_of(topic)]
            logs = {item: self._cluster.logs[item] for item in partitions}
            return {item: log.last_stable_offset if committed else log.high_watermark for item, log in logs.items()}

    def begin_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        self._cluster.require_up()
        with self._cluster.changed:
            partitions = [item for topic in topics for item in self._cluster.partitions_of(topic)]
            return {item: self._cluster.logs[item].start for item in partitions}

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._cluster.require_up()
        with self._cluster.changed:
            for item, offset in offsets.items():
                self._cluster.logs[item].delete_before(offset)

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        self._cluster.require_up()
        return {topic: found for topic in topics if (found := self._cluster.topic_id(topic)) is not None}

    def topic_configs(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        self._cluster.require_up()
        known = self._cluster.topics()
        return {topic: {"cleanup.policy": "delete", **known[topic]} for topic in topics if topic in known}

    def topic_operations(self, topics: Sequence[str]) -> dict[str, frozenset[str]]:
        self._cluster.require_up()
        known = self._cluster.topics()
        return {topic: _ALL_OPERATIONS for topic in topics if topic in known}

    def committed(self, group: str) -> dict[TopicPartition, int]:
        self._cluster.require_up()
        return self._cluster.committed(group)

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        self._cluster.require_up()
        with self._cluster.changed:
            if self._cluster.groups[group].members:
                raise group_in_use(group)
            self._cluster.groups[group].committed.update(offsets)

    def may_read_as(self, group: str) -> bool:
        self._cluster.require_up()
        return True

    def close(self) -> None:
        pass
