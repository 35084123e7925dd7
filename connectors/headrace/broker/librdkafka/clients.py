"""Create librdkafka's clients with headrace's defaults: full acknowledgement, no automatic commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, Producer, libversion
from confluent_kafka import version as client_version
from confluent_kafka.admin import AdminClient

from headrace.broker import java_settings
from headrace.broker.client_traffic import ClientRole, TrafficRegistry
from headrace.broker.librdkafka import settings as kafka_settings
from headrace.broker.librdkafka.admin import LibrdkafkaAdmin
from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.consumer import LibrdkafkaConsumer
from headrace.broker.librdkafka.open_client import CRITICAL, C, open_client
from headrace.broker.librdkafka.producer import LibrdkafkaProducer
from headrace.broker.librdkafka.reader import LibrdkafkaReader
from headrace.broker.librdkafka.transactional_producer import LibrdkafkaTransactionalProducer

TITLE = f"confluent-kafka {client_version()}, librdkafka {libversion()[0]}"

_BOOTSTRAP_TIMEOUT_MS = 5_000  # the caller retries, and reports why
_METADATA_AGE_MS = 5_000  # delay until a new topic that matches a pattern is read
_STATISTICS_MS = 5_000  # of clients whose traffic is reported
_SHARED = {
    kafka_settings.BOOTSTRAP_TIMEOUT: _BOOTSTRAP_TIMEOUT_MS,
    "reconnect.backoff.max.ms": 1_000,  # Kafka's own default
}
_PRODUCER = {
    **_SHARED,
    "acks": "all",
    "batch.size": 262_144,
    "delivery.report.only.error": True,
    "delivery.timeout.ms": 0,  # unlimited, as in Kafka Connect: no outage, of any length, loses or reorders records
    "enable.idempotence": True,
    "linger.ms": 5,
    "message.max.bytes": 1_048_576,  # Java's max.request.size
    "partitioner": "murmur2_random",  # as in Java: every client sends a key to the same partition
    "queue.buffering.max.messages": 0,  # unlimited: headrace bounds the bytes in flight
    "socket.timeout.ms": 30_000,  # Java's request.timeout.ms; then librdkafka reconnects
}
_CONSUMER = {
    **_SHARED,
    "allow.auto.create.topics": True,  # Java's default, as the next one
    "check.crcs": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Pause of fetching once the read-ahead is full; during librdkafka's default of 1 s a fast sink runs out of records.
    "fetch.queue.backoff.ms": 50,
    "max.partition.fetch.bytes": 4_194_304,
    kafka_settings.METADATA_AGE: _METADATA_AGE_MS,
    kafka_settings.READ_AHEAD: 16_384,  # librdkafka's default of 64 MB would apply to each task
    "socket.timeout.ms": 10_000,  # limits a commit whose coordinator does not respond
    "statistics.interval.ms": 2_000,  # the only way to detect that a broker is back
    "topic.metadata.refresh.interval.ms": _METADATA_AGE_MS,
}

_READER = {
    **_CONSUMER,
    "enable.partition.eof": True,
    # The end of a partition is known when a request that finds nothing has returned. With the default of 500 ms,
    # reading a table of several partitions to its end takes seconds.
    "fetch.wait.max.ms": 100,
}


class LibrdkafkaClients:
    """See :class:`headrace.broker.interfaces.KafkaClients`.

    ``settings`` are shared by all clients: ``bootstrap.servers``, ``security.protocol`` and the like. Names are those
    of Kafka; librdkafka's own names are accepted, too. An unknown or invalid setting is a ConfigError, raised when a
    client is created.
    """

    def __init__(self, settings: Mapping[str, str], traffic: TrafficRegistry | None = None) -> None:
        """``traffic``: where clients report what they send and receive; None: they do not."""
        self._settings = dict(settings)
        self._traffic = traffic

    def sharing(self, settings: Mapping[str, str]) -> LibrdkafkaClients:
        return LibrdkafkaClients(settings, self._traffic)

    def producer(self, settings: Mapping[str, str]) -> LibrdkafkaProducer:
        """Default ``linger.ms`` is 5, ``delivery.timeout.ms`` unlimited."""
        properties, timeout = self._properties(settings, kafka_settings.PRODUCER, _PRODUCER)

        def open_producer() -> tuple[Producer, BrokerMonitor]:
            return self._opened("producer", Producer, properties, timeout)

        return LibrdkafkaProducer(open_producer)

    def consumer(self, group: str, settings: Mapping[str, str]) -> LibrdkafkaConsumer:
        """Defaults: earliest, read_committed, ``metadata.max.age.ms`` 5000."""
        properties, timeout = self._properties(settings, kafka_settings.CONSUMER, _CONSUMER)
        limit = kafka_settings.take(properties, kafka_settings.MAX_POLL_RECORDS)
        client = self._opened("consumer", Consumer, {**properties, "group.id": group}, timeout, Consumer.close)
        return LibrdkafkaConsumer(
            client,
            group,
            max_poll_records=limit,
            cooperative=properties.get("partition.assignment.strategy") == "cooperative-sticky",
            topics_age=properties[kafka_settings.METADATA_AGE] / 1000,
        )

    def reader(self, settings: Mapping[str, str]) -> LibrdkafkaReader:
        own = java_settings.without_group(settings)
        properties, timeout = self._properties(own, kafka_settings.CONSUMER, _READER)
        kafka_settings.take(properties, kafka_settings.MAX_POLL_RECORDS)
        # librdkafka requires an id; nothing joins the group or commits to it.
        group = {"group.id": settings.get("group.id", "headrace-reader")}
        return LibrdkafkaReader(self._opened("consumer", Consumer, {**properties, **group}, timeout, Consumer.close))

    def transactional_producer(
        self, transactional_id: str, settings: Mapping[str, str]
    ) -> LibrdkafkaTransactionalProducer:
        properties, timeout = self._properties(settings, kafka_settings.PRODUCER, _PRODUCER)
        del properties["delivery.timeout.ms"]  # a transaction has its own timeout
        # librdkafka refuses a longer socket.timeout.ms than the transaction's, also if it is the default.
        longest = int(properties.get("transaction.timeout.ms", properties["socket.timeout.ms"]))
        properties["socket.timeout.ms"] = min(properties["socket.timeout.ms"], longest)
        transactional = {**properties, "transactional.id": transactional_id}
        return LibrdkafkaTransactionalProducer(self._opened("producer", Producer, transactional, timeout))

    def admin(self, settings: Mapping[str, str]) -> LibrdkafkaAdmin:
        properties, timeout = self._properties(settings, kafka_settings.ADMIN, _SHARED)

        def open_consumer(group: str) -> Consumer:
            return Consumer({**properties, "log_level": CRITICAL, "group.id": group, "enable.auto.commit": False})

        return LibrdkafkaAdmin(self._opened("admin_client", AdminClient, properties, timeout), open_consumer)

    def _opened(
        self,
        kind: ClientRole,
        make: Callable[[dict[str, Any]], C],
        properties: Mapping[str, Any],
        timeout: float,
        close: Callable[[C], object] = lambda client: None,
    ) -> tuple[C, BrokerMonitor]:
        if self._traffic is None:
            return open_client(make, properties, timeout, close)
        client, monitor = open_client(make, {"statistics.interval.ms": _STATISTICS_MS, **properties}, timeout, close)
        self._traffic.add(monitor, kind, properties.get("client.id", kind))
        return client, monitor

    def _properties(
        self, settings: Mapping[str, str], kind: str, defaults: Mapping[str, Any]
    ) -> tuple[dict[str, Any], float]:
        properties = kafka_settings.properties(self._settings, settings, kind, defaults)
        timeout = kafka_settings.take(properties, kafka_settings.BOOTSTRAP_TIMEOUT)
        return properties, (timeout if timeout is not None else _BOOTSTRAP_TIMEOUT_MS) / 1000
