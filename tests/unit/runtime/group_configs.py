"""A worker's keys of a group on the in-memory Kafka, and a source with four tasks."""

from __future__ import annotations

SOURCE = {"connector.class": "NumbersSource", "topic": "numbers", "tasks.max": "4"}
GROUP = {
    "group.id": "g",
    "config.storage.topic": "g-configs",
    "offset.storage.topic": "g-offsets",
    "status.storage.topic": "g-statuses",
    "scheduled.rebalance.max.delay.ms": "0",
}
