"""A sink task's loop: consume, convert, transform, put, and commit what is durable.

A consumer position moves only over records that the sink's system has, that the dead letter queue has, or that a
transform or ``errors.tolerance`` dropped on the user's wish. While the system is away the loop keeps its place in
the consumer group and offers the same batches again.

A task that can begin a put without waiting for its end has a few under way, so that its system works while the next
records are read and converted. They end in the order they began: positions never jump over one that is open.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.broker.interfaces import Consumer, RebalanceListener
from headrace.errors import HeadraceError, RetriableError
from headrace.metrics import now_ms
from headrace.pipeline.control import LONGEST_SLEEP, TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import Failure, Stage
from headrace.pipeline.linger_buffer import LingerBuffer
from headrace.pipeline.stages import Stages
from headrace.plugin import PendingPut, SinkContext, SinkTask
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition
from headrace.retries import Backoff

MAX_RECORDS = 4_000
"""Most records of one put."""
MAX_BYTES = 8 << 20
"""About how many bytes of values one put has at most: fewer records are asked for where they are large."""
AHEAD = 2
"""Most puts that have begun while another is not finished."""
_GLANCE = 0.005
"""Seconds: the longest look for new records while puts are under way; whoever waits for those waits no longer."""


@dataclass(frozen=True)
class ConsumerFactory:
    """Where a sink's records come from."""

    open_consumer: Callable[[], Consumer]
    topics: Sequence[str]
    pattern: str | None
    open_dead_letters: Callable[[], DeadLetterQueue] | None = None


@dataclass
class _Work:
    """Consumed batches on their way. What has been achieved stays achieved when a later step is tried again."""

    originals: dict[TopicPartition, ConsumedBatch]
    batches: list[SinkBatch] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    converted: bool = False
    begun: bool = False
    pending: PendingPut | None = None
    trouble: RetriableError | None = None
    """Why it has not begun; told when it is its turn."""
    put: bool = False
    buried: bool = False

    def discard(self, partitions: Sequence[TopicPartition]) -> None:
        """Somebody else has these now and begins at the committed position."""
        gone = set(partitions)
        self.originals = {key: batch for key, batch in self.originals.items() if key not in gone}
        self.batches = [batch for batch in self.batches if batch.topic_partition not in gone]
        self.failures = [failure for failure in self.failures if failure.topic_partition not in gone]
        if self.pending is not None:
            self.pending.discard(gone)


