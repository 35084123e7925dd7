"""Clients of the in-memory Kafka; implements :class:`headrace.broker.interfaces.KafkaClients`."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.broker.in_memory.admin import InMemoryAdmin
from headrace.broker.in_memory.cluster import InMemoryCluster
from headrace.broker.in_memory.consumer import InMemoryConsumer
from headrace.broker.in_memory.producer import InMemoryProducer
from headrace.broker.in_memory.reader import InMemoryReader

_MAX_REQUEST_SIZE = 1_048_576  # bytes; Kafka's default


class InMemoryKafka(InMemoryCluster):
    """One Kafka cluster. Thread-safe; topics are created on first use with one partition, or by :meth:`create`.

    Faults, from any thread at any time: ``kafka.down = True`` (sends wait, polls are empty, everything else raises
    RetriableError), :meth:`fail_sends`, :meth:`fail_commits`, :meth:`fail_polls`, :meth:`hold_deliveries`.
    Rebalances are incremental: a member releases a partition in its next poll, then the new owner gets it.
    """

    def producer(self, settings: Mapping[str, str]) -> InMemoryProducer:
        """Supports ``max.request.size``."""
        self.require_up()
        return InMemoryProducer(self, int(settings.get("max.request.size", _MAX_REQUEST_SIZE)))

    def consumer(self, group: str, settings: Mapping[str, str]) -> InMemoryConsumer:
        """Supports ``auto.offset.reset`` (default earliest)."""
        self.require_up()
        return InMemoryConsumer(self, group, settings.get("auto.offset.reset", "earliest"))

    def admin(self, settings: Mapping[str, str]) -> InMemoryAdmin:
        del settings
        self.require_up()
        return InMemoryAdmin(self)

    def reader(self) -> InMemoryReader:
        self.require_up()
        return InMemoryReader(self)
