"""The rows of a chunk plan, read by several connections and taken on the task's thread, resumable after a restart.

See docs/decisions/0080-snapshots-in-chunks.md.
"""

from __future__ import annotations

from headrace import SourceBatch
from headrace_sources.sql.access.session import Throttled
from headrace_sources.sql.reading.chunk_plan import ChunkOffsets
from headrace_sources.sql.reading.read_progress import ReadProgress
from headrace_sources.sql.reading.read_spec import ReadSpec
from headrace_sources.sql.reading.reader import ReadStatus
from headrace_sources.sql.reading.reader_pool import Parallelism, ReaderPool, Within


class Snapshot:
    """One reading of a chunk plan by a reader pool, see :class:`ParallelRows`. Used from the task's thread.

    ``within``: the bounds of a cursor within which rows are read; None = all rows.
    """

    def __init__(self, spec: ReadSpec, offsets: ChunkOffsets, within: Within, parallelism: Parallelism) -> None:
        self._spec = spec
        self.offsets = offsets
        self._within = within
        self._parallelism = parallelism
        self._pool: ReaderPool | None = None
        self._progress = ReadProgress(str(spec.relation))
        self._last: SourceBatch | None = None
        self.over = False
        """All rows were returned."""
        self.stored = False
        """The last batch is in Kafka."""

    @property
    def throttled(self) -> Throttled | None:
        """Why a thread does not query the database now."""
        return self._pool.throttled if self._pool is not None else None

    def next_batch(self, timeout: float) -> SourceBatch | None:
        """Return the next batch; None when there is none within ``timeout`` seconds.

        Raise what reading raises; the next call then resumes after the batches that were returned.
        """
        plan = self.offsets.plan
        if self._pool is None:
            self._pool = self._parallelism.start_readers(
                self._spec, plan.chunks, self._within, self._parallelism.threads
            )
        try:
            found = self._pool.take(timeout)
        except BaseException:
            self.stop()
            raise
        if found is None:
            return None
        if self._spec.ledger is not None and found.keys:
            self._spec.ledger.add(found.keys)
        plan.reached(found.chunk, found.after, done=found.done)
        batch = found.batch
        self.over = not plan.chunks
        if self.over:
            self.stop()
            batch = self._last = batch or SourceBatch(self._spec.topic, [])
        if batch is not None:
            self.offsets.attach(batch)
            self._progress.rows += len(batch)
        return batch

    def acknowledged(self, batch: SourceBatch) -> None:
        """Note that ``batch`` is in Kafka."""
        self.stored |= batch is self._last

    def status(self) -> ReadStatus:
        """Return the progress of the read."""
        if self.over:
            return ReadStatus()
        progress, share = self._progress, self.offsets.plan.share() or None
        told = progress.describe(share) if progress.seconds >= self._spec.tuning.status_interval else None
        return ReadStatus(told, progress.remaining(share))

    def stop(self) -> None:
        """End the pool's threads; batches that were read ahead are discarded."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
