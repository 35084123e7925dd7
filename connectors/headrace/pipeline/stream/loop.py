"""The loop of a stream task: consume, process, and commit outputs, state and offsets in one transaction.

What a task did since its last commit becomes visible as a whole or not at all. After an error in a transaction, also if
its producer was fenced, the task gives up everything that is not committed: it closes its clients, drops its state,
joins the group again, restores the state from the changelogs and continues at the committed offsets. Partitions are
committed before they are given away, and their state is restored before their first record is processed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from headrace.broker.interfaces import Admin, Consumer, RebalanceListener
from headrace.errors import HeadraceError, RetriableError
from headrace.pipeline.control import LONGEST_SLEEP, KafkaReport, TaskControl
from headrace.pipeline.fault_policy import Failure
from headrace.pipeline.shutdown import close_clients
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream.checkpoint import Checkpoints
from headrace.pipeline.stream.clients import StreamClients, StreamLimits
from headrace.pipeline.stream.encoding import decode_internal
from headrace.pipeline.stream.limit import StateLimit
from headrace.pipeline.stream.order import Run, StreamOrder
from headrace.pipeline.stream.purge import RepartitionPurge
from headrace.pipeline.stream.queries import StateEntries, find_entries
from headrace.pipeline.stream.registration import Registration, RegistrationGuard
from headrace.pipeline.stream.restore import StateRestorer
from headrace.pipeline.stream.silence import SilentPartitions
from headrace.pipeline.stream.state import StreamState
from headrace.pipeline.stream.tables import FollowedTables
from headrace.pipeline.stream.topics import changelog_topic, check_co_partitions, ensure_topics, offsets_of
from headrace.pipeline.stream.work import UncommittedWork
from headrace.plugin import StreamTask, StreamTopology
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition
from headrace.retries import Backoff

T = TypeVar("T")

_MAX_RECORDS = 4_000
"""Records of one poll."""
_QUIET = 2.0
"""Seconds with partitions and without anything to commit, after which the error of an earlier transaction is over."""


class StreamLoop:
    """Everything runs on the thread that calls :meth:`run`, the rebalance listener inside ``poll``."""

    def __init__(
        self,
        application: str,
        task: StreamTask,
        topology: StreamTopology,
        stages: Stages,
        clients: StreamClients,
        control: TaskControl,
        limits: StreamLimits,
    ) -> None:
        self._application = application
        self._task = task
        self._topology = topology
        self._stages = stages
        self._clients = clients
        self._control = control
        self._limits = limits
        changelogs = {store: changelog_topic(application, store) for store in topology.stores}
        self._state = StreamState(changelogs, topology.stores)
        self._work = UncommittedWork(application, task, topology, self._state, stages, clients, control)
        self._tables = FollowedTables(task, topology, stages, clients.open_reader, control)
        self._restorer = StateRestorer(
            application,
            topology,
            self._state,
            clients.open_admin,
            clients.open_reader,
            control,
            self._heartbeat,
            lambda item: item in self._owned,
            self._work.metrics.restored,
            Checkpoints(clients.checkpoints, control.log),
        )
        own = Registration.of(topology, clients.worker)
        self._guard = RegistrationGuard(application, own, clients.open_reader, control.stopping)
        self._purge = RepartitionPurge(topology.repartitions, limits.purge_interval, clients.open_admin, control.log)
        self._order = StreamOrder(topology, task.event_times, limits.max_task_idle)
        self._silence = SilentPartitions(limits.idle_after)
        self._limit = StateLimit(limits.most_entries, control)
        self._consumer: Consumer | None = None
        self._owned: set[TopicPartition] = set()
        self._to_restore: set[TopicPartition] = set()
        self._ahead: set[TopicPartition] = set()  # paused, because records of others are awaited
        self._reassigned = False  # since the last check of the partitions
        self._backoff = Backoff(control.retry_policy)
        self._assigned_at = math.inf  # since it started over
        self._next_commit = 0.0
        self._paused = False
        self._kafka_report = KafkaReport(control)
        self._listener_error: Exception | None = None

    def run(self) -> None:
        """Run until told to stop. Raise what the task cannot survive; nothing that is not committed becomes visible."""
        try:
            self._run()
        except BaseException:
            self._work.given_up = True  # a batch may be processed in part
            raise

    def close(self) -> None:
        """Leave the group; what is not committed is processed again by the next owner of its partition."""
        if self._control.fence.closed:
            self._work.given_up = True
        close_clients(self._control, self._close_consumer, self._work.discard, self._tables.close, self._close_gaps)

    def _run(self) -> None:
        self._control.retry(self._open)
        if not self._control.stopping():
            self._control.started()
        while not self._control.stopping():
            try:
                self._turn()
            except RetriableError as error:
                self._start_over(error)
        self._commit()
        if not self._work.given_up:
            self._restorer.note_ends()

    # Opening and starting over

    def _open(self) -> None:
        self._with_admin(self._prepare)
        self._work.open(self._guard.register)
        consumer = self._clients.open_consumer()
        try:
            consumer.subscribe(self._topology.consumed(), None, RebalanceListener(self._revoked, self._assigned))
        except HeadraceError:
            close_clients(self._control, consumer.close)  # the retry opens and subscribes another
            raise
        self._consumer = consumer
        self._work.begin(consumer.group_metadata)
        self._paused, self._ahead, self._assigned_at = False, set(), math.inf
        self._next_commit = time.monotonic() + self._limits.commit_interval

    def _with_admin(self, call: Callable[[Admin], T]) -> T:
        admin = self._clients.open_admin()
        try:
            return call(admin)
        finally:
            admin.close()

    def _prepare(self, admin: Admin) -> None:
        with self._control.fence:
            ensure_topics(admin, self._application, self._topology)
            self._guard.prepare(admin)
        self._tables.load(admin)

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
        self._work.discard()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            close_clients(self._control, consumer.close)
        self._order.clear()
        self._silence.clear()
        self._work.accounts.revoked(self._owned)
        self._owned.clear()
        self._to_restore.clear()
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
        self._tables.update()
        for batch in consumed:
            if batch.topic_partition in self._owned:
                self._take(batch)
        if not self._paused:
            self._process_waiting()
        if time.monotonic() >= self._next_commit:
            self._advance_silent()
            self._commit()
        self._control.queries.serve(self._find_entries)

    def _find_entries(self, store: str, keys: Sequence[Any]) -> StateEntries:
        return find_entries(self._task, self._topology, self._state, self._owned, store, keys)

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
        if self._paused or self._work.given_up:
            return
        for place, silent in self._silence.due():
            if self._order.is_waiting(place) or place not in self._work.known_offsets:
                continue
            if self._work.advance(place, silent):
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

    def _process(self, run: Run) -> None:
        self._work.process(run)
        if self._work.is_full:
            self._commit()

    def _commit(self) -> None:
        self._next_commit = time.monotonic() + self._limits.commit_interval
        committed = self._work.commit()
        if committed is None:
            if self._backoff.failures and time.monotonic() - self._assigned_at > _QUIET:
                # Another task may have processed what failed here, and nothing may come for hours.
                self._control.recovered(self._backoff.reset(), "transaction")
            return
        self._restorer.committed(committed.changelogs)
        gaps = self._clients.gaps
        self._purge.committed(committed.offsets, gaps.unexplained() if gaps is not None else {})
        if self._backoff.failures:
            self._control.recovered(self._backoff.reset(), "transaction")
        self._limit.check(committed.entries)

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
        self._work.known_offsets.update(found.committed)
        self._order.note_unread(found.unread)

    # Partitions and their state

    def _assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._owned.update(partitions)
        self._order.assigned(partitions)
        self._silence.assigned(partitions)
        self._reassigned = True
        self._assigned_at = time.monotonic()
        followed = {topic for topics in self._topology.stores.values() for topic in topics}
        self._to_restore.update(item for item in partitions if item.topic in followed)
        if self._clients.gaps is not None:
            self._clients.gaps.assigned(partitions)
        self._control.rebalanced("assigned", partitions)

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit, then release the partitions. Clients may suppress errors of listeners, so the loop raises them."""
        try:
            self._commit()
        except Exception as error:
            self._listener_error, self._work.given_up = error, True
        self._control.rebalanced("revoked", partitions)
        self._reassigned = True
        self._owned.difference_update(partitions)
        self._to_restore.difference_update(partitions)
        self._work.revoked(partitions)
        self._order.revoked(partitions)
        self._silence.revoked(partitions)
        self._restorer.revoked(partitions)
        if self._clients.gaps is not None:
            self._clients.gaps.revoked(partitions)

    def _restore(self) -> bool:
        """Restore what was assigned. Partitions that are assigned meanwhile remain to be restored."""
        assert self._consumer is not None
        restored, self._to_restore = self._to_restore, set()
        reached = self._restorer.restore(restored)
        if reached:
            self._work.accounts.restored(restored)
        self._limit.check(self._state.entries())
        if not self._control.paused.is_set():
            self._consumer.resume_all()
        return reached

    def _heartbeat(self) -> None:
        assert self._consumer is not None
        self._consumer.pause_all()
        if self._poll(0):
            raise RuntimeError("a paused consumer delivered records")  # continuing would skip them

    def _close_consumer(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        if self._listener_error is not None:
            self._control.log.warning("partitions revoked without a commit", reason=str(self._listener_error))

    def _close_gaps(self) -> None:
        if self._clients.gaps is not None:
            self._clients.gaps.close()
