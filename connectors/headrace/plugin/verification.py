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
    """One entry of a sink's system, as it is stored or as it is expected."""

    name: bytes
    """Readable and unique in the system, such as ``orders/42``."""
    version: int
    """Of two writes to one name the one with the higher version wins; -1: the later one wins."""
    digest: bytes
    """Digest of the content: equal contents have equal digests. Empty: the entry does not exist."""


class Verifier(ABC):
    """Compares the records of topics with the contents of a sink's system, for ``headrace verify``.

    Used from one thread. Every method may raise RetriableError, InfrastructureError and TaskError.
    """

    @abstractmethod
    def expected_entries(self, batch: SinkBatch) -> Sequence[StoredEntry | DataError | None]:
        """Return, for each record, the entry that it writes.

        The digest is empty for a deletion. None: the record changes nothing. DataError: it cannot be written.
        """

    @abstractmethod
    def stored_entries(self) -> Iterator[Sequence[StoredEntry]]:
        """Return all entries of the system in any order, a bounded number at a time.

        Called after :meth:`expected_entries` has received all records.
        """

    @abstractmethod
    def lookup(self, names: Sequence[bytes]) -> Mapping[bytes, StoredEntry]:
        """Return the current entries with these names. Names without an entry are left out."""

    @abstractmethod
    def write(self, batch: SinkBatch, present: Sequence[StoredEntry | None]) -> Sequence[Rejection]:
        """Repair: write these records over the entries in ``present`` (None: no entry). Newer entries are kept."""

    @abstractmethod
    def remove(self, surplus: Sequence[StoredEntry]) -> None:
        """Repair: delete these entries. Entries that have changed since they were read are kept."""

    def versions_are_offsets(self) -> bool:
        """Return whether versions are offsets, which says nothing about the order of records of several partitions."""
        return True

    def version_retention(self) -> float:
        """Return how many seconds the system remembers the version of a deleted entry.

        A repair that the system refused as outdated is tried again after them. 0: it would be refused again.
        """
        return 0.0

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""


class Rebuild(NamedTuple):
    """A new generation of a sink's data that is being written while the current one stays in use."""

    writers: Mapping[str, Mapping[str, str]]
    """By topic: the configuration of a task that writes the topic's records to the new generation."""
    positions: Mapping[TopicPartition, int]
    """The new generation contains all records before these offsets."""
    switched: bool
    """The new generation is in use already; records that arrived during the switch may still be missing."""


class Rebuilder(ABC):
    """Creates a new generation of a sink's data and replaces the current one, for ``headrace reindex``.

    Progress is stored in the sink's system: after a crash at any point, :meth:`begin` resumes.
    Used from one thread. Every method may raise RetriableError, InfrastructureError, TaskError and CommandError.
    """

    @abstractmethod
    def begin(self, topics: Sequence[str], *, rollback: bool) -> Rebuild:
        """Create the new generation, or resume one. ``rollback``: use the previous generation as the new one."""

    def prepare(self, batches: Sequence[SinkBatch]) -> bool:
        """Prepare the new generation for records that are about to be written to it.

        False: it cannot hold them together with its existing records, so :meth:`begin` creates it again, with a
        definition that fits both, and all records are written again. Must return True in the end, and always for a
        generation that is in use.
        """
        return True

    @abstractmethod
    def save_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store that the new generation contains all records before ``positions``."""

    @abstractmethod
    def entries(self, *, new: bool) -> Iterator[Sequence[StoredEntry]]:
        """Return all entries of the new or of the current generation, a bounded number at a time.

        An entry has the same name in both.
        """

    @abstractmethod
    def lookup(self, names: Sequence[bytes], *, new: bool) -> Mapping[bytes, StoredEntry]:
        """Return the entries with these names in the new or in the current generation."""

    @abstractmethod
    def copy(self, names: Sequence[bytes]) -> Sequence[DataError]:
        """Copy these entries of the current generation to the new one, with a version that every record replaces.

        Entries that are no longer there, and those that the new generation has already, are left out. Return one error
        for each entry that the new generation refuses.
        """

    @abstractmethod
    def switch(self, written: Mapping[TopicPartition, int]) -> None:
        """Replace the current generation by the new one, atomically for all readers and writers.

        ``written``: the current generation contains all records before these offsets; stored for a rollback.
        """

    @abstractmethod
    def finish(self) -> None:
        """Mark the rebuild as complete."""

    @abstractmethod
    def abort(self, topics: Sequence[str]) -> Sequence[str]:
        """Undo a rebuild that has not been switched. Return a phrase for each thing that was undone."""

    @abstractmethod
    def delete_previous_generations(self, topics: Sequence[str]) -> Sequence[str]:
        """Delete previous generations. Return their names."""

    @abstractmethod
    def describe(self, topics: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Return one row per generation: ``name``, ``generation``, ``state``, ``documents``."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""
