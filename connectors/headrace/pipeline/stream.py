"""A stream task's loop: consume, process, and commit outputs, state and offsets in one transaction.

What a task did since its last commit becomes visible as a whole or not at all. After an error in a transaction the task
gives up everything that is not committed: it closes its clients, drops its state, joins the group again, restores the
state from the changelogs and continues at the committed offsets. Partitions are committed before they are given away,
and their state is restored before their first record is processed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headrace.broker.interfaces import Admin, Consumer, Producer, Reader, RebalanceListener, TransactionalProducer
from headrace.errors import DataError, HeadraceError, RetriableError, TaskError
from headrace.pipeline.control import LONGEST_SLEEP, TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import Failure, raise_skipped
from headrace.pipeline.fence import TaskAbandonedError
from headrace.pipeline.offset_gaps import OffsetGaps
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream_metrics import StreamMetrics
from headrace.pipeline.stream_processing import decode_internal, encoder, process
from headrace.pipeline.stream_state import StreamState
from headrace.pipeline.stream_topics import changelog_topic, check_co_partitions, ensure_topics, read_to_end
from headrace.pipeline.stream_transaction import StreamTransaction
from headrace.plugin import StreamContext, StreamTask
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition
from headrace.retries import Backoff

_MAX_RECORDS = 4_000
"""Records of one poll."""
_MAX_IN_TRANSACTION = 50_000
"""Records that are sent in a transaction before it is committed early: clients buffer a bounded number."""
_HEARTBEAT = 1.0
"""Seconds between two polls of the paused consumer while state is restored."""


@dataclass(frozen=True)
class StreamClients:
    """Makes the clients of a stream task."""

    open_consumer: Callable[[], Consumer]
    open_producer: Callable[[], TransactionalProducer]
    open_reader: Callable[[], Reader]
    open_admin: Callable[[], Admin]
    open_dead_letters: Callable[[Producer], DeadLetterQueue] | None = None
    """Is given a producer that sends within the task's transactions."""
    topic_used: Callable[[str], None] = lambda topic: None
    gaps: OffsetGaps | None = None


