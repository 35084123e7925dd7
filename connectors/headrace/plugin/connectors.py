"""Interfaces of connectors: they plan tasks and check configurations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from headrace.config import ConfigModel
from headrace.errors import Finding
from headrace.plugin.tasks import SinkTask, SourceTask
from headrace.plugin.verification import Rebuilder, Verifier


class Connector(ABC):
    """Plans tasks and checks configurations; moves no data. Instances are short-lived and hold no state."""

    config_model: ClassVar[type[ConfigModel]]
    version: ClassVar[str] = "0.1.0"
    aliases: ClassVar[tuple[str, ...]] = ()
    """Class names of JVM connectors whose configuration files mean this connector."""

    @abstractmethod
    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """The configuration of each task, at most ``max_tasks``. May ask the system. Raises as ``start`` does."""

    def check(self, properties: Mapping[str, str]) -> Iterable[Finding]:
        """Touch the systems and tell what is wrong (errors) or unwise (warnings). Raises nothing for those."""
        return ()


class SourceConnector(Connector):
    """A connector whose tasks read.

    What it reads may change while it runs: with a ``watch_interval`` the framework asks it to ``follow`` that often,
    and restarts the tasks whose configurations are others than before.
    """

    task_class: ClassVar[type[SourceTask]]

    def watch_interval(self, properties: Mapping[str, str]) -> float | None:
        """Seconds between two looks at what there is to read; None = it does not change."""
        return None

    def follow(
        self, properties: Mapping[str, str], max_tasks: int, present: Sequence[Mapping[str, str]]
    ) -> list[dict[str, str]]:
        """As :meth:`task_configs`, but told what the tasks are now, and moving no more than needed.

        May ask the system. Whatever it raises is logged, and the tasks stay as they are until the next look.
        """
        return self.task_configs(properties, max_tasks)


class SinkConnector(Connector):
    """A connector whose tasks write."""

    task_class: ClassVar[type[SinkTask]]

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """Sinks divide partitions through the consumer group: every task gets the same configuration."""
        return [dict(properties) for _ in range(max_tasks)]

    def verifier(self, properties: Mapping[str, str]) -> Verifier | None:
        """For ``headrace verify``; None = this connector cannot tell. Raises ConfigError."""
        return None

    def rebuilder(self, properties: Mapping[str, str]) -> Rebuilder | None:
        """For ``headrace reindex``; None = this connector cannot rebuild. Raises ConfigError."""
        return None