class SinkPipeline:
    """One task's loop. Everything runs on the thread that calls :meth:`run`."""

    def __init__(
        self, task: SinkTask, context: SinkContext, stages: Stages, factory: ConsumerFactory, control: TaskControl
    ) -> None:
        self._task = task
        self._context = context
        self._stages = stages
        self._factory = factory
        self._control = control
        self._metrics = control.metrics
        self._executor = f"{type(task).__module__}.{type(task).__qualname__}"
        self._consumer: Consumer | None = None
        self._dead_letters: DeadLetterQueue | None = None
        self._positions: dict[TopicPartition, int] = {}  # durable, not committed yet
        self._lags: dict[TopicPartition, int] = {}
        self._putting = 0.0  # seconds spent in puts
        self._linger_buffer: LingerBuffer | None = None
        self._works: deque[_Work] = deque()  # in the order they were read
        self._most_records = MAX_RECORDS
        self._next_commit = time.monotonic() + control.flush_interval
        self._paused = False
        self._poll_tries = 0
        self._retrying = False  # inside _finish_works, after a failure
        self._trouble: str | None = None  # Kafka's, as the status shows it

    def run(self) -> None:
        """Until told to stop. Raises what the task cannot survive; positions so far are committed in any case."""
        try:
            self._control.retry(self._open)
            self._control.retry(lambda: self._task.start(self._context))
            if self._task.linger is not None:
                self._linger_buffer = LingerBuffer(self._task.linger)
            if not self._control.stopping():
                self._control.started()
            while not self._control.stopping():
                self._turn()
            self._finish_begun()
        finally:
            try:
                self._finish()
            finally:
                try:
                    self._task.stop()
                finally:
                    self._stages.close()

    def _open(self) -> None:
        if self._factory.open_dead_letters is not None and self._dead_letters is None:
            self._dead_letters = self._factory.open_dead_letters()
        if self._consumer is None:
            self._consumer = self._factory.open_consumer()
            self._consumer.subscribe(
                self._factory.topics, self._factory.pattern, RebalanceListener(self._revoked, self._assigned)
            )

    def _turn(self) -> None:
        assert self._consumer is not None
        self._follow_pause()
        until_commit = self._next_commit - time.monotonic()
        longest = _GLANCE if self._works else LONGEST_SLEEP
        if self._linger_buffer:
            longest = min(longest, self._linger_buffer.remaining())
        consumed = self._poll(max(0.0, min(until_commit, longest)))
        self._tell_trouble(None if consumed else self._consumer.trouble())
        if self._linger_buffer is not None:
            consumed = self._linger_buffer.add(consumed)
        if consumed:
            self._take(consumed)
        # Nothing new: the oldest that is under way is waited for, then there is another look.
        self._finish_works(AHEAD if consumed else max(0, len(self._works) - 1))
        if time.monotonic() >= self._next_commit:
            self._commit()

    def _take(self, consumed: Sequence[ConsumedBatch]) -> None:
        """Convert, and begin to put when nothing stands in the way."""
        work = _Work({batch.topic_partition: batch for batch in consumed})
        self._works.append(work)
        records = sum(map(len, consumed))
        self._metrics.add("sink_record_read_total", records)
        self._metrics.set("last_record_timestamp_ms", now_ms())
        size = sum(sum(map(len, filter(None, batch.values))) for batch in consumed)
        self._most_records = max(1, min(MAX_RECORDS, MAX_BYTES * records // max(1, size)))
        try:
            self._convert(work)
            if all(other.begun for other in self._works if other is not work):
                self._begin(work)
        except RetriableError as error:
            work.trouble = error
        if work.pending is None:
            self._finish_works(0)

    def _poll(self, timeout: float) -> list[ConsumedBatch]:
        assert self._consumer is not None
        try:
            consumed = self._consumer.poll(timeout, self._most_records)
        except RetriableError as error:
            self._poll_tries += 1
            self._control.retrying(error, self._poll_tries)
            self._control.sleep(error.delay if error.delay is not None else LONGEST_SLEEP)
            return []
        if self._poll_tries:
            self._control.recovered(self._poll_tries)
            self._poll_tries = 0
        return consumed

    def _tell_trouble(self, reason: str | None) -> None:
        """A broker that is away raises nothing: nothing comes."""
        if reason == self._trouble:
            return
        self._trouble = reason
        if reason is not None:
            self._control.set_status_reason(f"waiting for Kafka: {reason}")
            self._control.log.warning("waiting", code="kafka.unreachable", reason=reason)
        else:
            self._control.recovered(1)

    def _convert(self, work: _Work) -> None:
        """Convert and transform. Raise RetriableError; the batches as they were read stay for the next attempt."""
        batches: list[SinkBatch] = []
        failures: list[Failure] = []
        for batch in work.originals.values():
            decoded, refused = self._stages.decode(
                batch, json_texts=self._task.takes_json_texts, split_records=self._task.takes_split_records
            )
            for part in decoded:
                part.end_offset = batch.end_offset
            batches.extend(decoded)
            failures.extend(refused)
        work.batches, work.failures, work.converted = batches, failures, True

    def _finish_works(self, most: int) -> None:
        """Put, bury, judge, note positions, the oldest first, until no more than ``most`` are open; through outages,
        without leaving the consumer group."""
        assert self._consumer is not None
        backoff = Backoff(self._control.retry_policy)
        while len(self._works) > (0 if backoff.failures else most) and not self._control.stopping():
            try:
                self._advance(self._works[0])
            except RetriableError as error:
                wait = backoff.next_wait(error)
                if wait is None:
                    raise
                self._retrying = True
                self._control.retrying(error, backoff.failures)
                if backoff.failures == 1:
                    self._consumer.pause_all()
                self._hold(wait)
            else:
                self._works.popleft()
        self._retrying = False
        if backoff.failures and not self._control.stopping():
            self._control.recovered(backoff.failures)
            self._paused = False  # _follow_pause pauses again if that is wished
            self._consumer.resume_all()

    def _begin(self, work: _Work) -> None:
        work.pending = self._task.begin(work.batches) if work.batches else None
        work.begun = True

    def _advance(self, work: _Work) -> None:
        if not work.put:
            began = time.monotonic()
            if work.trouble is not None:
                trouble, work.trouble = work.trouble, None
                raise trouble
            if not work.converted:
                self._convert(work)
            if not work.begun:
                self._begin(work)
            if work.pending is not None:
                rejections = work.pending.finish()
            else:
                rejections = self._task.put(work.batches) if work.batches else ()
            self._putting += time.monotonic() - began
            self._metrics.set("put_batch_time_ms_total", round(self._putting * 1000))
            work.failures.extend(
                Failure(Stage.TASK_PUT, self._executor, item.error, item.topic_partition, item.offset)
                for item in rejections
            )
            work.put = True
            self._metrics.add("sink_record_send_total", sum(map(len, work.batches)) - len(rejections))
        if work.failures and self._dead_letters is not None and not work.buried:
            self._dead_letters.write(work.failures, work.originals)
            work.buried = True
        self._stages.policy.judge(work.failures)
        for topic_partition, batch in work.originals.items():
            self._positions[topic_partition] = batch.offsets[-1] + 1
            if batch.end_offset is not None:
                self._lags[topic_partition] = max(0, batch.end_offset - batch.offsets[-1] - 1)
        self._metrics.set("sink_record_lag", sum(self._lags.values()))
        newest = max((batch.timestamps[-1] for batch in work.originals.values()), default=0)
        if newest > 0:
            self._metrics.set("sink_record_age_ms", max(0, now_ms() - newest))

    def _hold(self, seconds: float) -> None:
        """Wait as a living member of the group: a poll of paused partitions is a heartbeat and delivers nothing."""
        end = time.monotonic() + seconds
        while not self._control.stopping() and (left := end - time.monotonic()) > 0:
            before = time.monotonic()
            if self._poll(min(left, LONGEST_SLEEP)):
                raise RuntimeError("a paused consumer delivered records")  # going on would skip them
            if time.monotonic() - before < min(left, LONGEST_SLEEP) / 2:  # a client may answer at once when paused
                self._control.sleep(left)
            if time.monotonic() >= self._next_commit:
                self._commit()

    def _follow_pause(self) -> None:
        assert self._consumer is not None
        wished = self._control.paused.is_set()
        if wished and not self._paused:
            if self._linger_buffer:
                self._take(self._linger_buffer.flush())
            self._finish_works(0)
            self._consumer.pause_all()
            self._commit()
        elif self._paused and not wished:
            self._consumer.resume_all()
        self._paused = wished

    def _commit(self) -> None:
        self._next_commit = time.monotonic() + self._control.flush_interval
        if not self._positions or self._consumer is None:
            return
        try:
            self._consumer.commit(self._positions)
        except RetriableError as error:
            self._metrics.add("offset_commit_failure_total")
            self._control.log.warning("positions not committed", code=error.code, reason=str(error))
        else:
            self._positions = {}
            self._metrics.add("offset_commit_total")

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._finish_begun()
        self._commit()
        for topic_partition in partitions:
            # Committed, or lost to another member that reads them again from where they were committed.
            self._positions.pop(topic_partition, None)
            self._lags.pop(topic_partition, None)
        self._metrics.set("sink_record_lag", sum(self._lags.values()))
        for work in self._works:
            work.discard(partitions)
        if self._linger_buffer is not None:
            self._linger_buffer.discard(partitions)

    def _finish_begun(self) -> None:
        """The answers that are on their way are waited for: what they say is done need not be done again, and nothing
        of ours arrives after what the next owner of a partition writes."""
        while self._works and self._works[0].pending is not None and not self._retrying:
            try:
                self._advance(self._works[0])
            except HeadraceError as error:
                self._control.log.info("not finished", code=error.code, reason=str(error))
                break
            self._works.popleft()

    def _assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._control.log.info("partitions assigned", partitions=[str(item) for item in partitions])

    def _finish(self) -> None:
        """Commit, leave the group. What was not put is read again by whoever gets the partitions."""
        self._works.clear()
        self._commit()
        for client in (self._consumer, self._dead_letters):
            if client is None:
                continue
            try:
                client.close()
            except HeadraceError as error:
                self._control.log.warning("client not closed", code=error.code, reason=str(error))
