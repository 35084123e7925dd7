"""Reports why a sink task has fewer partitions than its share: dead members, other workers, more tasks than partitions.

What a member may expect is computed from the numbers of partitions and tasks, without a request to the group.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from headrace.broker.interfaces import Admin
from headrace.errors import HeadraceError
from headrace.records import TopicPartition

_SETTLED = 3.0
"""Seconds without a change of the assignment after which it is compared with the share."""
_AGAIN = 10.0
"""Seconds between two comparisons while something is missing."""


class Shortage(NamedTuple):
    """Partitions that the task lacks. ``waiting``: they have records, which this task could read."""

    text: str
    waiting: bool


def run_on_thread(job: Callable[[], None]) -> None:
    threading.Thread(target=job, name="partition-share", daemon=True).start()


class PartitionShare:
    """Used from the task's thread; Kafka is asked on another one.

    An admin client waits for a broker that does not answer as long as its timeouts allow. The task's thread must poll
    meanwhile: it is a member of the group, and it reports the broker.
    """

    def __init__(
        self,
        open_admin: Callable[[], Admin],
        group: str,
        topics: Sequence[str],
        pattern: str | None,
        tasks: int,
        log: structlog.stdlib.BoundLogger,
        clock: Callable[[], float] = time.monotonic,
        run: Callable[[Callable[[], None]], None] = run_on_thread,
    ) -> None:
        """``tasks``: of the connector, each a member of ``group``. ``run`` executes a comparison."""
        self._open_admin = open_admin
        self._group = group
        self._topics = topics
        self._pattern = re.compile(pattern) if pattern else None
        self._tasks = tasks
        self._log = log
        self._clock = clock
        self._run = run
        self._owned: frozenset[TopicPartition] | None = None
        self._due = 0.0
        self._asking = False
        self._answers = queue.SimpleQueue[tuple[frozenset[TopicPartition], "Shortage | HeadraceError | None"]]()
        self._shortage: Shortage | None = None

    def check(self, owned: frozenset[TopicPartition]) -> Shortage | None:
        """Return what is missing, as far as it is known; never blocks. Call it after polls that returned nothing.

        Kafka is asked once per assignment, and while something is missing.
        """
        now = self._clock()
        if owned != self._owned:
            self._owned, self._due = owned, now + _SETTLED
            self._note(None)
        elif now >= self._due and not self._asking:
            self._asking = True
            self._run(partial(self._ask, owned))
        self._take_answer(owned, now)
        return self._shortage

    def _ask(self, owned: frozenset[TopicPartition]) -> None:
        try:
            self._answers.put((owned, self._look(owned)))
        except HeadraceError as error:
            self._answers.put((owned, error))

    def _take_answer(self, owned: frozenset[TopicPartition], now: float) -> None:
        try:
            asked, answer = self._answers.get_nowait()
        except queue.Empty:
            return
        self._asking = False
        if asked != owned:
            return  # the assignment has changed meanwhile and is compared when it is due
        if isinstance(answer, HeadraceError):  # a broker that does not answer is reported elsewhere
            self._due = now + _AGAIN
            self._log.debug("partitions not compared", code=answer.code, reason=str(answer))
        else:
            self._note(answer)
            self._due = now + _AGAIN if answer is not None else float("inf")

    def _note(self, shortage: Shortage | None) -> None:
        if shortage == self._shortage:
            return
        self._shortage = shortage
        if shortage is None:
            self._log.info("partitions are assigned as expected")
        else:
            self._log.warning("partitions are missing", code="kafka.partitions", reason=shortage.text)

    def _look(self, owned: frozenset[TopicPartition]) -> Shortage | None:
        admin = self._open_admin()
        try:
            topics = self._topics if self._pattern is None else self._matching(admin)
            counts = Counter(place.topic for place in admin.end_offsets(topics)) if topics else Counter[str]()
        finally:
            admin.close()
        if missing := [topic for topic in topics if topic not in counts]:
            return Shortage(f"topic {', '.join(missing)} does not exist; it is read as soon as it is created", False)
        share = sum(count // self._tasks for count in counts.values())
        if len(owned) < share:
            return Shortage(self._of_others(len(owned), share), True)
        if counts and not owned and share == 0:
            return Shortage(self._idle(counts), False)
        return None

    def _matching(self, admin: Admin) -> Sequence[str]:
        assert self._pattern is not None
        return sorted(filter(self._pattern.fullmatch, admin.topics()))

    def _of_others(self, owned: int, share: int) -> str:
        return (
            f"the consumer group {self._group} has assigned {owned} of at least {share} partitions to this task: "
            "another member has the others. A worker that was killed is a member until its session.timeout.ms is over "
            "(45 s by default) → wait for that; if it lasts longer, another worker runs a connector with this name: "
            "give one of them another name"
        )

    def _idle(self, counts: Counter[str]) -> str:
        most = max(counts.values())
        partitions = f"{counts.total()} partition{'s' if counts.total() > 1 else ''} for {self._tasks} tasks"
        return f"no partition is left for this task: {partitions} → set tasks.max to {most}, or add partitions"
