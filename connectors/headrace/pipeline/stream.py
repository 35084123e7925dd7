"""A stream task's loop: consume, process, and commit outputs, state and offsets in one transaction.

What a task did since its last commit becomes visible as a whole or not at all. After an error in a transaction, also if
its producer was fenced, the task gives up everything that is not committed: it closes its clients, drops its state,
joins the group again, restores the state from the changelogs and continues at the committed offsets. Partitions are
committed before they are given away, and their state is restored before their first record is processed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from headrace.broker.interfaces import Admin, Consumer, Reader, RebalanceListener
from headrace.errors import DataError, HeadraceError, RetriableError, TaskError
from headrace.pipeline.control import LONGEST_SLEEP, KafkaReport, TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import Failure, raise_skipped
from headrace.pipeline.shutdown import close_clients, shut_down
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream_accounts import StateAccounts
from headrace.pipeline.stream_checkpoint import Checkpoints
from headrace.pipeline.stream_clients import StreamClients, StreamLimits
from headrace.pipeline.stream_fencing import FencingHistory
from headrace.pipeline.stream_limit import StateLimit
from headrace.pipeline.stream_metrics import StreamMetrics
from headrace.pipeline.stream_order import Run, StreamOrder
from headrace.pipeline.stream_processing import decode_internal, decode_shared, encode_results, encoder, process
from headrace.pipeline.stream_purge import RepartitionPurge
from headrace.pipeline.stream_registration import Registration, RegistrationGuard
from headrace.pipeline.stream_restore import StateRestorer
from headrace.pipeline.stream_silence import SilentPartitions
from headrace.pipeline.stream_state import StreamState
from headrace.pipeline.stream_topics import changelog_topic, check_co_partitions, ensure_topics, offsets_of, read_to_end
from headrace.pipeline.stream_transaction import StreamTransaction
from headrace.plugin import StreamContext, StreamTask
from headrace.records import ConsumedBatch, EncodedBatch, SinkBatch, TopicPartition
from headrace.retries import Backoff

T = TypeVar("T")

_MAX_RECORDS = 4_000
"""Records of one poll."""
_MAX_IN_TRANSACTION = 50_000
"""Records that are sent in a transaction before it is committed early: clients buffer a bounded number."""


class StreamPipeline:
    """One task's loop. Everything runs on the thread that calls :meth:`run`, the rebalance listener inside ``poll``."""

    def __init__(
        self,
        task: StreamTask,
        context: StreamContext,
        stages: Stages,
        clients: StreamClients,
        control: TaskControl,
        limits: StreamLimits,
    ) -> None:
        self._task = task
        self._context = context
        self._stages = stages
        self._clients = clients
        self._control = control
        self._limits = limits
        self._silence = SilentPartitions(limits.idle_after)
        self._limit = StateLimit(limits.most_entries, control)
        self._metrics = StreamMetrics(control.metrics)
        fencing = FencingHistory(clients.transactional_id)
        self._transaction = StreamTransaction(clients.open_producer, fencing, control)
        self._dead_letters: DeadLetterQueue | None = None
        self._consumer: Consumer | None = None
        self._tables: Reader | None = None
        self._positions: dict[TopicPartition, int] = {}
        """The next offset to read of each partition with records in the open transaction."""
        self._committed: dict[TopicPartition, int] = {}
        """The committed offsets of owned partitions, as far as they are known."""
        self._owned: set[TopicPartition] = set()
        self._to_restore: set[TopicPartition] = set()
        self._ahead: set[TopicPartition] = set()  # paused, because records of others are awaited
        self._reassigned = False  # since the last check of the partitions
        self._backoff = Backoff(control.retry_policy)
        self._next_commit = 0.0
        self._paused = False
        self._kafka_report = KafkaReport(control)
        self._giving_up = False  # what is not committed must not be committed any more
        self._listener_error: Exception | None = None

    def run(self) -> None:
        """Run until told to stop. Raise what the task cannot survive; nothing that is not committed becomes visible."""
        with shut_down(self._close, self._task.stop, self._stages):
            try:
                self._run()
            except BaseException:
                self._giving_up = True  # a batch may be processed in part
                raise

    def _run(self) -> None:
        self._topology = self._task.start(self._context)
        application = self._context.task.connector
        changelogs = {store: changelog_topic(application, store) for store in self._topology.stores}
        self._state = StreamState(changelogs, self._topology.stores)
        self._restorer = StateRestorer(
            application,
            self._topology,
            self._state,
            self._clients.open_admin,
            self._clients.open_reader,
            self._control,
            self._heartbeat,
            lambda item: item in self._owned,
            self._metrics.restored,
            Checkpoints(self._clients.checkpoints, self._control.log),
        )
        self._accounts = StateAccounts(
            application, self._task, self._state, self._control.metrics.steps, self._control.raise_condition
        )
        own = Registration.of(self._topology, self._clients.worker)
        self._guard = RegistrationGuard(application, own, self._clients.open_reader, self._control.stopping)
        self._purge = RepartitionPurge(
            self._topology.repartitions, self._limits.purge_interval, self._clients.open_admin, self._control.log
        )
        self._order = StreamOrder(self._topology, self._task.event_times, self._limits.max_task_idle)
        self._encode = encoder(self._stages, self._topology)
        self._control.retry(self._open)
        if not self._control.stopping():
            self._control.started()
        while not self._control.stopping():
            try:
                self._turn()
            except RetriableError as error:
                self._start_over(error)
        self._commit()
        if not self._giving_up:
            self._restorer.note_ends()

    # Opening and starting over

    def _open(self) -> None:
        self._with_admin(self._prepare)
        self._transaction.open()
        try:
            self._guard.register(self._transaction)
        except HeadraceError:
            self._transaction.discard()  # a producer is not used after an error: the retry opens another
            raise
        if self._clients.open_dead_letters is not None and self._dead_letters is None:
            with self._control.fence:
                self._dead_letters = self._clients.open_dead_letters(self._transaction)
        if self._consumer is None:
            self._giving_up, self._paused, self._ahead = False, False, set()
            consumer = self._clients.open_consumer()
            try:
                listener = RebalanceListener(self._revoked, self._assigned)
                consumer.subscribe(self._topology.consumed(), None, listener)
            except HeadraceError:
                close_clients(self._control, consumer.close)  # the retry opens and subscribes another
                raise
            self._consumer = consumer
        self._next_commit = time.monotonic() + self._limits.commit_interval

    def _with_admin(self, call: Callable[[Admin], T]) -> T:
        admin = self._clients.open_admin()
        try:
            return call(admin)
        finally:
            admin.close()

    def _prepare(self, admin: Admin) -> None:
        with self._control.fence:
            ensure_topics(admin, self._context.task.connector, self._topology)
            self._guard.prepare(admin)
        if self._tables is None and self._topology.followed():
            self._load_tables(admin)

    def _load_tables(self, admin: Admin) -> None:
        ends = admin.end_offsets(self._topology.followed())
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
        """Discard what is not committed, wait, and continue at the committed offsets with new clients."""
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
            close_clients(self._control, consumer.close)
        self._positions.clear()
        self._committed.clear()
        self._order.clear()
        self._silence.clear()
        self._accounts.revoked(self._owned)
        self._owned.clear()
        self._to_restore.clear()
        self._state.clear()
        self._restorer.checkpoints.close()
        self._listener_error = None

    # The loop

    def _turn(self) -> None:
        self._follow_pause()
        until_commit = self._next_commit - time.monotonic()
        consumed = self._poll(max(0.0, min(until_commit, LONGEST_SLEEP, self._order.wait())))
        while self._to_restore:
            if not self._restore():
                return  # stopped: the state is not complete, and the records are read again
        if self._reassigned:
            check_co_partitions(self._topology, self._owned)
            self._with_admin(self._guard.check)
            self._look_up_offsets()
            self._reassigned = False
        if self._tables is not None:
            for batch in self._tables.poll(0, _MAX_RECORDS):
                self._update_table(batch)
        for batch in consumed:
            if batch.topic_partition in self._owned:
                self._take(batch)
        if not self._paused:
            self._process_waiting()
        if time.monotonic() >= self._next_commit:
            self._advance_silent()
            self._commit()

    def _take(self, batch: ConsumedBatch) -> None:
        """Decode records, and process them now, or when it is their turn."""
        place = batch.topic_partition
        self._silence.received(place)
        self._clients.topic_used(place.topic)
        parts: Sequence[SinkBatch] = ()
        failures: Sequence[Failure] = ()
        if place.topic in self._topology.repartitions:
            parts = [decode_internal(batch)]
        else:
            parts, failures = self._stages.decode(batch)
        if self._order.orders(place):
            self._order.add(batch, parts, failures)
        else:
            self._order.note_delivered(batch)
            self._process(Run(batch, parts, failures, batch.offsets[-1] + 1))

    def _process_waiting(self) -> None:
        assert self._consumer is not None
        for run in self._order.runs():
            self._process(run)
        ahead = self._order.to_pause()
        if ahead != self._ahead:
            self._consumer.pause_only(ahead)
            self._ahead = ahead

    def _advance_silent(self) -> None:
        """Advance the stream time of partitions without records, so that their windows and joins close."""
        if self._paused or self._giving_up:
            return
        for place, silent in self._silence.due():
            if self._order.is_waiting(place) or place not in self._committed:
                continue
            self._control.fence.check()
            result = self._task.advance(place, silent, self._state.of(place))
            if result.changes:
                self._send(encode_results(result, place, self._encode))
                self._state.apply(place.partition, result.changes)
                self._metrics.processed(sum(map(len, result.outputs)), (), result.steps)
                # With an offset, the transaction fails if another task has the partition now.
                self._positions.setdefault(place, self._committed[place])
                self._silence.advanced(place)

    def _poll(self, timeout: float) -> list[ConsumedBatch]:
        assert self._consumer is not None
        began = time.monotonic()
        consumed = self._consumer.poll(timeout, _MAX_RECORDS)
        if not consumed:
            self._order.waited(time.monotonic() - began)
        if self._listener_error is not None:
            raise self._listener_error
        if self._clients.gaps is not None:
            self._clients.gaps.check(consumed)
        problem = None if consumed else self._consumer.connection_problem()
        self._kafka_report.update(problem)
        self._silence.polled(reading=problem is None and not self._paused)
        return consumed

    def _update_table(self, batch: ConsumedBatch) -> None:
        """Apply records of a table. Records that are not rows are reported and left out: they are in no transaction."""
        is_shared = batch.topic_partition.topic in self._topology.shared
        decoded, failures = decode_shared(batch) if is_shared else self._stages.decode(batch)
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

    def _process(self, run: Run) -> None:
        self._control.fence.check()
        place = run.consumed.topic_partition
        self._metrics.consumed(place, len(run), run.consumed.end_offset)
        self._refuse(run.failures, run.consumed)
        for part in run.parts:
            result = process(self._task, part, self._state.of(place), self._encode)
            self._refuse(result.failures, run.consumed)
            self._send(result.outputs)
            self._state.apply(place.partition, result.changes)
            self._metrics.processed(sum(map(len, result.outputs)), (), result.steps)
        self._positions[place] = run.next_offset
        if self._transaction.records >= _MAX_IN_TRANSACTION:
            self._commit()

    def _send(self, outputs: Iterable[EncodedBatch]) -> None:
        for output in outputs:
            self._transaction.send(output)
            self._clients.topic_used(output.topic)

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
        self._next_commit = time.monotonic() + self._limits.commit_interval
        if self._giving_up or self._consumer is None or not self._positions:
            return
        try:
            written = list(self._state.changelog_batches())
            for changelog, partition in written:
                self._transaction.send(changelog, partition)
        except DataError as error:
            raise TaskError(
                f"the state cannot be written: {error.message}", code=error.code, hint=error.hint
            ) from error
        self._transaction.commit(self._positions, self._consumer.group_metadata)
        self._accounts.committed()
        self._state.committed()
        self._restorer.committed(written)
        topic = self._dead_letters.topic if self._dead_letters is not None else ""
        raise_skipped(self._control.raise_condition, self._metrics.failures, topic, self._context.task.connector)
        entries = self._state.entries()
        self._metrics.committed(self._positions, entries, dead_lettered=self._dead_letters is not None)
        self._committed.update(self._positions)
        gaps = self._clients.gaps
        self._purge.committed(self._positions, gaps.unexplained() if gaps is not None else {})
        self._positions = {}
        if self._backoff.failures:
            self._control.recovered(self._backoff.reset(), "transaction")
        self._limit.check(entries)

    def _follow_pause(self) -> None:
        assert self._consumer is not None
        wished = self._control.paused.is_set()
        if wished and not self._paused:
            self._consumer.pause_all()
            self._commit()
        elif self._paused and not wished:
            self._consumer.resume_all()
        self._paused = wished

    def _look_up_offsets(self) -> None:
        """Find out which partitions have unread records, to wait for them, and the offsets of silent ones."""
        if not self._order.orders_any() and not self._silence.enabled:
            return
        try:
            found = self._with_admin(lambda admin: offsets_of(admin, self._clients.group, self._topology, self._owned))
        except HeadraceError as error:  # the order is a best effort, and a silent partition waits for a record
            self._control.log.warning("committed offsets not known", code=error.code, reason=str(error))
            self._order.note_unread(self._owned)
            return
        self._committed.update(found.committed)
        self._order.note_unread(found.unread)

    # Partitions and their state

    def _assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._owned.update(partitions)
        self._order.assigned(partitions)
        self._silence.assigned(partitions)
        self._reassigned = True
        followed = {topic for topics in self._topology.stores.values() for topic in topics}
        self._to_restore.update(item for item in partitions if item.topic in followed)
        if self._clients.gaps is not None:
            self._clients.gaps.assigned(partitions)
        self._control.log.info("partitions assigned", partitions=[str(item) for item in partitions])

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit, then release the partitions. Clients may suppress errors of listeners, so the loop raises them."""
        try:
            self._commit()
        except Exception as error:
            self._listener_error, self._giving_up = error, True
        self._reassigned = True
        self._owned.difference_update(partitions)
        self._to_restore.difference_update(partitions)
        for item in partitions:
            self._positions.pop(item, None)
            self._committed.pop(item, None)
        self._order.revoked(partitions)
        self._silence.revoked(partitions)
        self._accounts.revoked(partitions)
        self._state.drop(partitions)
        self._restorer.revoked(partitions)
        if self._clients.gaps is not None:
            self._clients.gaps.revoked(partitions)

    def _restore(self) -> bool:
        """Restore what was assigned. Partitions that are assigned meanwhile remain to be restored."""
        assert self._consumer is not None
        restored, self._to_restore = self._to_restore, set()
        reached = self._restorer.restore(restored)
        if reached:
            self._accounts.restored(restored)
        self._limit.check(self._state.entries())
        if not self._control.paused.is_set():
            self._consumer.resume_all()
        return reached

    def _heartbeat(self) -> None:
        assert self._consumer is not None
        self._consumer.pause_all()
        if self._poll(0):
            raise RuntimeError("a paused consumer delivered records")  # continuing would skip them

    def _close(self) -> None:
        """Leave the group; what is not committed is processed again by the next owner of its partition."""
        if self._control.fence.closed:
            self._giving_up = True
        close_clients(
            self._control, self._close_consumer, self._transaction.discard, self._close_reader, self._close_gaps
        )
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
