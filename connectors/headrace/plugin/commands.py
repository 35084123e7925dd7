"""The interface of commands that plugins add to ``headrace``.

An entry point in the group ``headrace.commands`` names a ``typer.Typer``. Its commands get a :class:`CommandContext`
as ``typer.Context.obj``, so that they print, redact and read Kafka as the other commands do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """A record that a command has read, decoded. ``timestamp`` is Kafka's, in epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: Any
    value: Any


class ConnectorAccess(Protocol):
    """A connector's configuration, and its topics by the Kafka client, the settings and the converters of its tasks.

    Methods raise ConfigError, NotFoundError when a topic does not exist, RetriableError when Kafka does not answer.
    """

    @property
    def name(self) -> str:
        """The name of the connector."""
        ...

    @property
    def properties(self) -> Mapping[str, str]:
        """Its own keys, without those of the framework."""
        ...

    def read(self, topics: Sequence[str]) -> Iterator[TopicRecord]:
        """Yield all committed records up to the current ends, by partition in order.

        Records that the converters refuse are left out, and their number is printed with an example.
        """
        ...

    def read_shared(self, topics: Sequence[str]) -> Iterator[TopicRecord]:
        """As :meth:`read`, for shared topics of stream applications, which hold plain JSON under keys that are text."""
        ...

    def write_shared(self, topic: str, key: str, value: Mapping[str, Any]) -> None:
        """Write a record to a shared topic, and wait until it is acknowledged."""
        ...


class CommandContext(Protocol):
    """What a plugin's command may do. Errors are raised as HeadraceError; the framework prints them."""

    def print(self, text: str) -> None:
        """Print a line of the result on stdout."""
        ...

    def note(self, text: str) -> None:
        """Print a line that is not a part of the result on stderr."""
        ...

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table on stdout, which ``awk`` can read."""
        ...

    def print_json(self, data: Any) -> None:
        """Print indented JSON on stdout."""
        ...

    def read_topics(self, worker: Path, topics: Sequence[str]) -> Iterator[bytes | None]:
        """Yield the values of all records of the topics up to their current ends, by partition in order.

        ``worker`` is a worker's file: its Kafka client and settings are used, without a consumer group. Raise
        ConfigError, NotFoundError when a topic does not exist, RetriableError when Kafka does not answer.
        """
        ...

    def connector(self, worker: Path, file: Path) -> ConnectorAccess:
        """Return access to the connector of a file, with the Kafka of a worker's file. Raise ConfigError."""
        ...