class StreamPipeline:
    """One task's loop. Everything runs on the thread that calls :meth:`run`, the rebalance listener inside ``poll``."""

    def __init__(
        self,
        task: StreamTask,
        context: StreamContext,
        stages: Stages,
        clients: StreamClients,
        control: TaskControl,
        commit_interval: float,
    ) -> None:
        """``commit_interval`` in seconds."""
        self._task = task
        self._context = context
        self._stages = stages
        self._clients = clients
        self._control = control
        self._commit_interval = commit_interval
        self._metrics = StreamMetrics(control.metrics)
        self._transaction = StreamTransaction(clients.open_producer, control)
        self._dead_letters: DeadLetterQueue | None = None
        self._consumer: Consumer | None = None
        self._tables: Reader | None = None
        self._positions: dict[TopicPartition, int] = {}
        """The next offset to read of each partition with records in the open transaction."""
        self._owned: set[TopicPartition] = set()
        self._to_restore: set[TopicPartition] = set()
        self._reassigned = False  # since the last check of the partitions
        self._backoff = Backoff(control.retry_policy)
        self._next_commit = 0.0
        self._paused = False
        self._kafka_problem: str | None = None
        self._giving_up = False  # what is not committed must not be committed any more
        self._listener_error: Exception | None = None

    def run(self) -> None:
        """Run until told to stop. Raise what the task cannot survive; nothing that is not committed becomes visible."""
        try:
            self._topology = self._task.start(self._context)
            application = self._context.task.connector
            changelogs = {store: changelog_topic(application, store) for store in self._topology.stores}
            self._state = StreamState(changelogs, self._topology.stores)
            self._encode = encoder(self._stages, self._topology.repartitions.keys())
            self._control.retry(self._open)
            if not self._control.stopping():
                self._control.started()
            while not self._control.stopping():
                try:
                    self._turn()
                except RetriableError as error:
                    self._start_over(error)
            self._commit()
        except BaseException:
            self._giving_up = True  # a batch may be processed in part
            raise
        finally:
            try:
                self._close()
            finally:
                try:
                    self._task.stop()
                finally:
                    self._stages.close()

    # Opening and giving up

    def _open(self) -> None:
        admin = self._clients.open_admin()
        try:
            with self._control.fence:
                ensure_topics(admin, self._context.task.connector, self._topology)
            if self._tables is None and self._topology.tables:
                self._load_tables(admin)
        finally:
            admin.close()
        self._transaction.open()
        if self._clients.open_dead_letters is not None and self._dead_letters is None:
            with self._control.fence:
                self._dead_letters = self._clients.open_dead_letters(self._transaction)
        if self._consumer is None:
            self._giving_up, self._paused = False, False
            consumer = self._clients.open_consumer()
            try:
                listener = RebalanceListener(self._revoked, self._assigned)
                consumer.subscribe(self._topology.consumed(), None, listener)
            except HeadraceError:
                self._quietly(consumer.close)  # the retry opens and subscribes another
                raise
            self._consumer = consumer
        self._next_commit = time.monotonic() + self._commit_interval

    def _load_tables(self, admin: Admin) -> None:
        ends = admin.end_offsets(self._topology.tables)
        reader = self._clients.open_reader()
        try:
            reader.assign(dict.fromkeys(ends, 0))
            reached = read_to_end(reader, ends, self._update_table, self._proceed("reading tables"))
        except BaseException:
            reader.close()
            raise
        self._control.reasons.set("tables", None)
        if reached:
            self._tables = reader
        else:
            reader.close()

    def _proceed(self, doing: str) -> Callable[[int], bool]:
        def proceed(remaining: int) -> bool:
            self._control.reasons.set("tables", f"{doing}: {remaining:,} records remain")
            return not self._control.stopping()

        return proceed

    def _start_over(self, error: RetriableError) -> None:
        """Give up what is not committed, wait, and continue at the committed offsets with new clients."""
        wait = self._backoff.next_wait(error)
        if wait is None:
            raise error
        self._control.retrying(error, self._backoff.failures, "transaction")
        self._give_up()
        end = time.monotonic() + wait
        while not self._control.stopping() and (left := end - time.monotonic()) > 0:
            self._control.sleep(left)
        self._control.retry(self._open)

    def _give_up(self) -> None:
        self._giving_up = True
        self._metrics.discarded()
        self._transaction.discard()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._quietly(consumer.close)
        self._positions.clear()
        self._owned.clear()
        self._to_restore.clear()
        self._state.clear()
        self._listener_error = None

    def _quietly(self, close: Callable[[], None]) -> None:
        try:
            close()
        except HeadraceError as error:
            self._control.log.warning("client not closed", code=error.code, reason=str(error))

    # The loop

    def _turn(self) -> None:
        self._follow_pause()
        consumed = self._poll(max(0.0, min(self._next_commit - time.monotonic(), LONGEST_SLEEP)))
        while self._to_restore:
            if not self._restore():
                return  # stopped: the state is not complete, and the records are read again
        if self._reassigned:
            check_co_partitions(self._topology, self._owned)
            self._reassigned = False
        if self._tables is not None:
            for batch in self._tables.poll(0, _MAX_RECORDS):
                self._update_table(batch)
        for batch in consumed:
            if batch.topic_partition in self._owned:
                self._process(batch)
        if time.monotonic() >= self._next_commit or self._transaction.records >= _MAX_IN_TRANSACTION:
            self._commit()

    def _poll(self, timeout: float) -> list[ConsumedBatch]:
        assert self._consumer is not None
        consumed = self._consumer.poll(timeout, _MAX_RECORDS)
        if self._listener_error is not None:
            raise self._listener_error
        if self._clients.gaps is not None:
            self._clients.gaps.check(consumed)
        self._report_kafka(None if consumed else self._consumer.connection_problem())
        return consumed

    def _report_kafka(self, problem: str | None) -> None:
        if problem == self._kafka_problem:
            return
        self._kafka_problem = problem
        if problem is None:
            self._control.recovered(1, "kafka")
            return
        self._control.reasons.set("kafka", f"waiting for Kafka: {problem}")
        self._control.log.warning("waiting", code="kafka.unreachable", reason=problem)

    def _update_table(self, batch: ConsumedBatch) -> None:
        """Apply records of a table. What cannot be a row is reported and left out: it belongs to no transaction."""
        decoded, failures = self._stages.decode(batch)
        rejected = [item for part in decoded for item in self._task.update_table(part)]
        if failures or rejected:
            errors = [*(item.error for item in failures), *(item.error for item in rejected)]
            self._control.raise_condition(
                "stream.table_rows",
                f"records of table topic {batch.topic_partition.topic} are not rows and were left out",
                "fix them in their source; the table is read again when the task restarts",
                count=len(errors),
                example=f"{batch.topic_partition}: {errors[-1].message}",
            )

    def _process(self, batch: ConsumedBatch) -> None:
        self._control.fence.check()
        place = batch.topic_partition
        self._metrics.consumed(batch)
        self._clients.topic_used(place.topic)
        if place.topic in self._topology.repartitions:
            parts: Sequence[SinkBatch] = [decode_internal(batch)]
        else:
            parts, failures = self._stages.decode(batch)
            self._refuse(failures, batch)
        for part in parts:
            result = process(self._task, part, self._state.of(place), self._encode)
            self._refuse(result.failures, batch)
            for output in result.outputs:
                self._transaction.send(output)
                self._clients.topic_used(output.topic)
            self._state.apply(place.partition, result.changes)
            self._metrics.processed(sum(map(len, result.outputs)), (), result.steps)
        self._positions[place] = batch.offsets[-1] + 1

    def _refuse(self, failures: Sequence[Failure], batch: ConsumedBatch) -> None:
        """Write refused records to the dead letter queue, in the transaction. Raise TaskError by errors.tolerance."""
        if not failures:
            return
        originals = {batch.topic_partition: batch}
        try:
            self._stages.policy.apply_tolerance(failures)
        except TaskError:
            # Nothing else of this transaction may be committed: the batch is processed again after a restart.
            if self._dead_letters is not None:
                self._transaction.discard()
                self._transaction.open()
                self._dead_letters.write(failures, originals)
                assert self._consumer is not None
                self._transaction.commit({}, self._consumer.group_metadata)
            self._giving_up = True
            raise
        if self._dead_letters is not None:
            self._dead_letters.write(failures, originals)
        self._metrics.processed(0, failures, {})

    def _commit(self) -> None:
        self._next_commit = time.monotonic() + self._commit_interval
        if self._giving_up or self._consumer is None or not self._positions:
            return
        try:
            for changelog, partition in self._state.changelog_batches():
                self._transaction.send(changelog, partition)
        except DataError as error:
            raise TaskError(
                f"the state cannot be written: {error.message}", code=error.code, hint=error.hint
            ) from error
        self._transaction.commit(self._positions, self._consumer.group_metadata)
        self._state.committed()
        topic = self._dead_letters.topic if self._dead_letters is not None else ""
        raise_skipped(self._control.raise_condition, self._metrics.failures, topic, self._context.task.connector)
        self._metrics.committed(self._positions, self._state.entries(), dead_lettered=self._dead_letters is not None)
        self._positions = {}
        if self._backoff.failures:
            self._control.recovered(self._backoff.reset(), "transaction")

    def _follow_pause(self) -> None:
        assert self._consumer is not None
        wished = self._control.paused.is_set()
        if wished and not self._paused:
            self._consumer.pause_all()
            self._commit()
        elif self._paused and not wished:
            self._consumer.resume_all()
        self._paused = wished

    # Partitions and their state

    def _assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._owned.update(partitions)
        self._reassigned = True
        followed = {topic for topics in self._topology.stores.values() for topic in topics}
        self._to_restore.update(item for item in partitions if item.topic in followed)
        if self._clients.gaps is not None:
            self._clients.gaps.assigned(partitions)
        self._control.log.info("partitions assigned", partitions=[str(item) for item in partitions])

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit, then give the partitions away. A client may swallow what a listener raises, so the loop raises it."""
        try:
            self._commit()
        except Exception as error:
            self._listener_error, self._giving_up = error, True
        self._reassigned = True
        self._owned.difference_update(partitions)
        self._to_restore.difference_update(partitions)
        for item in partitions:
            self._positions.pop(item, None)
        self._state.drop(partitions)
        if self._clients.gaps is not None:
            self._clients.gaps.revoked(partitions)

    def _restore(self) -> bool:
        """Read the changelogs of the partitions that were assigned, before their first record is processed.

        Return False when the task is stopping. Partitions that are assigned meanwhile remain to be restored.
        """
        restored, self._to_restore = self._to_restore, set()
        wanted = {
            TopicPartition(changelog_topic(self._context.task.connector, store), item.partition): item
            for item in restored
            for store, followed in self._topology.stores.items()
            if item.topic in followed
        }
        self._state.drop(restored)
        admin = self._clients.open_admin()
        try:
            # The end of the log: records of a transaction that its owner is committing at this moment count, too.
            found = admin.end_offsets(sorted({item.topic for item in wanted}), committed=False)
        finally:
            admin.close()
        ends = {item: found[item] for item in wanted if found.get(item)}
        return not ends or self._read_changelogs(ends, wanted)

    def _read_changelogs(
        self, ends: Mapping[TopicPartition, int], followed: Mapping[TopicPartition, TopicPartition]
    ) -> bool:
        assert self._consumer is not None
        consumer, next_heartbeat, restored = self._consumer, time.monotonic() + _HEARTBEAT, 0

        def apply(batch: ConsumedBatch) -> None:
            nonlocal restored
            if followed[batch.topic_partition] in self._owned:
                self._state.restore(batch)
                restored += len(batch)

        def proceed(remaining: int) -> bool:
            nonlocal next_heartbeat
            self._control.reasons.set("restore", f"restoring state: {remaining:,} changelog records remain")
            if time.monotonic() >= next_heartbeat:
                next_heartbeat = time.monotonic() + _HEARTBEAT
                consumer.pause_all()
                if self._poll(0):
                    raise RuntimeError("a paused consumer delivered records")  # continuing would skip them
            return not self._control.stopping()

        reader = self._clients.open_reader()
        try:
            reader.assign(dict.fromkeys(ends, 0))
            reached = read_to_end(reader, ends, apply, proceed)
        finally:
            reader.close()
            self._control.reasons.set("restore", None)
        self._metrics.restored(restored)
        if not self._control.paused.is_set():
            consumer.resume_all()
        if reached:
            self._control.log.info("state restored", records=restored, partitions=len(ends))
        return reached

    def _close(self) -> None:
        """Leave the group; what is not committed is processed again by the next owner of its partition."""
        if self._control.fence.closed:
            self._giving_up = True
        for close in (self._close_consumer, self._transaction.discard, self._close_reader, self._close_gaps):
            try:
                close()
            except TaskAbandonedError as error:
                self._control.log.warning("not committed", code=error.code, reason=str(error))
            except HeadraceError as error:
                self._control.log.warning("client not closed", code=error.code, reason=str(error))
        self._metrics.discarded()

    def _close_consumer(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        if self._listener_error is not None:
            self._control.log.warning("partitions revoked without a commit", reason=str(self._listener_error))

    def _close_reader(self) -> None:
        if self._tables is not None:
            self._tables.close()

    def _close_gaps(self) -> None:
        if self._clients.gaps is not None:
            self._clients.gaps.close()
