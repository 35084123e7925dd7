"""What a stream task did since its last commit: outputs, changes of its state, refused records and offsets.

All of it becomes visible in one transaction, or nothing does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from headrace.broker.interfaces import GroupMetadata
from headrace.errors import DataError, HeadraceError, RetriableError, TaskError
from headrace.pipeline.control import TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import Failure, raise_skipped
from headrace.pipeline.hop_times import StreamHops
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream.accounts import StateAccounts
from headrace.pipeline.stream.clients import StreamClients
from headrace.pipeline.stream.encoding import encoder
from headrace.pipeline.stream.fencing import FencingHistory
from headrace.pipeline.stream.metrics import StreamMetrics
from headrace.pipeline.stream.order import Run
from headrace.pipeline.stream.processing import ProcessedBatch, process, process_silence
from headrace.pipeline.stream.refused_results import FailedResult, result_letters
from headrace.pipeline.stream.state import ChangelogBatch, StreamState
from headrace.pipeline.transactions import TaskTransaction
from headrace.plugin import StreamTask, StreamTopology
from headrace.records import ConsumedBatch, EncodedBatch, SinkBatch, TopicPartition
from headrace.worker_events import WorkerEvent

_MAX_RECORDS = 50_000
"""Records that are sent in a transaction before it is committed early: clients buffer a bounded number."""


class CommittedWork(NamedTuple):
    """What a transaction has made durable."""

    offsets: Mapping[TopicPartition, int]
    changelogs: Sequence[ChangelogBatch]
    entries: int
    """Of the state of the task."""


class UncommittedWork:
    """Used from the task's thread. After an error in a method nothing more may be committed: call :meth:`discard`."""

    def __init__(
        self,
        application: str,
        task: StreamTask,
        topology: StreamTopology,
        state: StreamState,
        stages: Stages,
        clients: StreamClients,
        control: TaskControl,
    ) -> None:
        self.given_up = False
        """What is not committed must not be committed any more."""
        self.known_offsets: dict[TopicPartition, int] = {}
        """The committed offsets of owned partitions, as far as they are known."""
        self.metrics = StreamMetrics(control.metrics)
        self._hops = StreamHops(control.metrics.freshness, application, marks=control.hop_headers, spans=control.spans)
        self.accounts = StateAccounts(application, task, state, control.metrics.steps, control.raise_condition)
        self._application = application
        self._task = task
        self._state = state
        self._stages = stages
        self._clients = clients
        self._control = control
        self._encode = encoder(stages, topology)
        self._transaction = TaskTransaction(
            clients.open_producer,
            clients.transactional_id,
            FencingHistory(clients.transactional_id).consequence,
            control,
        )
        self._dead_letters: DeadLetterQueue | None = None
        self._group: Callable[[], GroupMetadata]
        self._events: list[WorkerEvent] = []
        """Of the open transaction."""
        self._offsets: dict[TopicPartition, int] = {}
        """The next offset to read of each partition with records in the open transaction."""
        self._one_by_one: dict[TopicPartition, int] = {}
        """Offsets before which records are processed one by one: one of them made a state that cannot be written."""

    def open(self, register: Callable[[TaskTransaction], None]) -> None:
        """Create the producer and the dead letter queue. ``register`` may commit a transaction of its own."""
        self._transaction.open()
        try:
            register(self._transaction)
        except HeadraceError:
            self._transaction.discard()  # a producer is not used after an error: the retry opens another
            raise
        if self._clients.open_dead_letters is not None and self._dead_letters is None:
            with self._control.fence:
                self._dead_letters = self._clients.open_dead_letters(self._transaction)

    def begin(self, group: Callable[[], GroupMetadata]) -> None:
        """Take records of a new consumer. ``group`` returns the consumer's membership, for commits."""
        self._group = group
        self.given_up = False

    @property
    def is_full(self) -> bool:
        """Whether it should be committed before its time."""
        return self._transaction.records >= _MAX_RECORDS

    def process(self, run: Run) -> None:
        """Process records, and send what they made. Raise RetriableError, TaskError."""
        self._control.fence.check()
        place = run.consumed.topic_partition
        self.metrics.consumed(place, len(run), run.consumed.end_offset)
        self._hops.processing(run.consumed)
        self._refuse(run.failures, run.consumed)
        parts: Sequence[SinkBatch] = run.parts
        check = None
        if run.consumed.offsets[0] < self._one_by_one.get(place, 0):
            parts = [part.only([row]) for part in run.parts for row in range(len(part))]
            check = self._state.check
        for part in parts:
            result = process(self._task, part, self._state.of(place), self._encode, check)
            self._refuse(result.failures, run.consumed)
            self._apply(result, place)
        self._offsets[place] = run.next_offset

    def _apply(self, result: ProcessedBatch, place: TopicPartition) -> None:
        self._refuse_results(result.refused_results)
        self._send(result.outputs)
        self._state.apply(place.partition, result.changes)
        self._events += result.events
        self.metrics.processed(sum(map(len, result.outputs)), (), result.steps)

    def advance(self, place: TopicPartition, silent: int) -> bool:
        """Advance the stream time of a partition by ``silent`` milliseconds. Return whether that changed its state."""
        self._control.fence.check()
        result = self._task.advance(place, silent, self._state.of(place))
        if not result.changes:
            return False
        self._apply(process_silence(self._task, place, result, self._encode), place)
        # With an offset, the transaction fails if another task has the partition now.
        self._offsets.setdefault(place, self.known_offsets[place])
        return True

    def commit(self) -> CommittedWork | None:
        """Commit everything. Return None when there was nothing to commit, or nothing may be committed."""
        if self.given_up or not self._offsets:
            return None
        changelogs = self._changelogs()
        try:
            for changelog, partition in changelogs:
                self._transaction.send(changelog, partition)
        except DataError as error:
            raise TaskError(
                f"the state cannot be written: {error.message}", code=error.code, hint=error.hint
            ) from error
        self._transaction.commit(self._offsets, self._group)
        self.accounts.committed()
        self._state.committed()
        topic = self._dead_letters.topic if self._dead_letters is not None else ""
        raise_skipped(self._control.raise_condition, self.metrics.failures, topic, self._application)
        entries = self._state.entries()
        self.metrics.committed(self._offsets, entries, dead_lettered=self._dead_letters is not None)
        self._hops.committed()
        self._report_events()
        offsets, self._offsets = self._offsets, {}
        self._one_by_one = {place: end for place, end in self._one_by_one.items() if offsets.get(place, 0) < end}
        self.known_offsets.update(offsets)
        return CommittedWork(offsets, changelogs, entries)

    def _changelogs(self) -> list[ChangelogBatch]:
        try:
            return list(self._state.changelog_batches())
        except DataError as error:
            self._one_by_one |= self._offsets
            text = f"the state cannot be written: {error.message}; finding the record that changed it"
            raise RetriableError(text, code=error.code, hint=error.hint) from error

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the state and the offsets of partitions that another task has from now on."""
        for item in partitions:
            self._offsets.pop(item, None)
            self.known_offsets.pop(item, None)
        self.accounts.revoked(partitions)
        self._state.drop(partitions)

    def discard(self) -> None:
        """Discard everything that is not committed, and the state, which has changes of it."""
        self.given_up = True
        self.metrics.discarded()
        self._hops.discarded()
        self._events = []
        self._transaction.discard()
        self._offsets.clear()
        self.known_offsets.clear()
        self._state.clear()

    def _report_events(self) -> None:
        for event in self._events:
            self._control.log.info(event.action, kind=event.kind, what=event.text)
            self._control.metrics.events.add(event)
        self._events = []

    def _send(self, outputs: Iterable[EncodedBatch]) -> None:
        for output in outputs:
            try:
                self._transaction.send(self._hops.marked(output))
            except DataError as error:
                text = f"a record cannot be written to {output.topic}: {error.message}"
                raise TaskError(text, code=error.code, hint=error.hint) from error
            self._clients.topic_used(output.topic)

    def _refuse(self, failures: Sequence[Failure], batch: ConsumedBatch) -> None:
        """Write refused records to the dead letter queue, in the transaction. Raise TaskError by errors.tolerance."""
        if failures:
            originals = {batch.topic_partition: batch}
            self._apply_tolerance(failures, lambda queue: queue.write(failures, originals))
            self.metrics.processed(0, failures, {})

    def _refuse_results(self, results: Sequence[FailedResult]) -> None:
        """The same for results that have no record."""
        if results:
            failures = [item.failure for item in results]
            self._apply_tolerance(failures, lambda queue: queue.send(result_letters(queue, results)))
            self.metrics.results_refused(failures)

    def _apply_tolerance(self, failures: Sequence[Failure], write: Callable[[DeadLetterQueue], None]) -> None:
        try:
            self._stages.policy.apply_tolerance(failures)
        except TaskError:
            # Nothing else of this transaction may be committed: the batch is processed again after a restart.
            if self._dead_letters is not None:
                self._transaction.discard()
                self._transaction.open()
                write(self._dead_letters)
                self._transaction.commit({}, self._group)
            self.given_up = True
            raise
        if self._dead_letters is not None:
            write(self._dead_letters)
