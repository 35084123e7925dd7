"""A broker in memory, for tests of pipelines: real partitions, groups and rebalances, and faults on demand."""

from headrace.broker.in_memory.broker import InMemoryBroker
from headrace.broker.in_memory.consumer import InMemoryConsumer

__all__ = ["InMemoryBroker", "InMemoryConsumer"]
