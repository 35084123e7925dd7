"""The three topics of a worker group: created with the right settings, and checked, with what the worker may do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from headrace.broker.client_errors import acl_command
from headrace.broker.interfaces import Admin, NewTopic
from headrace.errors import Finding, InfrastructureError, RetriableError
from headrace.settings import WorkerSettings

_COMPACT = {"cleanup.policy": "compact"}
_KEYS = ("config.storage.topic", "offset.storage.topic", "status.storage.topic")
_NEEDED = ("READ", "WRITE")
"""Each of them includes DESCRIBE."""


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


def ensure_topics(admin: Admin, topics: Sequence[NewTopic]) -> list[Finding]:
    """Create the topics that do not exist, check the others, and return warnings.

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
    return required(topic_findings(admin, topics))


def required(findings: Iterator[Finding]) -> list[Finding]:
    """Return the warnings among the findings. Raise the first error as InfrastructureError."""
    warnings = []
    for finding in findings:
        if finding.severity == "error":
            raise InfrastructureError(finding.message, code=finding.code, hint=finding.hint)
        warnings.append(finding)
    return warnings


def topic_findings(admin: Admin, topics: Sequence[NewTopic]) -> Iterator[Finding]:
    """Yield what is wrong with the settings of the topics that exist."""
    names = [topic.name for topic in topics]
    partitions = Counter(item.topic for item in admin.end_offsets(names))
    configs = admin.topic_configs([name for name in names if name in partitions])
    for name, key in zip(names, _KEYS, strict=True):
        if name not in partitions:
            continue
        policy = configs.get(name, {}).get("cleanup.policy")
        if policy is None:
            yield _finding(
                "kafka.not_authorized",
                f"the cleanup.policy of topic {name} ({key}) is not checked: the worker's user has no DESCRIBE_CONFIGS "
                f"on TOPIC {name}",
                key,
                acl_command("topic", name, "DESCRIBE_CONFIGS"),
                severity="warning",
            )
        elif policy != "compact":
            yield _finding(
                "group.topic",
                f"topic {name} ({key}) has cleanup.policy={policy}, and a worker group would lose what it stores there",
                key,
                f"run kafka-configs --alter --topic {name} --add-config cleanup.policy=compact, or name another topic",
            )
        if key == _KEYS[0] and partitions[name] != 1:
            yield _finding(
                "group.topic",
                f"topic {name} ({key}) has {partitions[name]} partitions, and configurations need one order",
                key,
                "name another topic, which is created with one partition",
            )


def access_findings(admin: Admin, group: str, topics: Sequence[NewTopic]) -> Iterator[Finding]:
    """Yield the ACLs that the worker's user lacks for the group and its topics, each with the command that adds it."""
    names = [topic.name for topic in topics]
    operations = admin.topic_operations(names)
    for name, key in zip(names, _KEYS, strict=True):
        allowed = operations.get(name)
        for operation in _NEEDED if allowed is not None else ():
            if allowed is not None and operation not in allowed:
                text = f"cannot use topic {name} ({key}): the worker's user has no {operation} on TOPIC {name}"
                yield _finding("kafka.not_authorized", text, key, acl_command("topic", name, operation))
    if not admin.may_read_as(group):
        text = f"cannot join the worker group {group}: the worker's user has no READ on GROUP {group}"
        yield _finding("kafka.not_authorized", text, "group.id", acl_command("group", group, "READ"))


def _finding(code: str, text: str, key: str, hint: str, severity: str = "error") -> Finding:
    return Finding(code, text, key, hint, severity=severity, cause="environment")
