"""Creates the topics that a source writes to, by ``topic.creation.default.*`` (KIP-158)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from headrace.broker.interfaces import Admin, NewTopic
from headrace.errors import ConfigError, Finding

_PREFIX = "topic.creation.default."


class TopicCreator:
    """Creates each missing topic once. Without settings the broker creates topics, if it is configured to."""

    def __init__(self, open_admin: Callable[[], Admin], settings: Mapping[str, str]) -> None:
        self._open_admin = open_admin
        self._template = new_topic("", settings) if settings else None
        self._known: set[str] = set()

    def ensure(self, topic: str) -> None:
        """Create the topic if it is missing and there are settings. Raise RetriableError, InfrastructureError."""
        if self._template is None or topic in self._known:
            return
        create_topic(self._open_admin, replace(self._template, name=topic))
        self._known.add(topic)


def create_topic(open_admin: Callable[[], Admin], topic: NewTopic) -> None:
    """Create the topic if it is missing; an existing one is not changed."""
    admin = open_admin()
    try:
        admin.create_topics([topic])
    finally:
        admin.close()


def new_topic(name: str, settings: Mapping[str, str]) -> NewTopic:
    """Return the topic for ``partitions``, ``replication.factor`` and any other topic settings."""
    numbers = {}
    for key in ("partitions", "replication.factor"):
        try:
            numbers[key] = int(settings.get(key, "-1"))
        except ValueError as error:
            text = f"Invalid value {settings[key]} for configuration {_PREFIX}{key}: Not a number of type INT"
            raise ConfigError(findings=[Finding("config.invalid_value", text, _PREFIX + key)]) from error
    rest = {key: value for key, value in settings.items() if key not in numbers}
    return NewTopic(name, numbers["partitions"], numbers["replication.factor"], rest)
