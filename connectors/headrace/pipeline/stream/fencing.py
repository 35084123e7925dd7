"""What a stream task does when its transactional producer was fenced.

Kafka fences a producer when another one is initialised with the same transactional.id, and when its transaction was
open for longer than transaction.timeout.ms, for example because the process was suspended. In both cases nothing of the
open transaction is visible, and the partitions may belong to another task by now. So the task starts over, as in Kafka
Streams: it discards its state, joins the group again and restores.

The new producer fences its rival in turn. Two processes that use one transactional.id all the time would never end
that, so the task fails when it is fenced too often; the other process then continues alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from headrace.errors import RetriableError, TaskError

FENCED = "kafka.producer_fenced"
LIMIT = 5
"""How often a task may be fenced within :data:`PERIOD`."""
PERIOD = 300.0
"""Seconds."""


class FencingHistory:
    """When the producer of one task was fenced. Used from the task's thread."""

    def __init__(self, transactional_id: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._id = transactional_id
        self._monotonic = monotonic
        self._times: deque[float] = deque(maxlen=LIMIT)

    def consequence(self, error: TaskError) -> TaskError | RetriableError:
        """Return what to raise for an error of the producer: a RetriableError when it was fenced and starts over."""
        if error.code != FENCED:
            return error
        now = self._monotonic()
        self._times.append(now)
        if len(self._times) == LIMIT and now - self._times[0] <= PERIOD:
            return TaskError(
                f"the transactions of this task were fenced {LIMIT} times within {now - self._times[0]:.0f} s: another "
                f"process uses its transactional.id, {self._id}",
                code=FENCED,
                hint="the id has the worker's host name and port: stop the second worker that has both in common with "
                "this one, or set another port or rest.advertised.host.name in one of them, and restart the task",
            )
        return RetriableError(
            f"{error.message} (transactional.id {self._id}). The task discards what is not committed and continues at "
            "the committed offsets",
            code=FENCED,
        )
