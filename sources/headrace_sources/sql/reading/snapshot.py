"""A table read from its beginning in the order of its primary key, by one connection or several, resumable.

In mode bulk each reading is one of these. In the other modes the first reading of a table is one, where several
connections are asked for; the table's position is then chosen *before* it, where nothing that is committed later can
fall behind (:meth:`TableCursor.outset`), and stored when all is in Kafka. Polling goes on from there, so what has
changed meanwhile comes after it. See docs/decisions/0080-snapshots-in-chunks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from headrace import SourceBatch
from headrace_sources.sql.access.session import Throttled
from headrace_sources.sql.cursor.offsets import partition_of, position_of
from headrace_sources.sql.cursor.table_cursor import TableCursor
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.reading.chunk_plan import Chunk, ChunkPlan, Record, chunk_plan_partition, split_at
from headrace_sources.sql.reading.paging import Reading
from headrace_sources.sql.reading.read_spec import Source, describe
from headrace_sources.sql.reading.reader_pool import ReaderPool, Within
from headrace_sources.sql.reading.split_points import split_points
from headrace_sources.sql.reading.table_reader import TableReader
from headrace_sources.sql.tables.queries import Bounds, has_more_than

_CHUNKS = 8
"""For each connection: none is left with much more to do than the others."""


@dataclass(frozen=True)
class Parallelism:
    """How many connections may read a table at a time, and how they are set to work on chunks."""

    threads: int
    start_readers: Callable[[Source, Sequence[Chunk], Within, int], ReaderPool]


class Snapshot:
    """One reading of a grid by a crew. Its rows come from :meth:`gather`, on no connection of the task's own."""

    def __init__(self, source: Source, record: Record, within: Within, crews: Parallelism) -> None:
        self._source = source
        self._record = record
        self._within = within
        self._crews = crews
        self._crew: ReaderPool | None = None
        self._reading = Reading(str(source.relation))
        self.told: str | None = None
        """How far it is, when there is something new to say."""
        self.over = False
        """Everything was read; the last batch says so to whoever stores it."""

    @property
    def remaining(self) -> int:
        """About how many rows are still to be read."""
        return self._reading.remaining or 0

    @property
    def waiting(self) -> Throttled | None:
        """Why a thread of the crew does not ask the database."""
        return self._crew.waiting if self._crew is not None else None

    def gather(self, timeout: float) -> SourceBatch | None:
        """The next batch that somebody has read; None when there is none within ``timeout`` seconds.

        Raises what reading raises; called again, it goes on behind what was gathered.
        """
        grid = self._record.grid
        if self._crew is None:
            self._crew = self._crews.start_readers(self._source, grid.chunks, self._within, self._crews.threads)
        try:
            part = self._crew.take(timeout)
        except BaseException:
            self.stop()
            raise
        if part is None:
            return None
        if self._source.ledger is not None and part.keys:
            self._source.ledger.add(part.keys)
        grid.reached(part.chunk, part.after, done=part.done)
        batch = part.batch
        self.over = not grid.chunks
        if self.over:
            self.stop()
            batch = batch or SourceBatch(self._source.topic, [])
        if batch is not None:
            self._record.stamp(batch)
            self.told = self._reading.went(len(batch), grid.share() or None)
        return batch

    def stop(self) -> None:
        """End the crew's work; what it has read ahead is forgotten."""
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.stop()


