"""An in-memory Kafka for tests: partitions, consumer groups with rebalances, transactions, and faults on demand."""

from headrace.broker.in_memory.clients import InMemoryKafka
from headrace.broker.in_memory.consumer import InMemoryConsumer

__all__ = ["InMemoryConsumer", "InMemoryKafka"]
