"""Interfaces that a sink implements for ``headrace verify`` and ``headrace reindex``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.errors import DataError
from headrace.records import (
    Rejection,
    SinkBatch,
    TopicPartition,
)


class StoredEntry(NamedTuple):
    """What a sink's system holds under one name, or should hold."""

    name: bytes
    """Readable and unique in the system, as in ``orders/42``."""
    version: int
    """Of two writes under one name the one with the larger version counts; -1 = the later one does."""
    digest: bytes
    """Of the content: equal contents, equal digests. Empty = there is nothing under this name."""


class Verifier(ABC):
    """Says what records should have left in a sink's system and what is there, for ``headrace verify``.

    Used from one thread. Every method may raise RetriableError, InfrastructureError and TaskError.
    """

    @abstractmethod
    def expected(self, batch: SinkBatch) -> Sequence[StoredEntry | DataError | None]:
        """What each record leaves there, an empty digest for a deletion; None when it leaves all as it is, the
        reason when it cannot be written."""

    @abstractmethod
    def found(self) -> Iterator[Sequence[StoredEntry]]:
        """All that is there, in bounded portions, in any order. Called after ``expected`` has seen all records."""

    @abstractmethod
    def look(self, names: Sequence[bytes]) -> Mapping[bytes, StoredEntry]:
        """What is there now under some names; those with nothing are left out."""

    @abstractmethod
    def write(self, batch: SinkBatch, present: Sequence[StoredEntry | None]) -> Sequence[Rejection]:
        """Repair: write these records, though their places hold ``present`` (None = nothing); what is newer stays."""

    @abstractmethod
    def remove(self, surplus: Sequence[StoredEntry]) -> None:
        """Repair: remove these; what has changed meanwhile stays."""

    def patience(self) -> float:
        """Seconds after which a system that took a repair for something older will take it; 0 = it never will."""
        return 0.0

    @abstractmethod
    def close(self) -> None:
        """Release what the verifier has taken."""


class Rebuild(NamedTuple):
    """A second generation of what a sink has written, being made beside the present one."""

    writers: Mapping[str, Mapping[str, str]]
    """Topic → the configuration of a task that writes its records to the new generation."""
    positions: Mapping[TopicPartition, int]
    """All records before these are in the new generation already."""
    switched: bool
    """The new generation is in its place already; what came meanwhile is still to be written to it."""


class Rebuilder(ABC):
    """Makes a sink's second generation and puts it in the place of the first, for ``headrace reindex``.

    What has been done is remembered in the sink's system: after a crash at any point ``begin`` finds it and goes on.
    Used from one thread. Every method may raise RetriableError, InfrastructureError, TaskError and CommandError.
    """

    @abstractmethod
    def begin(self, topics: Sequence[str], *, back: bool) -> Rebuild:
        """Make the new generation, or find the one that was begun. ``back``: take the previous one for it."""

    @abstractmethod
    def keep(self, positions: Mapping[TopicPartition, int]) -> None:
        """Remember that all before these is written."""

    @abstractmethod
    def entries(self, *, new: bool) -> Iterator[Sequence[StoredEntry]]:
        """What is in the new or in the present generation, in bounded portions, under equal names in both."""

    @abstractmethod
    def look(self, names: Sequence[bytes], *, new: bool) -> Mapping[bytes, StoredEntry]:
        """What is there now under some names."""

    @abstractmethod
    def switch(self, written: Mapping[TopicPartition, int]) -> None:
        """Put the new generation in the place of the present one, at once for all readers and writers.

        ``written``: all before these is in the present one, remembered for the way back.
        """

    @abstractmethod
    def finish(self) -> None:
        """All is written: the rebuild is over."""

    @abstractmethod
    def abandon(self, topics: Sequence[str]) -> Sequence[str]:
        """Undo what was begun, before the switch. Returns what was undone."""

    @abstractmethod
    def tidy(self, topics: Sequence[str]) -> Sequence[str]:
        """Delete previous generations. Returns their names."""

    @abstractmethod
    def describe(self, topics: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Generations, a row each: ``name``, ``generation``, ``state``, ``documents``."""

    @abstractmethod
    def close(self) -> None:
        """Release what the rebuilder has taken."""
