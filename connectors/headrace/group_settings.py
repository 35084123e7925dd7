"""Keys of a worker that is a member of a group: Kafka Connect's distributed mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from headrace.config import LOWER, ConfigModel, Duration, key, nearest, prefix_key
from headrace.errors import Finding
from headrace.exactly_once_settings import ExactlyOnceSupport

REQUIRED = ("group.id", "config.storage.topic", "offset.storage.topic", "status.storage.topic")


class WorkerGroupSettings(ConfigModel):
    """Keys of worker groups. Names are Kafka Connect's; defaults, too, where the documentation says nothing else."""

    group_id: str | None = key(
        "group.id",
        default=None,
        doc="Name of the worker group. Workers with the same name and the same three topics share all connectors. Not "
        "set: a standalone worker.",
        importance="high",
    )
    config_topic: str | None = key(
        "config.storage.topic",
        default=None,
        doc="Topic of the group's connector configurations. It is created with one partition, compacted.",
        importance="high",
    )
    offset_topic: str | None = key(
        "offset.storage.topic", default=None, doc="Topic of the group's source offsets, compacted.", importance="high"
    )
    status_topic: str | None = key(
        "status.storage.topic", default=None, doc="Topic of the group's statuses, compacted.", importance="high"
    )
    config_replication: int = key(
        "config.storage.replication.factor",
        default=-1,
        ge=-1,
        doc="Replication factor when the topic is created; -1 = the broker's default (Kafka Connect: 3).",
    )
    offset_replication: int = key(
        "offset.storage.replication.factor",
        default=-1,
        ge=-1,
        doc="Replication factor when the topic is created; -1 = the broker's default (Kafka Connect: 3).",
    )
    status_replication: int = key(
        "status.storage.replication.factor",
        default=-1,
        ge=-1,
        doc="Replication factor when the topic is created; -1 = the broker's default (Kafka Connect: 3).",
    )
    offset_partitions: int = key(
        "offset.storage.partitions", default=25, ge=-1, doc="Partitions of the topic when it is created."
    )
    status_partitions: int = key(
        "status.storage.partitions", default=5, ge=-1, doc="Partitions of the topic when it is created."
    )
    config_topic_settings: dict[str, str] = prefix_key(
        "config.storage.", doc="Further settings of the config topic when it is created (`min.insync.replicas`)."
    )
    offset_topic_settings: dict[str, str] = prefix_key(
        "offset.storage.", doc="Further settings of the offset topic when it is created."
    )
    status_topic_settings: dict[str, str] = prefix_key(
        "status.storage.", doc="Further settings of the status topic when it is created."
    )
    session_timeout: Duration = key(
        "session.timeout.ms",
        default=10_000,
        ge=1,
        doc="How long Kafka waits for a heartbeat before it removes a worker from the group.",
    )
    heartbeat_interval: Duration = key(
        "heartbeat.interval.ms", default=3_000, ge=1, doc="How often a worker sends heartbeats."
    )
    rebalance_timeout: Duration = key(
        "rebalance.timeout.ms", default=60_000, ge=1, doc="How long a rebalance waits for a worker."
    )
    sync_timeout: Duration = key(
        "worker.sync.timeout.ms",
        default=3_000,
        ge=1,
        doc="How long a worker that is behind waits for the config topic before the group tries again.",
    )
    rebalance_delay: Duration = key(
        "scheduled.rebalance.max.delay.ms",
        default=30_000,
        ge=0,
        doc="How long the connectors and tasks of a worker that has disappeared wait for its return before others take "
        "them over (Kafka Connect's default: 300000). A worker that is stopped hands them over at once.",
    )
    connect_protocol: Annotated[Literal["sessioned", "compatible"], LOWER] = key(
        "connect.protocol",
        default="sessioned",
        doc="Version of the group's protocol. `sessioned`: workers sign their requests to each other.",
    )

    group_mixed: bool = key(
        "group.mixed",
        default=False,
        doc="Whether workers of Kafka Connect may be in the group, too, for a trial. Otherwise a worker does not join "
        "a group of theirs, and one of theirs in a group of headrace gets no work (headrace's own).",
    )
    exactly_once: Annotated[ExactlyOnceSupport, LOWER] = key(
        "exactly.once.source.support",
        default="disabled",
        doc="`enabled`: sources write records and positions in transactions (KIP-618). All workers of a group must be "
        "`preparing` or `enabled` before the first one is `enabled`.",
    )

    def group_problems(self) -> Iterable[Finding]:
        """Yield findings about sets of keys that are incomplete or contradict each other."""
        values: Mapping[str, str | None] = dict(
            zip(REQUIRED, (self.group_id, self.config_topic, self.offset_topic, self.status_topic), strict=True)
        )
        given = [name for name, value in values.items() if value]
        if given:
            for name in REQUIRED:
                if not values[name]:
                    text = (
                        f'Missing required configuration "{name}": a worker of a group also needs it, and '
                        f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} set"
                    )
                    yield Finding("config.missing_key", text, name, f"set all of {', '.join(REQUIRED)}, or none")
        elif self.exactly_once != "disabled":
            text = (
                f"exactly.once.source.support={self.exactly_once} needs a worker group: a standalone worker stores "
                "offsets in a file, which cannot be part of a transaction in Kafka"
            )
            hint = f"set {', '.join(REQUIRED)}; a group may have one worker"
            yield Finding("config.conflict", text, "exactly.once.source.support", hint)
        yield from self._unknown_storage_keys(bool(given))
        topics = [topic for topic in (self.config_topic, self.offset_topic, self.status_topic) if topic]
        if len(set(topics)) < len(topics):
            text = "config.storage.topic, offset.storage.topic and status.storage.topic must be three topics"
            yield Finding("config.conflict", text, "config.storage.topic", "name another topic")
        if self.heartbeat_interval * 2 > self.session_timeout:
            text = (
                f"heartbeat.interval.ms ({self.heartbeat_interval}) must be at most half of session.timeout.ms "
                f"({self.session_timeout}): one late heartbeat would remove the worker from its group"
            )
            yield Finding("config.conflict", text, "heartbeat.interval.ms", "set a third of session.timeout.ms")

    def _unknown_storage_keys(self, grouped: bool) -> Iterable[Finding]:
        """Only a worker of a group creates topics, and settings of topics do not begin with ``file.``."""
        names = [item.name for item in self.definitions() if ".storage." in item.name]
        for prefix, settings in (
            ("config.storage.", self.config_topic_settings),
            ("offset.storage.", self.offset_topic_settings),
            ("status.storage.", self.status_topic_settings),
        ):
            for name in settings:
                if not grouped or name.startswith("file."):
                    text = f"unknown configuration key '{prefix}{name}'"
                    yield Finding("config.unknown_key", text, prefix + name, nearest(prefix + name, names))
