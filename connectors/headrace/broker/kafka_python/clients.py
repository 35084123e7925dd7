"""Makes kafka-python's clients with defaults that fit headrace: all is acknowledged, nothing commits by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kafka

from headrace.broker.kafka_python import settings as kafka_settings
from headrace.broker.kafka_python.admin import KafkaPythonAdmin
from headrace.broker.kafka_python.connection import Client, quiet
from headrace.broker.kafka_python.consumer import KafkaPythonConsumer
from headrace.broker.kafka_python.failures import translated
from headrace.broker.kafka_python.producer import KafkaPythonProducer
from headrace.errors import ConfigError, Finding

TITLE = f"kafka-python {kafka.__version__}"

_MEBIBYTE = 1_048_576
_SHARED = {
    "bootstrap_timeout_ms": 5_000,  # the caller tries again, and says why
    "reconnect_backoff_max_ms": 1_000,  # Kafka's own default
}
_PRODUCER = {
    **_SHARED,
    "acks": "all",
    "batch_size": 262_144,
    "delivery_timeout_ms": 2_147_483_647,  # as Kafka Connect: an outage of any length loses and reorders nothing
    "linger_ms": 5,
    "max_block_ms": 5_000,
    "metrics_enabled": False,
}
CONSUMER_DEFAULTS = {
    **_SHARED,
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "max_partition_fetch_bytes": 4 * _MEBIBYTE,
    "metadata_max_age_ms": 5_000,  # a new topic that fits a pattern is noticed so soon
    "metrics_enabled": False,
}


class KafkaPythonClients:
    """See :class:`headrace.broker.interfaces.Broker`.

    ``settings`` are meant for all clients: ``bootstrap.servers``, ``security.protocol`` and the like. Names are
    Kafka's; kafka-python's own also do, with dots. A setting that no client knows or understands is a ConfigError,
    raised when a client is made.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)
        quiet()

    def producer(self, settings: Mapping[str, str]) -> KafkaPythonProducer:
        """Default ``linger.ms`` is 5, ``delivery.timeout.ms`` endless, ``max.block.ms`` 5000."""
        arguments = kafka_settings.arguments(self._settings, settings, kafka_settings.PRODUCER, _PRODUCER)
        return KafkaPythonProducer(lambda: open_client(kafka.KafkaProducer, arguments))

    def consumer(self, group: str, settings: Mapping[str, str]) -> KafkaPythonConsumer:
        """Default ``auto.offset.reset`` is earliest, ``metadata.max.age.ms`` 5000."""
        arguments = kafka_settings.arguments(self._settings, settings, kafka_settings.CONSUMER, CONSUMER_DEFAULTS)
        limit = arguments.get("max_poll_records")
        return KafkaPythonConsumer(open_client(kafka.KafkaConsumer, {**arguments, "group_id": group}), group, limit)

    def admin(self, settings: Mapping[str, str]) -> KafkaPythonAdmin:
        arguments = kafka_settings.arguments(self._settings, settings, kafka_settings.ADMIN, _SHARED)
        return KafkaPythonAdmin(open_client(kafka.KafkaAdminClient, arguments))


def open_client(make: Callable[..., Any], arguments: dict[str, Any]) -> Client:
    """A client that has reached a broker. Raises as the broker ports say."""
    if "bootstrap_servers" not in arguments:
        finding = Finding("kafka.missing_setting", "bootstrap.servers is not set", "bootstrap.servers", "name a broker")
        raise ConfigError(findings=[finding])
    client = Client(make, arguments)
    with translated(f"reach Kafka at {', '.join(arguments['bootstrap_servers'])}", client):
        try:
            client.open()
        except (ValueError, RuntimeError, ImportError) as error:
            # What only the library's own checks find, or a library that it needs and that is not installed.
            finding = Finding("kafka.invalid_setting", f"invalid Kafka client settings: {error}")
            raise ConfigError(findings=[finding]) from error
    return client
