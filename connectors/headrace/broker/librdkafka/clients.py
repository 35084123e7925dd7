"""Makes librdkafka's clients with defaults that fit headrace: all is acknowledged, nothing commits by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, Producer, libversion
from confluent_kafka import version as client_version
from confluent_kafka.admin import AdminClient

from headrace.broker.librdkafka import settings as kafka_settings
from headrace.broker.librdkafka.admin import LibrdkafkaAdmin
from headrace.broker.librdkafka.brokers import Brokers
from headrace.broker.librdkafka.client import CRITICAL, open_client
from headrace.broker.librdkafka.consumer import LibrdkafkaConsumer
from headrace.broker.librdkafka.producer import LibrdkafkaProducer

TITLE = f"confluent-kafka {client_version()}, librdkafka {libversion()[0]}"

_BOOTSTRAP_TIMEOUT_MS = 5_000  # the caller tries again, and says why
_METADATA_AGE_MS = 5_000  # a new topic that fits a pattern is noticed so soon
_SHARED = {
    kafka_settings.BOOTSTRAP_TIMEOUT: _BOOTSTRAP_TIMEOUT_MS,
    "reconnect.backoff.max.ms": 1_000,  # Kafka's own default
}
_PRODUCER = {
    **_SHARED,
    "acks": "all",
    "batch.size": 262_144,
    "delivery.report.only.error": True,
    "delivery.timeout.ms": 0,  # endless, as Kafka Connect: an outage of any length loses and reorders nothing
    "enable.idempotence": True,
    "linger.ms": 5,
    "message.max.bytes": 1_048_576,  # Java's max.request.size
    "partitioner": "murmur2_random",  # Java's: the same key goes to the same partition, whatever the client
    "queue.buffering.max.messages": 0,  # without limit: headrace bounds bytes in flight itself
    "socket.timeout.ms": 30_000,  # Java's request.timeout.ms; a broker that is silent for so long is dialled again
}
_CONSUMER = {
    **_SHARED,
    "allow.auto.create.topics": True,  # Java's default, as the next two
    "check.crcs": True,
    "isolation.level": "read_uncommitted",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # How long nothing is fetched once the read-ahead is full; in librdkafka's second a quick sink runs dry.
    "fetch.queue.backoff.ms": 50,
    "max.partition.fetch.bytes": 4_194_304,
    kafka_settings.METADATA_AGE: _METADATA_AGE_MS,
    "queued.max.messages.kbytes": 16_384,  # read ahead; librdkafka's default of 64 MB is per task
    "socket.timeout.ms": 10_000,  # a coordinator that is silent holds a commit no longer
    "statistics.interval.ms": 2_000,  # the only way to learn that a broker is well again
    "topic.metadata.refresh.interval.ms": _METADATA_AGE_MS,
}


class LibrdkafkaClients:
    """See :class:`headrace.broker.interfaces.Broker`.

    ``settings`` are meant for all clients: ``bootstrap.servers``, ``security.protocol`` and the like. Names are
    Kafka's; librdkafka's own also do. A setting that no client knows or understands is a ConfigError, raised when a
    client is made.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)

    def producer(self, settings: Mapping[str, str]) -> LibrdkafkaProducer:
        """Default ``linger.ms`` is 5, ``delivery.timeout.ms`` endless."""
        properties, timeout = self._properties(settings, kafka_settings.PRODUCER, _PRODUCER)

        def open_producer() -> tuple[Producer, Brokers]:
            return open_client(Producer, properties, timeout, lambda client: None)

        return LibrdkafkaProducer(open_producer)

    def consumer(self, group: str, settings: Mapping[str, str]) -> LibrdkafkaConsumer:
        """Default ``auto.offset.reset`` is earliest, ``metadata.max.age.ms`` 5000."""
        properties, timeout = self._properties(settings, kafka_settings.CONSUMER, _CONSUMER)
        limit = kafka_settings.take(properties, kafka_settings.MAX_POLL_RECORDS)
        client = open_client(Consumer, {**properties, "group.id": group}, timeout, Consumer.close)
        return LibrdkafkaConsumer(
            client,
            group,
            max_poll_records=limit,
            cooperative=properties.get("partition.assignment.strategy") == "cooperative-sticky",
            topics_age=properties[kafka_settings.METADATA_AGE] / 1000,
        )

    def admin(self, settings: Mapping[str, str]) -> LibrdkafkaAdmin:
        properties, timeout = self._properties(settings, kafka_settings.ADMIN, _SHARED)

        def open_consumer(group: str) -> Consumer:
            return Consumer({**properties, "log_level": CRITICAL, "group.id": group, "enable.auto.commit": False})

        return LibrdkafkaAdmin(open_client(AdminClient, properties, timeout, lambda client: None), open_consumer)

    def _properties(
        self, settings: Mapping[str, str], kind: str, defaults: Mapping[str, Any]
    ) -> tuple[dict[str, Any], float]:
        properties = kafka_settings.properties(self._settings, settings, kind, defaults)
        timeout = kafka_settings.take(properties, kafka_settings.BOOTSTRAP_TIMEOUT)
        return properties, (timeout if timeout is not None else _BOOTSTRAP_TIMEOUT_MS) / 1000
