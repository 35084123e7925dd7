"""Fetches the next rows of a result while the previous ones are sent, so that the database does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

_CANCEL_AGAIN = 0.5  # seconds
_MOST = 4 << 20  # bytes of text that are held ahead; rows beyond that are not fetched ahead
_SAMPLE = 16  # of so many rows one is measured

Row = Sequence[Any]


class ReadAhead:
    """A cursor's ``fetchmany`` and ``close`` that work one fetch ahead, after the first full fetch.

    For drivers whose connections may be used by one thread after another. One thread at a time uses the cursor, and a
    thread ends with its fetch, so a small result needs none. An error of a fetch is raised by the call that returns its
    rows. ``cancel`` cancels the running statement from another thread.
    """

    def __init__(
        self,
        fetchmany: Callable[[int], Sequence[Row]],
        close: Callable[[], None],
        cancel: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetchmany, self._close, self._cancel, self._clock = fetchmany, close, cancel, clock
        self._thread: threading.Thread | None = None
        self._rows: list[Row] = []  # fetched and not asked for yet
        self._error: BaseException | None = None
        self._more = True  # until a fetch returns fewer rows than requested
        self._took = 0.0  # seconds of the fetch that went ahead
        self._prefetch_seconds = 0.0

    def fetchmany(self, size: int) -> Sequence[Row]:
        """Return the next ``size`` rows; fewer = the result has ended."""
        self._prefetch_seconds = 0.0
        if self._thread is not None:
            began = self._clock()
            self._thread.join()
            self._thread = None
            self._prefetch_seconds = max(0.0, self._took - (self._clock() - began))
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if len(self._rows) < size and self._more:
            self._fetch(size - len(self._rows))
        rows, self._rows = self._rows[:size], self._rows[size:]
        if self._more and _size(rows) <= _MOST:
            self._thread = threading.Thread(target=self._fetch_ahead, args=(size,), name="read-ahead", daemon=True)
            self._thread.start()
        return rows

    def close(self) -> None:
        """Discard the remaining rows. A running fetch is cancelled, because it may take minutes."""
        thread, self._thread = self._thread, None
        while thread is not None and thread.is_alive():
            self._cancel()
            thread.join(_CANCEL_AGAIN)
        self._rows, self._error, self._more = [], None, False
        self._close()

    def prefetch_seconds(self) -> float:
        """Return the seconds that the last rows were fetched ahead, before they were requested."""
        return self._prefetch_seconds

    def _fetch(self, size: int) -> None:
        found = self._fetchmany(size)
        self._more = len(found) == size
        self._rows += found

    def _fetch_ahead(self, size: int) -> None:
        began = self._clock()
        try:
            self._fetch(size)
            self._took = self._clock() - began
        except BaseException as error:  # raised when these rows are requested
            self._error, self._more = error, False


def _size(rows: Sequence[Row]) -> int:
    """Return the approximate bytes of text and binary values in ``rows``."""
    return _SAMPLE * sum(len(value) for row in rows[::_SAMPLE] for value in row if isinstance(value, str | bytes))
