"""Threads that read the chunks of a grid, each on a connection of its own, and one queue to take their batches from.

A chunk belongs to one thread until it is read to its end, so the batches of one key come in the order in which they
were read. Nothing is shared but the queue, which is short: whoever is too fast waits, and Kafka sets the pace.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, Full, Queue

from headrace import SourceBatch
from headrace_sources.sql.access.session import Session, Throttled
from headrace_sources.sql.cursor.lookback import Lookback
from headrace_sources.sql.reading.chunk_plan import Chunk, Key
from headrace_sources.sql.reading.paging import Paging
from headrace_sources.sql.reading.read_spec import Source
from headrace_sources.sql.reading.table_reader import TableReader
from headrace_sources.sql.tables.queries import Bounds, Cursor

_DEPTH = 2
"""Batches that each thread may be ahead."""
_LOOK = 0.05
"""Seconds between two looks whether the database may be asked, whether there is room, and whether to stop."""
_CANCEL = 0.2


Within = tuple[Cursor, Bounds] | None
"""Which rows are read: within these bounds of a cursor; None = all."""


@dataclass(frozen=True)
class Part:
    """What was read of a chunk: a batch (None = there was nothing more), and up to which key that was."""

    chunk: Chunk
    batch: SourceBatch | None
    after: Key
    done: bool
    keys: list[Key]
    """For the source's ledger, which one thread only writes to."""


class _Stopped(Exception):
    pass


class _CollectedKeys:
    def __init__(self) -> None:
        self._kept: list[Key] = []

    def add(self, keys: list[Key]) -> None:
        self._kept += keys

    def take(self) -> list[Key]:
        taken, self._kept = self._kept, []
        return taken


class ReaderPool:
    """Used from the task's thread."""

    def __init__(
        self,
        source: Source,
        chunks: Sequence[Chunk],
        sessions: Sequence[Session],
        within: Within,
    ) -> None:
        self._source = source
        self._within = within
        self._chunks = deque(chunks)
        self.waiting: Throttled | None = None
        """Why a thread is throttled."""
        self._queue: Queue[Part | BaseException] = Queue(_DEPTH * len(sessions))
        self._stopped = threading.Event()
        name = threading.current_thread().name
        self._threads = [
            (threading.Thread(target=self._work, args=(session,), name=f"{name}-{number}", daemon=True), session)
            for number, session in enumerate(sessions)
        ]
        for thread, _ in self._threads:
            thread.start()

    def take(self, timeout: float) -> Part | None:
        """The next part; None when there is none in time. Raises what a thread has met, after what was read before."""
        try:
            found = self._queue.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(found, BaseException):
            raise found
        return found

    def stop(self) -> None:
        """End all threads and close their connections. What was read and not taken is forgotten."""
        self._stopped.set()
        for thread, session in self._threads:
            while thread.is_alive():
                session.cancel()
                thread.join(_CANCEL)

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
        source = replace(
            self._source,
            cursor=Cursor(),
            paging=Paging.KEY,
            reach=Lookback(),
            ledger=keys if self._source.ledger is not None else None,
        )
        begun = chunk.after  # the chunk's own is how far its batches were taken
        reader = TableReader(
            source, session.database, start=lambda: self._bounds(session, chunk, reader.reached or begun)
        )
        try:
            done = False
            while not done:
                if reader.open:
                    session.acquire_permit()  # it is still asking
                else:
                    self._wait(session)
                with session.reading(str(source.relation)) as connection:
                    batch = reader.read(connection)
                done = not reader.open and not reader.more
                if not reader.open:
                    session.close_transaction()
                self._put(Part(chunk, batch, reader.reached, done, keys.take()))
        except BaseException:
            session.give_up(reader.close)
            raise

    def _bounds(self, session: Session, chunk: Chunk, after: Key) -> Bounds:
        return Bounds(
            key=self._source.unique,
            after_key=after,
            above=chunk.above,
            up_to=chunk.up_to,
            row_values=session.database.compares_rows,
            within=self._within,
        )

    def _wait(self, session: Session) -> None:
        while throttled := session.throttled_for_rows():
            self.waiting = throttled
            if self._stopped.wait(throttled.seconds):
                raise _Stopped
        self.waiting = None

    def _put(self, item: Part | BaseException) -> None:
        """Raises _Stopped when told to stop."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_LOOK)
            except Full:
                continue
            return
        raise _Stopped
