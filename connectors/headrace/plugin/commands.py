"""The interface of commands that plugins add to ``headrace``.

An entry point in the group ``headrace.commands`` names a ``typer.Typer``. Its commands get a :class:`CommandContext`
as ``typer.Context.obj``, so that they print, redact and read Kafka as the other commands do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol


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
