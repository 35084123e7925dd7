"""Interfaces of connectors: they plan tasks and check configurations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from headrace.config import ConfigModel
from headrace.errors import Finding
from headrace.plugin.dashboards import DashboardData
from headrace.plugin.previews import Previewer
from headrace.plugin.tasks import SinkTask, SourceTask
from headrace.plugin.topics import ProducedTopic, TopicRequirements
from headrace.plugin.verification import Rebuilder, Verifier
from headrace.records import SourceOffset, SourcePartition


class SystemChoices(NamedTuple):
    """What a connector found in its system for a configuration that is being written."""

    values: Mapping[str, Sequence[str]] = {}
    """The values to choose from, by key."""
    findings: Sequence[Finding] = ()


class Connector(ABC):
    """Plans tasks and checks configurations; processes no records. Instances are short-lived and hold no state."""

    config_model: ClassVar[type[ConfigModel]]
    version: ClassVar[str] = "0.1.0"
    aliases: ClassVar[tuple[str, ...]] = ()
    """Class names of JVM connectors whose configuration files mean this connector."""
    lookup_keys: ClassVar[tuple[str, ...]] = ()
    """All keys that ``look_up`` reads: they decide which system it asks, and as which user. One that ends with a dot is
    a prefix. The first one is the key at which an error is shown. Empty: there is no ``look_up``."""

    @abstractmethod
    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """Return the configuration of each task, at most ``max_tasks``. May ask the system. Raise as ``start`` does."""

    def check(self, properties: Mapping[str, str]) -> Iterable[Finding]:
        """Return errors and warnings about the systems that the configuration names. Optional."""
        return ()

    def look_up(self, properties: Mapping[str, str]) -> SystemChoices:
        """Connect, and return values that keys may have, for example the names of tables. For validation over REST.

        ``properties`` has the keys of ``lookup_keys`` only, and not all of those that are required. The call must give
        up within 15 seconds. A HeadraceError becomes an error of the first of ``lookup_keys``.
        """
        return SystemChoices()


class SourceConnector(Connector):
    """A connector whose tasks read.

    What there is to read may change while it runs: with a ``watch_interval`` the framework calls ``follow`` that
    often, and restarts the tasks whose configurations have changed.
    """

    task_class: ClassVar[type[SourceTask]]

    def watch_interval(self, properties: Mapping[str, str]) -> float | None:
        """Return the seconds between two calls of ``follow``; None = what there is to read does not change."""
        return None

    def follow(
        self, properties: Mapping[str, str], max_tasks: int, present: Sequence[Mapping[str, str]]
    ) -> list[dict[str, str]]:
        """Return the configurations as :meth:`task_configs`, given the current ones, with as few changes as possible.

        May ask the system. Its errors are logged, and the tasks do not change until the next call.
        """
        return self.task_configs(properties, max_tasks)

    def exactly_once_problem(self, properties: Mapping[str, str]) -> str | None:
        """Return why the connector may send a record twice although records and positions are one transaction; None
        when it does not. Kafka Connect's ``exactlyOnceSupport``.

        None promises: with :attr:`SourceContext.exactly_once`, a task that starts at a stored position reads exactly
        what comes after the records that were sent before it. Does not connect; ``properties`` may be invalid.
        """
        del properties
        return "the connector does not say that it supports it"

    def produced_topics(self, properties: Mapping[str, str], *, connect: bool) -> Sequence[ProducedTopic]:
        """Return what is known of the topics that records are sent to. Optional; for ``headrace check``.

        ``connect``: whether to ask the system. Raise as ``start`` does.
        """
        return ()

    def preview_properties(self, properties: Mapping[str, str]) -> Mapping[str, str]:
        """Return a configuration with which a task reads and changes nothing. Optional; for ``headrace preview``."""
        return properties

    def offset_changes(
        self, properties: Mapping[str, str], changes: Sequence[tuple[SourcePartition, SourceOffset | None]]
    ) -> Sequence[tuple[SourcePartition, SourceOffset | None]]:
        """Return the changes to stored offsets to make when a user asks for ``changes`` (None deletes an offset).

        Called while the connector is stopped; Kafka Connect's ``alterOffsets``. An implementation raises ConfigError
        for a partition that no task would look for, or an offset that no task could use, and may replace a partition by
        the one that its tasks look for. It may ask the system. By default every change is made.
        """
        return changes

    def unusable_offsets(
        self, properties: Mapping[str, str], stored: Sequence[tuple[SourcePartition, SourceOffset]]
    ) -> Sequence[tuple[SourcePartition, str]]:
        """Return the partitions among ``stored``, perhaps by another program, from whose offsets no task would
        continue, each with the reason. Optional; for ``headrace migrate``. Does not connect.
        """
        return ()


class SinkConnector(Connector):
    """A connector whose tasks write."""

    task_class: ClassVar[type[SinkTask]]

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """Return the same configuration for every task: the consumer group divides the partitions among them."""
        return [dict(properties) for _ in range(max_tasks)]

    def topic_requirements(self, properties: Mapping[str, str], topic: str) -> TopicRequirements:
        """Return what the records of ``topic`` must be like. Optional; for ``headrace check``. Does not connect.

        Raise DataError for a topic whose records have no place to go to.
        """
        return TopicRequirements()

    def verifier(self, properties: Mapping[str, str]) -> Verifier | None:
        """For ``headrace verify``; None = this connector cannot be verified. Raises ConfigError."""
        return None

    def rebuilder(self, properties: Mapping[str, str]) -> Rebuilder | None:
        """For ``headrace reindex``; None = this connector cannot rebuild. Raises ConfigError."""
        return None

    def previewer(self, properties: Mapping[str, str]) -> Previewer | None:
        """For ``headrace preview``; None = it shows values, and not what becomes of them. Raises ConfigError."""
        return None

    def dashboard_data(self, properties: Mapping[str, str]) -> DashboardData | None:
        """For ``headrace kibana``; None = there are no dashboards over this sink's data. Raises ConfigError."""
        return None
