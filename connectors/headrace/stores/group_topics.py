"""The three topics of a worker group: created with the right settings, and checked."""

from __future__ import annotations

from collections import Counter

from headrace.broker.interfaces import Admin, NewTopic
from headrace.errors import InfrastructureError, RetriableError
from headrace.settings import WorkerSettings

_COMPACT = {"cleanup.policy": "compact"}


def group_topics(settings: WorkerSettings) -> list[NewTopic]:
    """Return the topics as they are created: all compacted, that of configurations with one partition."""
    return [
        NewTopic(
            settings.config_topic or "",
            1,
            settings.config_replication,
            {**settings.config_topic_settings, **_COMPACT},
        ),
        NewTopic(
            settings.offset_topic or "",
            settings.offset_partitions,
            settings.offset_replication,
            {**settings.offset_topic_settings, **_COMPACT},
        ),
        NewTopic(
            settings.status_topic or "",
            settings.status_partitions,
            settings.status_replication,
            {**settings.status_topic_settings, **_COMPACT},
        ),
    ]


def ensure_topics(admin: Admin, topics: list[NewTopic]) -> None:
    """Create the topics that do not exist, and check the others.

    Raise RetriableError while they are not visible, InfrastructureError when a topic has other settings than a worker
    group needs: without compaction it would lose configurations and offsets by retention.
    """
    names = [topic.name for topic in topics]
    partitions = Counter(item.topic for item in admin.end_offsets(names))
    admin.create_topics([topic for topic in topics if topic.name not in partitions])
    partitions = Counter(item.topic for item in admin.end_offsets(names))
    missing = [name for name in names if name not in partitions]
    if missing:
        raise RetriableError(f"topic {missing[0]} was created, and is not visible yet", code="kafka.unreachable")
    configs = admin.topic_configs(names)
    for topic, key in zip(topics, ("config", "offset", "status"), strict=True):
        policy = configs.get(topic.name, {}).get("cleanup.policy", "compact")
        if policy != "compact":
            raise InfrastructureError(
                f"topic {topic.name} ({key}.storage.topic) has cleanup.policy={policy}, and a worker group would lose "
                "what it stores there",
                code="group.topic",
                hint=f"run kafka-configs --alter --topic {topic.name} --add-config cleanup.policy=compact, or name "
                "another topic",
            )
    if partitions[names[0]] != 1:
        raise InfrastructureError(
            f"topic {names[0]} (config.storage.topic) has {partitions[names[0]]} partitions, and configurations need "
            "one order",
            code="group.topic",
            hint="name another topic, which is created with one partition",
        )
