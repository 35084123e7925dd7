"""A task of table ``t`` that compares keys all the time, on whichever database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector


def drivers(url: str, folder: Path) -> Iterator[Callable[..., SourceDriver]]:
    """For a fixture: ``start(**keys)``, ``_`` in names stands for dots; all are stopped when the test ends."""
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
