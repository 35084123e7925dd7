"""Choose the Kafka client of a worker: librdkafka when it is installed, else kafka-python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.broker.client_traffic import TrafficRegistry
from headrace.broker.connector_clients import ClientKind
from headrace.broker.group_member import GroupCallbacks, GroupTimeouts, WorkerGroupMember
from headrace.broker.interfaces import KafkaClients
from headrace.errors import ConfigError, Finding
from headrace.settings import KafkaClient

_EXTRA = "pip install 'headrace[fast]'"


@dataclass(frozen=True)
class ClientChoice:
    """The chosen client. ``name``: as in ``kafka.client``; ``title``: with its version; ``reason``: why."""

    name: KafkaClient
    title: str
    reason: str
    _kind: type[KafkaClients]
    _translate: Callable[[Mapping[str, str], Mapping[str, str], str], object]

    def findings(self, shared: Mapping[str, str], own: Mapping[str, str], kind: ClientKind) -> list[Finding]:
        """Return the findings about a client's settings, without creating it; keys as in ``shared`` and ``own``."""
        try:
            self._translate(shared, own, kind)
        except ConfigError as error:
            return list(error.findings)
        return []

    def open(self, settings: Mapping[str, str], traffic: TrafficRegistry | None = None) -> KafkaClients:
        """Return the client factory. ``settings`` are shared by all its clients.

        ``traffic``: where librdkafka's clients report what they send and receive; kafka-python has no such counters.
        """
        if traffic is None or self.name != "confluent":
            return self._kind(settings)  # type: ignore[call-arg]
        return self._kind(settings, traffic)  # type: ignore[call-arg]


def choose(setting: KafkaClient) -> ClientChoice:
    """Return the client for the value of ``kafka.client``. Raise ConfigError when it is not installed."""
    if setting == "kafka-python":
        return _kafka_python("kafka.client")
    try:
        from headrace.broker.librdkafka import TITLE, LibrdkafkaClients, translate
    except ImportError as error:  # not installed, or its C library does not fit this system
        if setting == "confluent":
            text = f"kafka.client is confluent, and confluent-kafka cannot be imported: {error}"
            finding = Finding("kafka.client_missing", text, "kafka.client", f"run {_EXTRA}, or remove kafka.client")
            raise ConfigError(findings=[finding]) from error
        text = "confluent-kafka is not installed; kafka-python takes about twice its CPU time for each record"
        return _kafka_python(f"{text}: {_EXTRA}")
    reason = "kafka.client" if setting == "confluent" else "installed"
    return ClientChoice("confluent", TITLE, reason, LibrdkafkaClients, translate)


def open_group_member(
    settings: Mapping[str, str], group: str, protocol_type: str, callbacks: GroupCallbacks, timeouts: GroupTimeouts
) -> WorkerGroupMember:
    """Return a member of a worker group. It is always kafka-python's: librdkafka joins groups of consumers only.

    ``settings``: of every Kafka client of the worker. Raise the errors of ``broker.interfaces``.
    """
    from headrace.broker.kafka_python.group_member import KafkaPythonGroupMember

    return KafkaPythonGroupMember(settings, group, protocol_type, callbacks, timeouts)


def _kafka_python(reason: str) -> ClientChoice:
    from headrace.broker.kafka_python import TITLE, KafkaPythonClients, translate

    return ClientChoice("kafka-python", TITLE, reason, KafkaPythonClients, translate)
