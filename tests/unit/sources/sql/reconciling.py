"""Helpers for tests of deleted rows."""

from __future__ import annotations

from typing import Any

from headrace import SourceBatch
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from tests.sql_tasks import comparison_of


class Topic:
    """The last value of each key, as in a compacted topic."""

    def __init__(self) -> None:
        self.last: dict[Any, Any] = {}
        self.tombstones: list[Any] = []

    def take(self, batches: list[SourceBatch]) -> None:
        for batch in batches:
            for key, value in zip(batch.keys or [], batch.values, strict=True):
                name = tuple(key.values()) if isinstance(key, dict) else key
                if value is None:
                    self.tombstones.append(name)
                    self.last.pop(name, None)
                else:
                    self.last[name] = value


def settle(driver: SourceDriver, topic: Topic, keys: set[Any]) -> None:
    def settled() -> bool:
        """the topic holds just these keys"""
        topic.take(driver.drain())
        return set(topic.last) == keys

    eventually(settled)


def compare_once(driver: SourceDriver, topic: Topic) -> None:
    """Poll until a comparison has begun and ended."""
    comparison = comparison_of(driver)
    began = comparison.ledger.walk

    def ended() -> bool:
        """a comparison is over"""
        topic.take(driver.drain())
        return bool(comparison.ledger.walk > began) and not comparison.active

    eventually(ended)