class BulkReader:
    """Mode bulk of a table with a primary key, as a :class:`TableReader`; a turn that is interrupted goes on.

    ``stored``: the turn that an earlier task has left.
    """

    def __init__(self, source: Source, database: Database, stored: ChunkPlan | None, crews: Parallelism) -> None:
        self.source = source
        self._database = database
        self._crews = crews
        self._table = TableReader(source, database, start=self._start)
        self._record = None if stored is None else recorded(source, stored, stored=True)
        self.snapshot: Snapshot | None = None
        """What gives the rows of this turn, if not :meth:`read`."""

    @property
    def open(self) -> bool:
        """Whether a result is being read."""
        return self._table.open

    @property
    def more(self) -> bool:
        """Whether the turn goes on."""
        return self._record is not None

    @property
    def soon(self) -> bool:
        """Never before it is due."""
        return False

    @property
    def long(self) -> bool:
        """Pages are short."""
        return False

    @property
    def told(self) -> str | None:
        """How far the turn is, when there is something new to say."""
        return self.snapshot.told if self.snapshot is not None else self._table.told

    @property
    def remaining(self) -> int:
        """About how many rows of the turn are still to be read."""
        return self.snapshot.remaining if self.snapshot is not None else self._table.remaining

    @property
    def alone(self) -> None:
        """Nothing but the table's size decides how many connections read it."""
        return None

    @property
    def progress(self) -> TableCursor:
        """Of the cursor, which there is none of."""
        return self._table.progress

    def read(self, connection: Connection) -> SourceBatch | None:
        """The next batch. None when there is none; also where :attr:`snapshot` gives this turn's rows."""
        if self._record is None:
            self._record = recorded(self.source, self._plan(connection), stored=False)
        grid = self._record.grid
        if len(grid.chunks) > 1:
            self.snapshot = Snapshot(self.source, self._record, None, self._crews)
            return None
        batch = self._table.read(connection)
        done = not self._table.open and not self._table.more
        grid.reached(grid.chunks[0], self._table.reached, done=done)
        if batch is None and done and self._record.stored:
            batch = SourceBatch(self.source.topic, [])
        if batch is not None:
            self._record.stamp(batch)
        if done:
            self._record = None
        return batch

    def gather(self, timeout: float) -> SourceBatch | None:
        """See :meth:`Snapshot.gather`."""
        assert self.snapshot is not None
        batch = self.snapshot.gather(timeout)
        if self.snapshot.over:
            self._record = self.snapshot = None
        return batch

    def acknowledged(self, batch: SourceBatch) -> None:
        """``batch`` is in Kafka."""

    def close(self) -> None:
        """Give up the open result."""
        self._table.close()

    def stop(self) -> None:
        """End what goes on beside the task."""
        if self.snapshot is not None:
            self.snapshot.stop()

    def _start(self) -> Bounds:
        chunk = self._record.grid.chunks[0] if self._record is not None else Chunk()
        return Bounds(
            key=self.source.unique,
            after_key=chunk.after,
            above=chunk.above,
            up_to=chunk.up_to,
            row_values=self._database.compares_rows,
        )

    def _plan(self, connection: Connection) -> ChunkPlan:
        grid = None
        if self._crews.threads > 1:
            grid = plan(connection, self.source, self._database, self._crews.threads, None, None)
        return grid or split_at(self.source.unique, [], self.source.config.mode)


