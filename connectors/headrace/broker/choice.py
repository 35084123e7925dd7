"""Which Kafka client a worker uses: librdkafka when it is installed, else kafka-python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.broker.interfaces import Broker
from headrace.errors import ConfigError, Finding
from headrace.settings import KafkaClient

Kind = Literal["producer", "consumer", "admin"]

_EXTRA = "pip install 'headrace[fast]'"


@dataclass(frozen=True)
class Choice:
    """``name`` is one of ``kafka.client``'s, ``title`` says what it is with its version, ``reason`` why."""

    name: KafkaClient
    title: str
    reason: str
    _kind: type[Broker]
    _translate: Callable[[Mapping[str, str], Mapping[str, str], str], object]

    def mistakes(self, shared: Mapping[str, str], own: Mapping[str, str], kind: Kind) -> list[Finding]:
        """What is wrong with a client's settings, without making one; keys as they stand in ``shared`` and ``own``."""
        try:
            self._translate(shared, own, kind)
        except ConfigError as error:
            return list(error.findings)
        return []

    def open(self, settings: Mapping[str, str]) -> Broker:
        """A broker with settings that are meant for all its clients."""
        return self._kind(settings)  # type: ignore[call-arg]


def choose(wish: KafkaClient) -> Choice:
    """The client that ``kafka.client`` means here. Raises ConfigError when it is not installed."""
    if wish == "kafka-python":
        return _kafka_python("kafka.client")
    try:
        from headrace.broker.librdkafka import TITLE, LibrdkafkaClients, translate
    except ImportError as error:  # not installed, or its C library does not fit this system
        if wish == "confluent":
            finding = Finding(
                "kafka.client_missing", f"kafka.client is confluent, which does not work here: {error}", "kafka.client",
                f"{_EXTRA}, or leave kafka.client out",
            )  # fmt: skip
            raise ConfigError(findings=[finding]) from error
        return _kafka_python(f"confluent-kafka is not installed; it is faster: {_EXTRA}")
    reason = "kafka.client" if wish == "confluent" else "installed"
    return Choice("confluent", TITLE, reason, LibrdkafkaClients, translate)


def _kafka_python(reason: str) -> Choice:
    from headrace.broker.kafka_python import TITLE, KafkaPythonClients, translate

    return Choice("kafka-python", TITLE, reason, KafkaPythonClients, translate)
