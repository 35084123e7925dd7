"""Readers that begin with the primary key: mode bulk, and the first reading of a large table in the other modes.

A first reading by several connections has its final position chosen *before* it, where no row that is committed later
can be missed (:meth:`TableCursor.snapshot_start`). The position is stored when all rows are in Kafka; polling goes on
from there, so rows that changed meanwhile come after the snapshot. See docs/decisions/0080-snapshots-in-chunks.md.
"""

from __future__ import annotations

from sqlalchemy import Connection

from headrace import SourceBatch
from headrace_sources.sql.cursor.position import position_of
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.reading.chunk_plan import Chunk, ChunkOffsets, ChunkPlan, chunk_offsets, split_at
from headrace_sources.sql.reading.read_spec import ReadSpec
from headrace_sources.sql.reading.reader import ReadNext, ReadStatus
from headrace_sources.sql.reading.reader_pool import Parallelism
from headrace_sources.sql.reading.snapshot import Snapshot
from headrace_sources.sql.reading.split_points import plan_chunks, worth_splitting
from headrace_sources.sql.reading.table_reader import TableReader
from headrace_sources.sql.tables.queries import Bounds


class BulkReader:
    """Mode bulk of a table with a primary key, see :class:`RelationReader`. An interrupted reading is resumed.

    ``stored``: the plan of a reading that an earlier task did not finish.
    """

    needs_own_connection = False  # pages are short

    def __init__(self, spec: ReadSpec, dialect: Dialect, stored: ChunkPlan | None, parallelism: Parallelism) -> None:
        self.spec = spec
        self._dialect = dialect
        self._parallelism = parallelism
        self._table = TableReader(spec, dialect, start=self._start)
        self._offsets = None if stored is None else chunk_offsets(spec, stored, stored=True)
        self.parallel: Snapshot | None = None
        """The source of this reading's rows, if it is not :meth:`read`."""

    @property
    def next(self) -> ReadNext:
        """See :class:`RelationReader`."""
        if self.parallel is not None:
            return ReadNext.WHEN_DUE if self.parallel.over else ReadNext.AT_ONCE
        if self._table.next is ReadNext.SAME_CONNECTION:
            return ReadNext.SAME_CONNECTION
        return ReadNext.WHEN_DUE if self._offsets is None else ReadNext.AT_ONCE

    def read(self, connection: Connection) -> SourceBatch | None:
        """See :class:`RelationReader`. None also where :attr:`parallel` gives the rows."""
        if self.parallel is not None:
            self._offsets = self.parallel = None  # of the reading before
        if self._offsets is None:
            self._offsets = chunk_offsets(self.spec, self._plan(connection), stored=False)
        offsets, plan = self._offsets, self._offsets.plan
        if len(plan.chunks) > 1:
            self.parallel = Snapshot(self.spec, offsets, None, self._parallelism)
            return None
        batch = self._table.read(connection)
        done = self._table.next is ReadNext.WHEN_DUE
        plan.reached(plan.chunks[0], self._table.reached, done=done)
        if batch is None and done and offsets.last_batch_needed:
            batch = SourceBatch(self.spec.topic, [])
        if batch is not None:
            offsets.attach(batch)
        if done:
            self._offsets = None
        return batch

    def status(self) -> ReadStatus:
        """See :class:`RelationReader`."""
        return self.parallel.status() if self.parallel is not None else self._table.status()

    def close(self) -> None:
        """See :class:`RelationReader`."""
        if self.parallel is not None:
            self.parallel.stop()
        self._table.close()

    def _start(self) -> Bounds:
        chunk = self._offsets.plan.chunks[0] if self._offsets is not None else Chunk()
        return Bounds(
            key=self.spec.unique,
            after_key=chunk.after,
            above=chunk.above,
            up_to=chunk.up_to,
            row_values=self._dialect.compares_rows,
        )

    def _plan(self, connection: Connection) -> ChunkPlan:
        plan = None
        if self._parallelism.threads > 1:
            plan = plan_chunks(connection, self.spec, self._dialect, self._parallelism.threads)
        return plan or split_at(self.spec.unique, [], self.spec.config.mode)


class FirstReader:
    """Reads by the cursor, see :class:`RelationReader`; first, where the table is large, by several connections.

    ``stored``: the plan of a first reading that an earlier task did not finish.
    """

    def __init__(self, spec: ReadSpec, dialect: Dialect, stored: ChunkPlan | None, parallelism: Parallelism) -> None:
        self.spec = spec
        self._dialect = dialect
        self._parallelism = parallelism
        self._stored = stored
        self._table = TableReader(spec, dialect)
        self._decided = False  # whether the first reading is parallel
        self.parallel: Snapshot | None = None
        """The source of rows until all of the first reading is in Kafka."""

    @property
    def next(self) -> ReadNext:
        """See :class:`RelationReader`."""
        if self.parallel is not None:
            # Positions of two partitions do not wait for each other, so polling waits until the snapshot is in Kafka.
            return ReadNext.SOON if self.parallel.over else ReadNext.AT_ONCE
        if self._stored is not None and not self._decided:
            return ReadNext.AT_ONCE
        return self._table.next

    @property
    def needs_own_connection(self) -> bool:
        """See :class:`RelationReader`."""
        return self._table.needs_own_connection

    def read(self, connection: Connection) -> SourceBatch | None:
        """See :class:`RelationReader`. None also where :attr:`parallel` gives the rows."""
        if self.parallel is not None:
            if not self.parallel.stored:
                return None
            position = position_of(self.parallel.offsets.plan.final_offset, self.spec.config.mode)
            self._table = TableReader(self.spec, self._dialect, position)
            self.parallel = None
        if not self._decided:
            self._decide(connection)
            if self.parallel is not None or not self._decided:
                return None
        return self._table.read(connection)

    def status(self) -> ReadStatus:
        """See :class:`RelationReader`."""
        if self.parallel is not None:
            return self.parallel.status()
        status, transaction = self._table.status(), self._table.cursor.unlocated_transaction
        if transaction is None or self._table.next not in (ReadNext.SAME_CONNECTION, ReadNext.AT_ONCE):
            return status
        return status._replace(
            single_connection=f"table {self.spec.relation} is read by one connection instead of "
            f"{self._parallelism.threads}: {transaction} has a transaction open, and the rows that it writes may have "
            "any id. Reading takes longer, and no row is lost"
        )

    def close(self) -> None:
        """See :class:`RelationReader`."""
        if self.parallel is not None:
            self.parallel.stop()
        self._table.close()

    def _decide(self, connection: Connection) -> None:
        """Decide on a parallel reading, unless the cursor waits for open transactions."""
        threads = self._parallelism.threads
        plan: ChunkPlan | None
        if self._stored is not None:
            bounds, plan = self._table.all_rows(connection), self._stored
        else:
            found = self._table.snapshot_start(connection, worth_splitting(self.spec, threads))
            if found is None:
                self._decided = not self._table.cursor.waiting_for_transactions
                return
            bounds, position = found
            plan = plan_chunks(connection, self.spec, self._dialect, threads, bounds, position.to_json())
        self._decided = True
        if plan is not None and bounds is not None:
            offsets: ChunkOffsets = chunk_offsets(self.spec, plan, stored=self._stored is not None)
            self.parallel = Snapshot(self.spec, offsets, (self.spec.cursor, bounds), self._parallelism)