class FirstReader:
    """A :class:`TableReader` whose first reading is a snapshot by several connections, where the table is large.

    ``stored``: the snapshot that an earlier task has left.
    """

    def __init__(self, source: Source, database: Database, stored: ChunkPlan | None, crews: Parallelism) -> None:
        self.source = source
        self._database = database
        self._crews = crews
        self._stored = stored
        self._table = TableReader(source, database)
        self._decided = False  # whether there is to be a snapshot
        self._record: Record | None = None
        self._last: SourceBatch | None = None  # when it is in Kafka, polling begins
        self.snapshot: Snapshot | None = None
        """What gives the rows, until the first reading is over."""

    @property
    def open(self) -> bool:
        """Whether a result is being read."""
        return self._table.open

    @property
    def more(self) -> bool:
        """Whether there is more that may be read at once."""
        interrupted = self._stored is not None and not self._decided
        return interrupted or self.snapshot is not None or self._table.more

    @property
    def soon(self) -> bool:
        """Whether the next read is not to wait for the next time that this table is due."""
        return self._last is not None or self._table.soon

    @property
    def long(self) -> bool:
        """Whether the last reading took longer than a query should."""
        return self._table.long

    @property
    def told(self) -> str | None:
        """How far the reading is, when there is something new to say."""
        return self.snapshot.told if self.snapshot is not None else self._table.told

    @property
    def remaining(self) -> int:
        """About how many rows are still to be read."""
        return self.snapshot.remaining if self.snapshot is not None else self._table.remaining

    @property
    def alone(self) -> str | None:
        """Why one connection reads what several were asked to, as long as it does."""
        who = self._table.progress.unplaced
        if who is None or not (self._table.open or self._table.more):
            return None
        return (
            f"table {self.source.relation} is read by one connection instead of {self._crews.threads}: {who} has a "
            "transaction open, and nobody knows where it writes. It takes longer, and nothing is lost"
        )

    @property
    def progress(self) -> TableCursor:
        """Of the cursor."""
        return self._table.progress

    def read(self, connection: Connection) -> SourceBatch | None:
        """The next batch. None when there is none; also where :attr:`snapshot` gives the rows."""
        if not self._decided:
            self._decide(connection)
        if self.snapshot is not None or self.soon:
            return None
        return self._table.read(connection)

    def gather(self, timeout: float) -> SourceBatch | None:
        """See :meth:`Snapshot.gather`."""
        assert self.snapshot is not None
        batch = self.snapshot.gather(timeout)
        if self.snapshot.over:
            self.snapshot, self._last = None, batch
        return batch

    def acknowledged(self, batch: SourceBatch) -> None:
        """``batch`` is in Kafka. Positions of two partitions do not wait for each other, so polling waits for this."""
        if batch is self._last and self._record is not None:
            position = position_of(self._record.grid.behind, self.source.config.mode)
            self._table = TableReader(self.source, self._database, position)
            self._last = self._record = None

    def close(self) -> None:
        """Give up the open result."""
        self._table.close()

    def stop(self) -> None:
        """End what goes on beside the task."""
        if self.snapshot is not None:
            self.snapshot.stop()

    def _decide(self, connection: Connection) -> None:
        if self._stored is not None:
            bounds = self._table.everything(connection)
            grid: ChunkPlan | None = self._stored
        else:
            found = self._table.outset(connection, worth(self.source, self._crews.threads))
            if found is None:
                self._decided = not self._table.soon
                return
            bounds, position = found
            threads = self._crews.threads
            grid = plan(connection, self.source, self._database, threads, bounds, position.to_json())
        self._decided = True
        if grid is not None and bounds is not None:
            self._record = recorded(self.source, grid, stored=self._stored is not None)
            self.snapshot = Snapshot(self.source, self._record, (self.source.cursor, bounds), self._crews)


def worth(source: Source, threads: int) -> int:
    """With more rows than this so many connections are."""
    return source.config.batch_rows * threads


def plan(
    connection: Connection,
    source: Source,
    database: Database,
    threads: int,
    bounds: Bounds | None,
    behind: dict[str, int] | None,
) -> ChunkPlan | None:
    """Cuts for so many threads; None where one connection is as good, or nobody knows where to cut.

    ``bounds``: what is to be read (None = all). ``behind``: see :class:`ChunkPlan`.
    """
    if not has_more_than(connection, source.relation, source.cursor, bounds or Bounds(), worth(source, threads)):
        return None
    columns = {column.name: column for column in describe(connection, database, source.relation)}
    first = columns.get(source.unique[0])
    if first is None:
        return None
    cuts = split_points(connection, database, source.relation, first, threads * _CHUNKS - 1)
    return split_at(source.unique, cuts, source.config.mode, behind) if cuts else None


def recorded(source: Source, grid: ChunkPlan, *, stored: bool) -> Record:
    """The record of a grid of ``source``'s table."""
    table = source.relation.table
    assert table is not None
    return Record(
        grid, chunk_plan_partition(table), partition_of(table, source.config.mode, source.catalog), stored=stored
    )
