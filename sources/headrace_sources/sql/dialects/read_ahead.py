"""The next rows of a result are fetched while the last ones are on their way: the database works meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

_CANCEL_AGAIN = 0.5  # seconds
_MOST = 4 << 20  # bytes of text that are held ahead; wide rows are read one fetch at a time, as if nothing were ahead
_SAMPLE = 16  # of so many rows one is measured

Row = Sequence[Any]


class ReadAhead:
    """A cursor's ``fetchmany`` and ``close``, one fetch ahead from the first full fetch on.

    For drivers whose connections let one thread wait for another. One thread at a time uses the cursor, and a thread
    ends with its fetch: a small result is read without any. What a fetch raises is raised by the call that asks for
    its rows. ``cancel`` ends, from another thread, what the connection is doing.
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
        self._more = True  # as far as anybody knows
        self._took = 0.0  # seconds of the fetch that went ahead
        self._unseen = 0.0

    def fetchmany(self, size: int) -> Sequence[Row]:
        """The next ``size`` rows; fewer only when there are no more."""
        self._unseen = 0.0
        if self._thread is not None:
            began = self._clock()
            self._thread.join()
            self._thread = None
            self._unseen = max(0.0, self._took - (self._clock() - began))
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
        """Give up what was not asked for. A fetch that is under way is cancelled: it may take minutes."""
        thread, self._thread = self._thread, None
        while thread is not None and thread.is_alive():
            self._cancel()
            thread.join(_CANCEL_AGAIN)
        self._rows, self._error, self._more = [], None, False
        self._close()

    def unseen(self) -> float:
        """Seconds that the fetch of the rows given last had taken before anybody asked for them."""
        return self._unseen

    def _fetch(self, size: int) -> None:
        found = self._fetchmany(size)
        self._more = len(found) == size
        self._rows += found

    def _fetch_ahead(self, size: int) -> None:
        began = self._clock()
        try:
            self._fetch(size)
            self._took = self._clock() - began
        except BaseException as error:  # for whoever asks for these rows
            self._error, self._more = error, False


def _size(rows: Sequence[Row]) -> int:
    """About how many bytes of text and binary values ``rows`` hold."""
    return _SAMPLE * sum(len(value) for row in rows[::_SAMPLE] for value in row if isinstance(value, str | bytes))
