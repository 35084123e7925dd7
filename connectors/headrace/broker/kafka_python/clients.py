"""Create kafka-python's clients with headrace's defaults: full acknowledgement, no automatic commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kafka

from headrace.broker import java_settings
from headrace.broker.kafka_python import checksum
from headrace.broker.kafka_python import settings as kafka_settings
from headrace.broker.kafka_python.admin import KafkaPythonAdmin
from headrace.broker.kafka_python.connection import ClientHandle, quiet
from headrace.broker.kafka_python.consumer import KafkaPythonConsumer
from headrace.broker.kafka_python.error_mapping import translated
from headrace.broker.kafka_python.producer import KafkaPythonProducer
from headrace.broker.kafka_python.reader import KafkaPythonReader
from headrace.broker.kafka_python.transactional_producer import KafkaPythonTransactionalProducer
from headrace.errors import ConfigError, Finding

TITLE = f"kafka-python {kafka.__version__}"

_MEBIBYTE = 1_048_576
SHARED = {
    "bootstrap_timeout_ms": 5_000,  # the caller retries, and reports why
    "reconnect_backoff_max_ms": 1_000,  # Kafka's own default
}
_PRODUCER = {
    **SHARED,
    "acks": "all",
    "batch_size": 262_144,
    "delivery_timeout_ms": 2_147_483_647,  # as in Kafka Connect: no outage, of any length, loses or reorders records
    "linger_ms": 5,
    "max_block_ms": 5_000,
    "metrics_enabled": False,
}
_CONSUMER = {
    **SHARED,
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": 4 * _MEBIBYTE,
    "metadata_max_age_ms": 5_000,  # delay until a new topic that matches a pattern is read
    "metrics_enabled": False,
}


class KafkaPythonClients:
    """See :class:`headrace.broker.interfaces.KafkaClients`.

    ``settings`` are shared by all clients: ``bootstrap.servers``, ``security.protocol`` and the like. Names are those
    of Kafka; kafka-python's own names, with dots, are accepted, too. An unknown or invalid setting is a ConfigError,
    raised when a client is created.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)
        quiet()
        checksum.install()

    def sharing(self, settings: Mapping[str, str]) -> KafkaPythonClients:
        return KafkaPythonClients(settings)

    def producer(self, settings: Mapping[str, str]) -> KafkaPythonProducer:
        """Default ``linger.ms`` is 5, ``delivery.timeout.ms`` endless, ``max.block.ms`` 5000."""
        arguments = kafka_settings.arguments(self._settings, settings, kafka_settings.PRODUCER, _PRODUCER)
        return KafkaPythonProducer(lambda: open_client(kafka.KafkaProducer, arguments))

    def consumer(self, group: str, settings: Mapping[str, str]) -> KafkaPythonConsumer:
        """Defaults: earliest, read_committed, ``metadata.max.age.ms`` 5000."""
        arguments = kafka_settings.arguments(self._settings, settings, kafka_settings.CONSUMER, _CONSUMER)
        limit = arguments.get("max_poll_records")
        return KafkaPythonConsumer(open_client(kafka.KafkaConsumer, {**arguments, "group_id": group}), group, limit)

    def reader(self, settings: Mapping[str, str]) -> KafkaPythonReader:
        own = java_settings.without_group(settings)
        arguments = kafka_settings.arguments(self._settings, own, kafka_settings.CONSUMER, _CONSUMER)
        return KafkaPythonReader(open_client(kafka.KafkaConsumer, {**arguments, "group_id": None}))

    def transactional_producer(
        self, transactional_id: str, settings: Mapping[str, str]
    ) -> KafkaPythonTransactionalProducer:
        arguments = kafka_settings.arguments(self._settings, settings, kafka_settings.PRODUCER, _PRODUCER)
        del arguments["delivery_timeout_ms"]  # a transaction has its own timeout
        return KafkaPythonTransactionalProducer(
            open_client(kafka.KafkaProducer, {**arguments, "transactional_id": transactional_id})
        )

    def admin(self, settings: Mapping[str, str]) -> KafkaPythonAdmin:
        arguments = kafka_settings.arguments(self._settings, settings, kafka_settings.ADMIN, SHARED)
        return KafkaPythonAdmin(open_client(kafka.KafkaAdminClient, arguments))


def open_client(make: Callable[..., Any], arguments: dict[str, Any]) -> ClientHandle:
    """Create a client and connect it to a broker. Raise the errors of :mod:`headrace.broker.interfaces`."""
    if "bootstrap_servers" not in arguments:
        finding = Finding("kafka.missing_setting", "bootstrap.servers is not set", "bootstrap.servers", "name a broker")
        raise ConfigError(findings=[finding])
    client = ClientHandle(make, arguments)
    with translated(f"reach Kafka at {', '.join(arguments['bootstrap_servers'])}", client):
        try:
            client.open()
        except (ValueError, RuntimeError, ImportError) as error:
            # Found by kafka-python's own checks, or a library that it needs is not installed.
            finding = Finding("kafka.invalid_setting", f"invalid Kafka client settings: {error}")
            raise ConfigError(findings=[finding]) from error
    return client
