"""A source task's loop: poll, transform, convert, deliver.

A delivery brings records and positions to Kafka: :mod:`headrace.pipeline.source_delivery` at least once,
:mod:`headrace.pipeline.source_transactions` exactly once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.errors import RetriableError
from headrace.metrics import now_ms
from headrace.pipeline.control import LONGEST_SLEEP, TaskControl
from headrace.pipeline.delivery import DeliveryParts, OpenDelivery
from headrace.pipeline.hop_times import SourceHops
from headrace.pipeline.in_flight import InFlightBatch
from headrace.pipeline.refused_rows import RowRefusals
from headrace.pipeline.shutdown import shut_down
from headrace.pipeline.stages import Stages
from headrace.plugin import SourceContext, SourceTask, Wait
from headrace.records import EncodedBatch, SourceBatch
from headrace.retries import Backoff

_BUFFER_FULL_SLEEP = 0.005  # seconds between checks while the buffer is full: acknowledgements come in milliseconds


class SourcePipeline:
    """One task's loop. Everything runs on the thread that calls :meth:`run`."""

    def __init__(
        self,
        task: SourceTask,
        context: SourceContext,
        stages: Stages,
        open_delivery: OpenDelivery,
        control: TaskControl,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``monotonic`` measures polls, and how long Kafka does not acknowledge."""
        self._task = task
        self._context = context
        self._stages = stages
        self._control = control
        self._metrics = control.metrics
        self._due = 0.0  # monotonic: no poll before
        self._monotonic = monotonic
        self._poll_backoff = Backoff(control.retry_policy)
        self._unconverted: SourceBatch | None = None  # read, and waiting for its conversion
        self._polling = 0.0  # seconds spent in polls
        name = context.task.connector
        self._hops = SourceHops(control.metrics.freshness, name, marks=control.hop_headers, spans=control.spans)
        self._refusals = RowRefusals(task, name, control)
        self._delivery = open_delivery(
            DeliveryParts(task, stages.policy, self._refusals, self._hops, control, monotonic)
        )
        self._polled = 0  # epoch milliseconds: when the last batch was read

    def run(self) -> None:
        """Run until the task must stop. Raise what fails the task; acknowledged positions are stored in any case."""
        with shut_down(self._finish, self._task.stop, self._stages):
            self._delivery.open()
            self._control.retry(lambda: self._task.start(self._context))
            if not self._control.stopping():
                self._control.started()
            while not self._control.stopping():
                self._turn()

    def _turn(self) -> None:
        paused = self._control.paused.is_set() and not self._delivery.unfinished
        self._delivery.advance(paused=paused)
        now = time.monotonic()
        if self._delivery.is_full:
            self._control.sleep(_BUFFER_FULL_SLEEP)
        elif paused or now < self._due:
            wait = LONGEST_SLEEP if paused else self._due - now
            self._control.sleep(min(wait, self._delivery.seconds_to_wait()))
        else:
            self._poll()

    def _poll(self) -> None:
        """Read a batch and convert it, or convert the batch that was read before. Retry after a RetriableError."""
        try:
            answer = self._unconverted if self._unconverted is not None else self._read()
            if self._control.stopping():
                return  # stopped during the poll: the next task reads the same rows
            if isinstance(answer, SourceBatch):
                self._unconverted = answer
                encoded = self._stages.encode(answer)
                failures = self._refusals.failures(answer, encoded.failures)
                self._delivery.write_dead_letters(answer, failures)
        except RetriableError as error:
            self._delivery.poll_failed(error)
            wait = self._poll_backoff.next_wait(error)
            if wait is None:
                raise
            self._control.retrying(error, self._poll_backoff.failures, "poll")
            self._due = time.monotonic() + wait
            return
        if self._poll_backoff.failures:
            self._control.recovered(self._poll_backoff.reset(), "poll")
        if isinstance(answer, Wait):
            self._due = time.monotonic() + answer.seconds
        else:
            self._unconverted = None
            self._stages.policy.apply_tolerance(failures)
            self._refusals.count(failures, encoded.filtered, encoded.split)
            self._take(answer, encoded.batches)

    def _read(self) -> SourceBatch | Wait:
        began = self._monotonic()
        answer = self._task.poll()
        self._polling += self._monotonic() - began  # most polls take less than a millisecond
        self._metrics.set("poll_batch_time_ms_total", round(self._polling * 1000))
        if isinstance(answer, SourceBatch):
            rows = len(answer) + len(answer.rejections)
            self._metrics.change({"source_record_poll_total": rows, "source_record_active_count": rows})
            self._metrics.set("last_record_timestamp_ms", now_ms())
            self._polled = self._hops.polled(answer)
        return answer

    def _take(self, batch: SourceBatch, encoded: list[EncodedBatch]) -> None:
        if self._delivery.ensure_topics({part.topic for part in encoded}):
            self._hops.sending(batch, encoded, self._polled)
            self._delivery.send(InFlightBatch(batch, encoded, [], self._polled))

    def _finish(self) -> None:
        """Finish what was sent, as far as the flush timeout allows. Other records are read again."""
        try:
            self._delivery.finish()
        finally:
            rest = self._metrics.values["source_record_active_count"]
            self._metrics.change({"source_record_active_count": -rest, "source_record_discarded_total": rest})
