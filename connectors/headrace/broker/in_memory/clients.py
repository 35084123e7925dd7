"""Clients of the in-memory Kafka; implements :class:`headrace.broker.interfaces.KafkaClients`."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.broker.in_memory.admin import InMemoryAdmin
from headrace.broker.in_memory.cluster import InMemoryCluster
from headrace.broker.in_memory.consumer import InMemoryConsumer
from headrace.broker.in_memory.producer import InMemoryProducer
from headrace.broker.in_memory.reader import InMemoryReader
from headrace.broker.in_memory.transactions import InMemoryTransactionalProducer

_MAX_REQUEST_SIZE = 1_048_576  # bytes; Kafka's default


class InMemoryKafka(InMemoryCluster):
    """One Kafka cluster. Thread-safe; topics are created on first use with one partition, or by :meth:`create`.

    Faults, from any thread at any time: ``kafka.down = True`` (sends wait, polls are empty, everything else raises
    RetriableError), :meth:`fail_sends`, :meth:`fail_commits`, :meth:`fail_polls`, :meth:`hold_deliveries`.
    Rebalances are incremental: a member releases a partition in its next poll, then the new owner gets it.
    """

    def sharing(self, settings: Mapping[str, str]) -> InMemoryKafka:
        """The same cluster: it has no addresses and no users."""
        del settings
        return self

    def producer(self, settings: Mapping[str, str]) -> InMemoryProducer:
        """Supports ``max.request.size``."""
        self.require_up()
        return InMemoryProducer(self, int(settings.get("max.request.size", _MAX_REQUEST_SIZE)))

    def consumer(self, group: str, settings: Mapping[str, str]) -> InMemoryConsumer:
        """Supports ``auto.offset.reset`` (default earliest) and ``isolation.level`` (default read_committed)."""
        self.require_up()
        reset = settings.get("auto.offset.reset", "earliest")
        return InMemoryConsumer(self, group, reset, committed=_committed(settings))

    def admin(self, settings: Mapping[str, str]) -> InMemoryAdmin:
        del settings
        self.require_up()
        return InMemoryAdmin(self)

    def reader(self, settings: Mapping[str, str]) -> InMemoryReader:
        """Supports ``isolation.level`` (default read_committed)."""
        self.require_up()
        return InMemoryReader(self, committed=_committed(settings))

    def transactional_producer(
        self, transactional_id: str, settings: Mapping[str, str]
    ) -> InMemoryTransactionalProducer:
        """Supports ``max.request.size``."""
        self.require_up()
        limit = int(settings.get("max.request.size", _MAX_REQUEST_SIZE))
        return InMemoryTransactionalProducer(self, transactional_id, limit)


def _committed(settings: Mapping[str, str]) -> bool:
    return settings.get("isolation.level", "read_committed") == "read_committed"
