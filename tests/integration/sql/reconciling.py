"""A task of table ``t`` that compares keys continuously, on any database, and the records that it has sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from headrace import SourceBatch
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from tests.sql_tasks import comparison_of


def drivers(url: str, folder: Path) -> Iterator[Callable[..., SourceDriver]]:
    """Yield ``start(**keys)`` for a fixture; ``_`` in names stands for dots, and all are stopped after the test."""
    with ExitStack() as stop:

        def start(**keys: str) -> SourceDriver:
            properties = {
                "connection.url": url,
                "table.whitelist": "t",
                "mode": "incrementing",
                "incrementing.column.name": "n",
                "topic.prefix": "",
                "poll.interval.ms": "10",
                "delete.detection": "reconcile",
                "delete.reconcile.schedule": "10",
                "delete.max.fraction": "1",
                "delete.ledger.directory": str(folder / "ledgers"),
                **{name.replace("_", "."): value for name, value in keys.items()},
            }
            return stop.enter_context(SourceDriver(SqlSourceConnector, properties))

        yield start


class Records:
    """What a task has sent, in order.

    Polled one by one: where reading and comparing take longer than the pauses between them, something is always due.
    """

    def __init__(self, driver: SourceDriver) -> None:
        self._driver = driver
        self.sent: dict[str, int] = {}
        self.gone: list[str] = []

    def poll(self) -> None:
        if isinstance(batch := self._driver.poll(), SourceBatch):
            self._driver.store(batch)
            for key, value in zip(batch.keys or [], batch.values, strict=True):
                if value is None:
                    self.gone.append(repr(key))
                else:
                    self.sent[repr(key)] = value["n"]

    def wait_for(self, what: Callable[[], bool]) -> None:
        def seen() -> bool:
            """what was waited for"""
            self.poll()
            return what()

        eventually(seen)

    def compare(self) -> Any:
        """Poll until a comparison has begun and ended."""
        comparison = comparison_of(self._driver)
        began = comparison.ledger.walk
        self.wait_for(lambda: comparison.ledger.walk > began and not comparison.active)
        return comparison
