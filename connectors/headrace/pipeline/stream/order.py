"""Processes partitions that belong together in the order of event time, as far as their records are known.

Partitions belong together when they feed one step: those of equal number of the topics of a join or of a stream and its
table, and all partitions whose records go to one repartition topic. Without an order, a partition that is read ahead of
another one makes the records of the other late.

As in Kafka Streams, the partition whose next record has the lowest event time goes first, and partitions wait for one
that has unread records (https://cwiki.apache.org/confluence/x/JSXZCQ, KIP-695) or, with ``max.task.idle.ms``, for new
ones. It is a best effort: a partition that does not deliver in time is not waited for until it does.

Batches stay batches: a run has at least :data:`SHORTEST_RUN` records of one partition, as long as there are as many.
Only a stream and its table are ordered record by record (:attr:`headrace.StreamTopology.aligned`).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.pipeline.fault_policy import Failure
from headrace.plugin import StreamTopology
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition

SHORTEST_RUN = 1_000
"""Records of one partition that are processed together although other partitions have older ones."""
MOST_BUFFERED = 4_000
"""Records of a partition above which it is paused while it waits for others."""
_UNREAD_WAIT = 0.5
"""Seconds in which the client has nothing at all, while records are known to be unread."""
_LONGEST_UNREAD_WAIT = 5.0
"""Seconds to wait for them while the client has records of other partitions."""

Group = tuple[str, int]
"""A name, and the number of the partitions; -1: of all numbers."""


@dataclass(slots=True)
class Run:
    """Consecutive records of one partition, to be processed now."""

    consumed: ConsumedBatch
    """The batch that they are from."""
    parts: Sequence[SinkBatch]
    failures: Sequence[Failure]
    """Those that could not be decoded."""
    next_offset: int

    def __len__(self) -> int:
        return sum(map(len, self.parts)) + len(self.failures)


@dataclass(slots=True)
class _Piece:
    """A decoded part of a consumed batch. ``failures``: of the records between this part and the next one."""

    consumed: ConsumedBatch
    batch: SinkBatch | None
    times: Sequence[int]
    newest: int
    failures: Sequence[Failure]
    end: int
    """The next offset after the piece."""
    start: int = 0
    """The first row that is not processed yet."""

    def head(self) -> float:
        return self.times[self.start] if self.batch is not None else -math.inf


@dataclass(slots=True)
class _Queue:
    pieces: deque[_Piece] = field(default_factory=deque)
    records: int = 0


@dataclass(slots=True)
class _Hold:
    """A group waits for records of some of its partitions. Times are those of the clock."""

    since: float
    deadline: float
    waited: float = 0.0
    """Seconds in which the client had nothing."""


class StreamOrder:
    """The records of a task that wait for their turn. Used from the task's thread."""

    def __init__(
        self,
        topology: StreamTopology,
        event_times: Callable[[SinkBatch], Sequence[int]],
        idle: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``idle``: seconds to wait for new records of a partition that has none (``max.task.idle.ms``)."""
        self._event_times = event_times
        self._idle = idle
        self._clock = clock
        self._components = _components(topology)
        self._aligned = topology.aligned
        self._ranks = {topic: rank for topics in reversed(topology.aligned) for rank, topic in enumerate(topics)}
        self._queues: dict[TopicPartition, _Queue] = {}
        self._groups: dict[Group, set[TopicPartition]] = {}
        self._unread: set[TopicPartition] = set()
        self._passed: set[TopicPartition] = set()
        """Partitions that were waited for in vain, until they deliver records."""
        self._holds: dict[Group, _Hold] = {}

    # Partitions

    def orders(self, topic_partition: TopicPartition) -> bool:
        """Return whether records of a partition go through here: others that belong together with it are owned."""
        if topic_partition in self._queues:
            return True
        group = self._group(topic_partition)
        return group is not None and len(self._groups.get(group, ())) > 1

    def orders_any(self) -> bool:
        return any(len(places) > 1 for places in self._groups.values())

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        for item in partitions:
            if (group := self._group(item)) is not None:
                self._groups.setdefault(group, set()).add(item)

    def note_unread(self, partitions: Collection[TopicPartition]) -> None:
        """Note owned partitions that have records which were not delivered yet."""
        self._unread.update(item for item in partitions if item not in self._queues)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Discard the records of these partitions: their next owner reads them."""
        for item in partitions:
            if (group := self._group(item)) is not None and group in self._groups:
                self._groups[group].discard(item)
            self._queues.pop(item, None)
            self._unread.discard(item)
            self._passed.discard(item)

    def clear(self) -> None:
        """Forget everything."""
        for store in (self._queues, self._groups, self._unread, self._passed, self._holds):
            store.clear()

    def _group(self, place: TopicPartition) -> Group | None:
        found = self._components.get(place.topic)
        if found is None:
            return None
        name, all_numbers = found
        return name, -1 if all_numbers else place.partition

    # Records

    def add(self, consumed: ConsumedBatch, parts: Sequence[SinkBatch], failures: Sequence[Failure]) -> None:
        """Add the next records of a partition, decoded."""
        place = consumed.topic_partition
        queue = self._queues.setdefault(place, _Queue())
        end = consumed.offsets[-1] + 1
        failures = sorted(failures, key=lambda item: item.offset)
        if not parts:
            queue.pieces.append(_Piece(consumed, None, (), 0, failures, end))
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            next_first = end if last else parts[number + 1].offsets[0]
            first = part.offsets[0] if number else -1
            own = [item for item in failures if first <= item.offset < next_first] if failures else ()
            times = self._event_times(part)
            queue.pieces.append(_Piece(consumed, part, times, max(times), own, next_first))
        queue.records += len(consumed)
        self._passed.discard(place)
        self.note_delivered(consumed)

    def note_delivered(self, consumed: ConsumedBatch) -> None:
        """Note whether a partition has unread records after these."""
        # The last offset may be that of a transaction's marker, which is no record.
        if consumed.end_offset is not None and consumed.end_offset - consumed.offsets[-1] > 2:
            self._unread.add(consumed.topic_partition)
        else:
            self._unread.discard(consumed.topic_partition)

    def runs(self) -> Iterator[Run]:
        """Yield what can be processed now, in order."""
        for group, places in self._groups.items():
            while waiting := {item: self._queues[item] for item in places if item in self._queues}:
                if self._is_blocked(group, places):
                    break
                place = min(waiting, key=lambda item: (waiting[item].pieces[0].head(), self._rank(item)))
                yield self._next_run(place, waiting)

    def to_pause(self) -> set[TopicPartition]:
        """Return the partitions of which enough records wait."""
        return {place for place, queue in self._queues.items() if queue.records >= MOST_BUFFERED}

    def wait(self) -> float:
        """Return the seconds until :meth:`runs` can have more without new records; infinite when it cannot."""
        if not self._holds:
            return math.inf
        return max(0.0, min(hold.deadline for hold in self._holds.values()) - self._clock())

    def waited(self, seconds: float) -> None:
        """Note that the client had nothing for this time. Time in which other records are processed does not count."""
        for hold in self._holds.values():
            hold.waited += seconds

    def is_waiting(self, topic_partition: TopicPartition) -> bool:
        """Return whether records of a partition are known that are not processed yet."""
        return topic_partition in self._queues or topic_partition in self._unread

    def _is_blocked(self, group: Group, places: Collection[TopicPartition]) -> bool:
        """Return whether the group waits for records of a partition that has none here."""
        now = self._clock()
        hold = self._holds.get(group) or _Hold(now, now)
        unread_deadline = min(now + _UNREAD_WAIT - hold.waited, hold.since + _LONGEST_UNREAD_WAIT)
        deadlines = {
            item: max(hold.since + self._idle, unread_deadline if item in self._unread else 0.0)
            for item in places
            if item not in self._queues and item not in self._passed
        }
        hold.deadline = max(deadlines.values(), default=0.0)
        if hold.deadline > now:
            self._holds[group] = hold
            return True
        self._passed.update(deadlines)
        self._holds.pop(group, None)
        return False

    def _next_run(self, place: TopicPartition, waiting: Mapping[TopicPartition, _Queue]) -> Run:
        queue = self._queues[place]
        piece = queue.pieces[0]
        count = len(piece.times)
        end = self._run_end(place, piece, waiting)
        if end == count:
            queue.pieces.popleft()
        if not queue.pieces:
            del self._queues[place]
        if piece.batch is None:
            queue.records -= len(piece.failures)
            return Run(piece.consumed, (), piece.failures, piece.end)
        batch, first = piece.batch, piece.start
        piece.start = end
        next_offset = piece.end if end == count else batch.offsets[end]
        failures = [item for item in piece.failures if item.offset < next_offset] if piece.failures else ()
        if failures:
            piece.failures = piece.failures[len(failures) :]
        queue.records -= end - first + len(failures)
        part = batch if first == 0 and end == count else batch.between(first, end)
        return Run(piece.consumed, [part], failures, next_offset)

    def _run_end(self, place: TopicPartition, piece: _Piece, waiting: Mapping[TopicPartition, _Queue]) -> int:
        """Return the row after the last one of the run."""
        count = len(piece.times)
        rank, partners = self._rank(place), self._partners(place)
        limit = exact = math.inf
        for other, queue in waiting.items():
            if other != place:
                head = queue.pieces[0].head()
                limit = min(limit, head)
                if other in partners:
                    exact = min(exact, head - (rank > self._rank(other)))
        if piece.newest <= limit and piece.newest <= exact:
            return count
        times, row = piece.times, piece.start + 1
        long_enough = piece.start + SHORTEST_RUN
        while row < count and times[row] <= exact and (row < long_enough or times[row] <= limit):
            row += 1
        return row

    def _partners(self, place: TopicPartition) -> set[TopicPartition]:
        topics = {topic for topics in self._aligned if place.topic in topics for topic in topics}
        return {TopicPartition(topic, place.partition) for topic in topics - {place.topic}}

    def _rank(self, place: TopicPartition) -> int:
        return self._ranks.get(place.topic, 0)


def _components(topology: StreamTopology) -> dict[str, tuple[str, bool]]:
    """Return the name of the group of each topic, and whether all of its partitions are in one group."""
    joined = [set(topics) for topics in topology.stores.values()]
    fed = [set(origins) for origins in topology.repartitions.values()]
    components: list[set[str]] = []
    for topics in (*joined, *fed):
        overlapping = [item for item in components if item & topics]
        components = [item for item in components if not item & topics]
        components.append(topics.union(*overlapping))
    feeding = {topic for topics in fed for topic in topics}
    return {
        topic: (min(component), bool(component & feeding))
        for component in components
        for topic in component
        if len(component) > 1 or component & feeding
    }
