"""A sink task's loop: consume, convert, transform, put, and commit what is durable.

A consumer position moves only past records that the sink's system has, that the dead letter queue has, or that a
transform or ``errors.tolerance`` dropped. While the system is unavailable the task stays a member of its consumer
group and retries the same batches.

A task that can begin a put without waiting for its end has a few in flight, so that its system works while the next
records are read and converted. :mod:`headrace.pipeline.put_queue` defines the states of puts and the allowed steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.broker.interfaces import Consumer, RebalanceListener
from headrace.errors import RetriableError
from headrace.pipeline.control import LONGEST_SLEEP, KafkaReport, TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import Failure, Stage, raise_skipped
from headrace.pipeline.fence import TaskAbandonedError
from headrace.pipeline.freshness_objective import FreshnessObjective
from headrace.pipeline.hop_times import SinkHops
from headrace.pipeline.linger_buffer import LingerBuffer
from headrace.pipeline.offset_gaps import OffsetGaps
from headrace.pipeline.partition_share import PartitionShare, Shortage
from headrace.pipeline.put_queue import InFlightPut, PutQueue, PutState, PutStep
from headrace.pipeline.shutdown import close_clients, shut_down
from headrace.pipeline.sink_metrics import SinkMetrics
from headrace.pipeline.stages import Stages
from headrace.plugin import SinkContext, SinkTask
from headrace.records import ConsumedBatch, PutResult, TopicPartition
from headrace.retries import Backoff

_IN_FLIGHT_POLL = 0.005
"""Seconds: the longest poll for new records while puts are in flight."""
_IDLE_INTERVAL = 5.0
"""Seconds: the longest time between two calls of ``idle`` of a task that has nothing in flight."""


@dataclass(frozen=True)
class ConsumerFactory:
    """Creates the clients of a sink task; has the topics that they subscribe to."""

    open_consumer: Callable[[], Consumer]
    topics: Sequence[str]
    pattern: str | None
    open_dead_letters: Callable[[], DeadLetterQueue] | None = None
    topic_used: Callable[[str], None] = lambda topic: None
    """Called for each consumed batch."""
    gaps: OffsetGaps | None = None
    """Finds records that could not be read; None: no check."""
    share: PartitionShare | None = None
    """Compares the assigned partitions with what the task may expect; None: they are not compared."""


@dataclass(frozen=True)
class PutLimits:
    """Limits of the size and number of puts."""

    records: int = 4_000
    """Maximum number of records in a put."""
    size: int = 8 << 20
    """Approximate maximum of the bytes of values in a put: fewer records are polled when they are large."""
    ahead: int = 2
    """Maximum number of puts that may begin while an earlier one is not finished."""


class SinkPipeline:
    """One task's loop. Everything runs on the thread that calls :meth:`run`, the rebalance listener inside ``poll``."""

    def __init__(
        self,
        task: SinkTask,
        context: SinkContext,
        stages: Stages,
        factory: ConsumerFactory,
        control: TaskControl,
        limits: PutLimits = PutLimits(),
        objective: FreshnessObjective | None = None,
    ) -> None:
        """``objective``: of the age of the data (``freshness.slo``)."""
        self._task = task
        self._context = context
        self._stages = stages
        self._factory = factory
        self._control = control
        self._limits = limits
        self._hops = SinkHops(control.metrics.freshness, objective, spans=control.spans)
        self._metrics = SinkMetrics(control.metrics, self._hops)
        self._executor = f"{type(task).__module__}.{type(task).__qualname__}"
        self._consumer: Consumer | None = None
        self._dead_letters: DeadLetterQueue | None = None
        self._linger_buffer: LingerBuffer | None = None
        self._puts = PutQueue()
        self._put_backoff = Backoff(control.retry_policy)
        self._poll_backoff = Backoff(control.retry_policy)
        self._max_records = limits.records
        self._next_commit = time.monotonic() + control.flush_interval
        self._next_idle = 0.0
        self._idle_failures = 0
        self._paused = False
        self._kafka_report = KafkaReport(control)
        self._shortage: Shortage | None = None
        self._revocation_error: Exception | None = None  # raised inside the rebalance listener, for the loop

    def run(self) -> None:
        """Run until the task must stop. Raise what fails the task; durable positions are committed in any case."""
        with shut_down(self._close, self._task.stop, self._stages):
            self._control.retry(self._open)
            self._control.retry(lambda: self._task.start(self._context))
            if self._task.linger is not None:
                self._linger_buffer = LingerBuffer(self._task.linger)
            if not self._control.stopping():
                self._control.started()
            while not self._control.stopping():
                self._turn()
            self._finish_begun()

    def _open(self) -> None:
        if self._factory.open_dead_letters is not None and self._dead_letters is None:
            with self._control.fence:
                self._dead_letters = self._factory.open_dead_letters()
        if self._consumer is None:
            self._consumer = self._factory.open_consumer()
            self._consumer.subscribe(
                self._factory.topics, self._factory.pattern, RebalanceListener(self._revoked, self._assigned)
            )

    def _turn(self) -> None:
        self._follow_pause()
        consumed = self._poll(self._poll_timeout())
        if consumed:
            self._metrics.consumed(consumed)
        self._hops.check()
        if self._linger_buffer is not None:
            consumed = self._linger_buffer.add(consumed)
        if consumed:
            self._take(consumed)
        # Nothing new: wait for the oldest put in flight, then poll again.
        self._process_puts(self._limits.ahead if consumed else max(0, len(self._puts) - 1))
        if time.monotonic() >= self._next_commit:
            self._commit()
        if consumed or self._paused:
            self._forget_idle_failures()
        elif not self._puts and time.monotonic() >= self._next_idle:
            self._call_idle()

    def _call_idle(self) -> None:
        self._control.fence.check()
        wait = min(self._control.flush_interval, _IDLE_INTERVAL)
        try:
            self._task.idle()
        except RetriableError as error:
            self._idle_failures += 1
            self._control.retrying(error, self._idle_failures, "idle")
            wait = max(wait, error.delay or 0.0)
        else:
            if self._idle_failures:
                self._control.recovered(self._idle_failures, "idle")
                self._idle_failures = 0
        self._next_idle = time.monotonic() + wait

    def _forget_idle_failures(self) -> None:
        """Clear the reason of ``idle``: a put reports itself what it waits for, and a paused task waits for nothing."""
        if self._idle_failures:
            self._idle_failures = 0
            self._control.reasons.set("idle", None)

    def _poll_timeout(self) -> float:
        timeout = min(self._next_commit - time.monotonic(), _IN_FLIGHT_POLL if self._puts else LONGEST_SLEEP)
        if self._linger_buffer:
            timeout = min(timeout, self._linger_buffer.remaining())
        return max(0.0, timeout)

    def _poll(self, timeout: float) -> list[ConsumedBatch]:
        assert self._consumer is not None
        try:
            consumed = self._consumer.poll(timeout, self._max_records)
        except RetriableError as error:
            wait = self._poll_backoff.next_wait(error)
            if wait is None:
                raise
            self._control.retrying(error, self._poll_backoff.failures, "poll")
            self._control.sleep(wait)
            consumed = []
        else:
            if self._poll_backoff.failures:
                self._control.recovered(self._poll_backoff.reset(), "poll")
            for batch in consumed:
                self._factory.topic_used(batch.topic_partition.topic)
            if self._factory.gaps is not None:
                self._factory.gaps.check(consumed)
            self._kafka_report.update(None if consumed else self._consumer.connection_problem())
            if not consumed and self._kafka_report.problem is None and self._factory.share is not None:
                self._report_shortage(self._factory.share.check(self._consumer.assignment()))
        if self._revocation_error is not None:
            raise self._revocation_error
        return consumed

    def _report_shortage(self, shortage: Shortage | None) -> None:
        if shortage == self._shortage:
            return
        self._shortage = shortage
        self._control.reasons.set("group", shortage.text if shortage is not None and shortage.waiting else None)
        self._control.notes.set("group", shortage.text if shortage is not None and not shortage.waiting else None)

    def _take(self, consumed: Sequence[ConsumedBatch]) -> None:
        """Convert, and begin to put when every earlier put has begun."""
        put = self._puts.add(consumed)
        records = put.records()
        size = sum(sum(map(len, filter(None, batch.values))) for batch in consumed)
        self._max_records = max(1, min(self._limits.records, self._limits.size * records // max(1, size)))
        try:
            self._step(put)
            if self._puts.allowed(put):
                self._step(put)
        except RetriableError as error:
            put.failure = error
        if put.pending is None:
            self._process_puts(0)

    def _process_puts(self, limit: int) -> None:
        """Complete puts, oldest first (write, dead-letter, apply tolerance, record positions), until at most ``limit``
        are in flight. After a RetriableError: until none is, without leaving the consumer group."""
        while not self._control.stopping() and (put := self._puts.oldest(limit)) is not None:
            try:
                if put.failure is not None:
                    failure, put.failure = put.failure, None
                    raise failure
                self._step(put)
                if put.state is PutState.WRITTEN:  # also when told to stop meanwhile: it need not be written again
                    self._step(put)
            except RetriableError as error:
                self._wait_for_retry(error)
        if self._put_backoff.failures and not self._puts.retrying:
            assert self._consumer is not None
            self._control.recovered(self._put_backoff.reset(), "put")
            self._paused = False  # _follow_pause pauses again if the user asked for it
            self._consumer.resume_all()

    def _step(self, put: InFlightPut) -> None:
        """Execute the next step of the put. Raise RetriableError; the put then keeps its state."""
        self._control.fence.check()
        match put.step():
            case PutStep.CONVERT:
                self._convert(put)
            case PutStep.BEGIN:
                put.pending = self._task.begin(put.batches) if put.batches else None
            case PutStep.FINISH:
                self._write(put)
            case PutStep.SETTLE:
                self._settle(put)
        self._puts.advance(put)
        if put.state is PutState.SETTLED:
            topic = self._dead_letters.topic if self._dead_letters is not None else ""
            raise_skipped(self._control.raise_condition, put.failures, topic, self._context.task.connector)
            self._metrics.settled(
                put, transformed=bool(self._stages.steps), dead_lettered=self._dead_letters is not None
            )

    def _convert(self, put: InFlightPut) -> None:
        batches, failures = [], []
        for batch in put.consumed.values():
            decoded, refused = self._stages.decode(
                batch, json_texts=self._task.takes_json_texts, split_records=self._task.takes_split_records
            )
            for part in decoded:
                part.end_offset = batch.end_offset
            batches.extend(decoded)
            failures.extend(refused)
        put.batches, put.failures = batches, failures

    def _write(self, put: InFlightPut) -> None:
        began = time.monotonic()
        if put.pending is not None:
            rejections = put.pending.finish()
        else:
            rejections = self._task.put(put.batches) if put.batches else ()
        put.failures.extend(
            Failure(Stage.TASK_PUT, self._executor, item.error, item.topic_partition, item.offset)
            for item in rejections
        )
        put.not_written = rejections.not_written if isinstance(rejections, PutResult) else ()
        self._metrics.put_returned(time.monotonic() - began)
        self._hops.searchable_after = self._task.searchable_after

    def _settle(self, put: InFlightPut) -> None:
        if put.failures and self._dead_letters is not None:
            with self._control.fence:
                self._dead_letters.write(put.failures, put.consumed)
        self._stages.policy.apply_tolerance(put.failures)

    def _wait_for_retry(self, error: RetriableError) -> None:
        assert self._consumer is not None
        wait = self._put_backoff.next_wait(error)
        if wait is None:
            raise error
        self._control.retrying(error, self._put_backoff.failures, "put")
        if not self._puts.retrying:
            self._puts.fail()
            self._consumer.pause_all()
        self._hold(wait)

    def _hold(self, seconds: float) -> None:
        """Wait as a member of the group: a poll of paused partitions is a heartbeat and delivers nothing."""
        end = time.monotonic() + seconds
        while not self._control.stopping() and (left := end - time.monotonic()) > 0:
            before = time.monotonic()
            if self._poll(min(left, LONGEST_SLEEP)):
                raise RuntimeError("a paused consumer delivered records")  # continuing would skip them
            self._hops.check()
            if time.monotonic() - before < min(left, LONGEST_SLEEP) / 2:  # a client may return at once when paused
                self._control.sleep(left)
            if time.monotonic() >= self._next_commit:
                self._commit()

    def _follow_pause(self) -> None:
        assert self._consumer is not None
        wished = self._control.paused.is_set()
        if wished and not self._paused:
            if self._linger_buffer:
                self._take(self._linger_buffer.flush())
            self._process_puts(0)
            self._consumer.pause_all()
            self._commit()
        elif self._paused and not wished:
            self._consumer.resume_all()
        self._paused = wished

    def _commit(self) -> None:
        self._next_commit = time.monotonic() + self._control.flush_interval
        positions = self._puts.committable()
        if not positions or self._consumer is None:
            return
        try:
            with self._control.fence:
                self._consumer.commit(positions)
        except RetriableError as error:
            self._metrics.commit_failed()
            self._control.log.warning("positions not committed", code=error.code, reason=str(error))
        else:
            self._puts.committed(positions)
            self._metrics.committed()
            if self._factory.gaps is not None:
                self._factory.gaps.committed(positions)

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish what the task is writing, commit, and discard the rest. Called inside ``poll`` and ``close``, so never
        in the middle of a step; a client may swallow what a listener raises, so the loop raises it."""
        try:
            self._finish_begun()
            self._commit()
        except Exception as error:
            self._revocation_error = error
        self._control.rebalanced("revoked", partitions)
        before = self._in_flight()
        self._puts.revoke(partitions)
        if self._linger_buffer is not None:
            self._linger_buffer.discard(partitions)
        self._metrics.discarded(before - self._in_flight())
        self._metrics.revoked(partitions)
        if self._factory.gaps is not None:
            self._factory.gaps.revoked(partitions)

    def _in_flight(self) -> int:
        return self._puts.records() + (self._linger_buffer.records if self._linger_buffer is not None else 0)

    def _finish_begun(self) -> None:
        """Complete the puts that the task is writing: durable records need not be written again, and no write of
        this task arrives after those of the next owner of a partition."""
        while (put := self._puts.begun()) is not None:
            try:
                self._step(put)
            except RetriableError as error:
                self._control.log.info("not finished", code=error.code, reason=str(error))
                return

    def _assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._control.rebalanced("assigned", partitions)
        if self._factory.gaps is not None:
            self._factory.gaps.assigned(partitions)

    def _close(self) -> None:
        """Commit and leave the group. What is not durable is read again by the next owner of its partition."""
        self._metrics.discarded(self._in_flight())
        self._puts.clear()
        if self._linger_buffer is not None:
            self._linger_buffer.flush()
        try:
            self._commit()
        except TaskAbandonedError as error:
            self._control.log.warning("positions not committed", code=error.code, reason=str(error))
        finally:
            clients = (self._consumer, self._dead_letters, self._factory.gaps)
            close_clients(self._control, *(client.close for client in clients if client is not None))
        if self._revocation_error is not None:
            self._control.log.warning("partitions revoked without a commit", reason=str(self._revocation_error))
