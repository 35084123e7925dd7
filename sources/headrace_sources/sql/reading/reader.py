"""The interface between the scheduler and the readers.

Three strategies implement it: :class:`TableReader` reads by the cursor or all at once, :class:`BulkReader` by the
primary key, and :class:`FirstReader` first by the primary key and then by the cursor.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from headrace import SourceBatch
from headrace_sources.sql.access.session import Throttled
from headrace_sources.sql.reading.read_spec import ReadSpec


class ReadNext(Enum):
    """When a relation has to be read again."""

    SAME_CONNECTION = "at once, on the same connection: its result is open"
    AT_ONCE = "at once; no result is open"
    SOON = "in a moment: it waits for a transaction, or for Kafka"
    WHEN_DUE = "when its schedule says so"


class ReadStatus(NamedTuple):
    """The status of a reader. None and 0 where nothing has to be reported."""

    progress: str | None = None
    """Progress of a long read."""
    remaining: int = 0
    """Estimated number of rows that are still to be read."""
    single_connection: str | None = None
    """Why one connection reads although several are configured."""
    blocked: str | None = None
    """Which transaction holds the stored position back."""
    sequence: str | None = None
    """Why ids may have been restarted."""
    columns_gone: str | None = None
    """Which columns a change of the table has removed since the last status."""
    lag: tuple[int, int] | None = None
    """Milliseconds and rows that the stored position is behind; None while there is no cursor."""


class ParallelRows(Protocol):
    """Rows that several connections read ahead. Used from the task's thread."""

    @property
    def over(self) -> bool:
        """Whether all rows were returned."""
        ...

    @property
    def throttled(self) -> Throttled | None:
        """Why a thread does not query the database now."""
        ...

    def next_batch(self, timeout: float) -> SourceBatch | None:
        """Return the next batch; None when there is none within ``timeout`` seconds."""
        ...

    def acknowledged(self, batch: SourceBatch) -> None:
        """Note that ``batch`` is in Kafka."""
        ...


class RelationReader(Protocol):
    """Reads one relation, batch by batch. Used from the task's thread."""

    spec: ReadSpec

    @property
    def next(self) -> ReadNext:
        """When to call :meth:`read` again."""
        ...

    @property
    def parallel(self) -> ParallelRows | None:
        """The source of rows instead of :meth:`read`, until it is over."""
        ...

    @property
    def needs_own_connection(self) -> bool:
        """Whether other tables would wait for a result that is read on their connection."""
        ...

    def read(self, connection: Connection) -> SourceBatch | None:
        """Return the next batch; None when there is none for now. A batch without records only moves the position."""
        ...

    def status(self) -> ReadStatus:
        """Return the reader's status."""
        ...

    def close(self) -> None:
        """Close the open result and stop parallel reading. Reading resumes after the last batch that was returned."""
        ...
