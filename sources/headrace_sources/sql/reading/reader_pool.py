"""Threads that read the chunks of a plan, each on its own connection, and one queue from which batches are taken.

A chunk belongs to one thread until it is read to its end, so the batches of one key come in the order in which they
were read. Only the queue is shared. It is short: a thread that is ahead waits until its batches are taken.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, Full, Queue

from headrace import SourceBatch
from headrace_sources.sql.access.session import Session, Throttled
from headrace_sources.sql.cursor.lookback import Lookback
from headrace_sources.sql.reading.chunk_plan import Chunk, KeyValues
from headrace_sources.sql.reading.read_spec import Paging, ReadSpec
from headrace_sources.sql.reading.reader import ReadNext
from headrace_sources.sql.reading.table_reader import TableReader
from headrace_sources.sql.tables.queries import Bounds, Cursor

_AHEAD = 2
"""Batches that each thread may be ahead."""
_PUT_TIMEOUT = 0.05
"""Seconds between two checks whether the pool was stopped, while the queue is full."""
_CANCEL_AGAIN = 0.2
"""Seconds."""


Within = tuple[Cursor, Bounds] | None
"""Which rows are read: within these bounds of a cursor; None = all."""


@dataclass(frozen=True)
class ChunkBatch:
    """Rows of a chunk (None = there were no more), and the key up to which they go."""

    chunk: Chunk
    batch: SourceBatch | None
    after: KeyValues
    done: bool
    keys: list[KeyValues]
    """For the spec's ledger, which one thread only writes to."""


@dataclass(frozen=True)
class Parallelism:
    """How many connections may read a table at the same time, and how their threads are started."""

    threads: int
    start_readers: Callable[[ReadSpec, Sequence[Chunk], Within, int], ReaderPool]


class _Stopped(Exception):
    pass


class _CollectedKeys:
    def __init__(self) -> None:
        self._kept: list[KeyValues] = []

    def add(self, keys: list[KeyValues]) -> None:
        self._kept += keys

    def take(self) -> list[KeyValues]:
        taken, self._kept = self._kept, []
        return taken


class ReaderPool:
    """Used from the task's thread."""

    def __init__(
        self,
        spec: ReadSpec,
        chunks: Sequence[Chunk],
        sessions: Sequence[Session],
        within: Within,
    ) -> None:
        self._spec = spec
        self._within = within
        self._chunks = deque(chunks)
        self.throttled: Throttled | None = None
        """Why a thread is throttled."""
        self._queue: Queue[ChunkBatch | BaseException] = Queue(_AHEAD * len(sessions))
        self._stopped = threading.Event()
        name = threading.current_thread().name
        self._threads = [
            (threading.Thread(target=self._work, args=(session,), name=f"{name}-{number}", daemon=True), session)
            for number, session in enumerate(sessions)
        ]
        for thread, _ in self._threads:
            thread.start()

    def take(self, timeout: float) -> ChunkBatch | None:
        """Return the next batch; None when there is none in time. Raise a thread's error after what was read before."""
        try:
            found = self._queue.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(found, BaseException):
            raise found
        return found

    def stop(self) -> None:
        """End all threads and close their connections. Batches that were not taken are discarded."""
        self._stopped.set()
        for thread, session in self._threads:
            while thread.is_alive():
                session.cancel()
                thread.join(_CANCEL_AGAIN)

    def _work(self, session: Session) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    chunk = self._chunks.popleft()
                except IndexError:
                    return
                self._read(session, chunk)
        except _Stopped:
            pass
        except BaseException as error:  # raised again on the task's thread
            with suppress(_Stopped):
                self._put(error)
        finally:
            session.release()

    def _read(self, session: Session, chunk: Chunk) -> None:
        keys = _CollectedKeys()
        spec = replace(
            self._spec,
            cursor=Cursor(),
            paging=Paging.KEY,
            lookback=Lookback(),
            ledger=keys if self._spec.ledger is not None else None,
        )
        begun = chunk.after  # the chunk's own changes as its batches are taken
        reader = TableReader(spec, session.dialect, start=lambda: self._bounds(session, chunk, reader.reached or begun))
        try:
            done = False
            while not done:
                if reader.next is ReadNext.SAME_CONNECTION:
                    session.acquire_permit()  # it is still asking
                else:
                    self._wait_for_permit(session)
                with session.reading(str(spec.relation)) as connection:
                    batch = reader.read(connection)
                done = reader.next is ReadNext.WHEN_DUE
                if reader.next is not ReadNext.SAME_CONNECTION:
                    session.close_transaction()
                self._put(ChunkBatch(chunk, batch, reader.reached, done, keys.take()))
        except BaseException:
            session.give_up(reader.close)
            raise

    def _bounds(self, session: Session, chunk: Chunk, after: KeyValues) -> Bounds:
        return Bounds(
            key=self._spec.unique,
            after_key=after,
            above=chunk.above,
            up_to=chunk.up_to,
            row_values=session.dialect.compares_rows,
            within=self._within,
        )

    def _wait_for_permit(self, session: Session) -> None:
        while throttled := session.throttled_for_rows():
            self.throttled = throttled
            if self._stopped.wait(throttled.seconds):
                raise _Stopped
        self.throttled = None

    def _put(self, item: ChunkBatch | BaseException) -> None:
        """Put ``item`` into the queue. Raise _Stopped when the pool is stopped."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_PUT_TIMEOUT)
            except Full:
                continue
            return
        raise _Stopped
