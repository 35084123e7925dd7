"""A broker in memory, for tests of pipelines: real partitions, groups and rebalances, and faults on demand."""

from headrace.broker.in_memory.clients import InMemoryKafka
from headrace.broker.in_memory.consumer import InMemoryConsumer

__all__ = ["InMemoryConsumer", "InMemoryKafka"]
