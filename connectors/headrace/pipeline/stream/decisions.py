"""Decisions on single requests over HTTP, for callers who cannot wait for a topic.

A service belongs to a running stream task. It follows the tables on a thread of its own, decides on the caller's thread
with the code of the steps, and writes the request with its decision to the input topic before it answers: the
application reads it as every other request and takes the decision instead of making another one. So all effects of a
decision are in the transaction that processes this record.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from headrace.broker.interfaces import Admin, Delivery, Producer, Reader
from headrace.errors import ConflictError, HeadraceError, NotFoundError, RetriableError
from headrace.metrics import now_ms
from headrace.pipeline.control import TaskControl
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream.encoding import decode_shared
from headrace.pipeline.stream.topics import read_to_end
from headrace.plugin import StreamContext, StreamTask
from headrace.records import ConsumedBatch, EncodedBatch, SourceBatch

_POLL = 0.05
"""Seconds: how often the tables are read."""
_ACKNOWLEDGED = 0.002
"""Seconds between two checks of an acknowledgement: librdkafka reports failures only, so its flush is not woken."""
_RECORDS = 500
"""Records of a table that are applied at once: decisions wait meanwhile."""
_CLOSE_TIMEOUT = 5.0  # seconds
_MOST_WAITING = 256
"""Decisions that wait to be written; more are refused, so that the time of an answer is bounded."""


class DecisionClients(NamedTuple):
    """Makes the clients of a decision service."""

    open_reader: Callable[[], Reader]
    open_producer: Callable[[], Producer]
    open_admin: Callable[[], Admin]


class _Written:
    """A record that waits to be acknowledged."""

    def __init__(self, batch: EncodedBatch) -> None:
        self.batch = batch
        self.done = threading.Event()
        self.error: Exception | None = None


class DecisionServices:
    """The services of a worker, by connector. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._services: dict[str, list[DecisionService]] = {}

    def add(self, connector: str, service: DecisionService) -> None:
        with self._lock:
            self._services.setdefault(connector, []).append(service)

    def remove(self, connector: str, service: DecisionService) -> None:
        with self._lock:
            self._services[connector].remove(service)

    def of(self, connector: str) -> DecisionService:
        """Return a service of a connector. Raise NotFoundError."""
        with self._lock:
            found = self._services.get(connector)
            if not found:
                raise NotFoundError(
                    f"no task of {connector} decides over HTTP on this worker",
                    code="stream.no_decisions",
                    hint="set decide.enabled: true in a stream application with a step 'pick', and start it",
                )
            return found[0]


class DecisionService:
    """Decides for one application. :meth:`decide` may be called from any thread."""

    def __init__(
        self,
        task: StreamTask,
        context: StreamContext,
        stages: Stages,
        clients: DecisionClients,
        control: TaskControl,
        timeout: float,
    ) -> None:
        """``task``: an instance of its own, which processes no records. ``timeout``: of a decision, in seconds."""
        self._task = task
        self._context = context
        self._stages = stages
        self._clients = clients
        self._control = control
        self._timeout = timeout
        self._lock = threading.Lock()
        """Held while the tables change, and while a decision is made."""
        self._ready = False
        self._problem = ""
        self._stop = threading.Event()
        self._waiting: queue.Queue[_Written | None] = queue.Queue(_MOST_WAITING)
        name = str(context.task)
        self._threads = [
            threading.Thread(target=self._follow, name=f"{name}-decide-tables", daemon=True),
            threading.Thread(target=self._write, name=f"{name}-decide-writer", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads. Raise ConfigError when the application has no step that decides."""
        self._topology = self._task.start(self._context)
        self._task.prepare_decisions()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; decisions that are not written yet are refused."""
        self._stop.set()
        self._waiting.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_CLOSE_TIMEOUT)
        with ExitStack() as stack:
            stack.callback(self._stages.close)
            stack.callback(self._task.stop)

    def decide(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the decision, after it is written.

        Raise CommandError for a request that is refused, ConflictError while the task is paused, RetriableError when
        there is no decision, or it is not certain that it is written, within the timeout.
        """
        began, timeout = time.perf_counter(), self._timeout
        deadline = time.monotonic() + timeout
        if self._control.paused.is_set():
            raise ConflictError(f"{self._context.task.connector} is paused", hint="resume it")
        if self._stop.is_set() or not self._ready:
            reason = self._problem or "the tables are being read"
            raise RetriableError(f"no decision is possible yet: {reason}", code="stream.decision_not_ready")
        if not self._lock.acquire(timeout=timeout):
            raise self._late("tables and models were being updated")
        try:
            decision = self._task.decide(request, now_ms(), began)
        finally:
            self._lock.release()
        record = decision.record
        encoded = self._stages.encode(
            SourceBatch(
                record.topic,
                record.values,
                keys=record.keys,
                timestamps=record.timestamps,
                headers=record.headers,
            )
        )
        for failure in encoded.failures:
            raise failure.error
        written = _Written(encoded.batches[0])
        try:
            self._waiting.put_nowait(written)
        except queue.Full as error:
            raise self._late(f"{_MOST_WAITING} decisions wait to be written") from error
        if not written.done.wait(deadline - time.monotonic()):
            raise RetriableError(
                f"the decision was not acknowledged by Kafka within {timeout:g} s, and may be written nevertheless",
                code="stream.decision_timeout",
                hint="send the request again; deduplicate by its id before the step that decides",
            )
        if written.error is not None:
            raise written.error
        return decision.answer

    def _late(self, reason: str) -> RetriableError:
        return RetriableError(f"no decision in time: {reason}", code="stream.decision_timeout")

    # Tables

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._read_tables()
            except RetriableError as error:
                self._problem = str(error)
                self._control.log.warning("decisions wait", code=error.code, reason=str(error))
                self._stop.wait(1.0)
            except HeadraceError as error:  # the task itself reads the same tables, and fails with the same reason
                self._problem, self._ready = str(error), False
                self._control.log.warning("decisions stopped", code=error.code, reason=str(error))
                return

    def _read_tables(self) -> None:
        admin = self._clients.open_admin()
        try:
            missing = set(self._topology.followed()) - admin.topics()
            if missing:  # the running task creates them
                self._problem = f"topic {min(missing)} does not exist yet"
                self._stop.wait(_POLL)
                return
            ends = admin.end_offsets(self._topology.followed())
        finally:
            admin.close()
        reader = self._clients.open_reader()
        try:
            if not read_to_end(reader, {}, ends, self._apply, lambda remaining: not self._stop.is_set()):
                return
            reader.assign(ends)
            self._prepare()
            self._ready, self._problem = True, ""
            while not self._stop.is_set():
                batches = reader.poll(_POLL, _RECORDS)
                for batch in batches:
                    self._apply(batch)
                if batches:
                    self._prepare()
        finally:
            reader.close()

    def _apply(self, batch: ConsumedBatch) -> None:
        is_shared = batch.topic_partition.topic in self._topology.shared
        decoded, _ = decode_shared(batch) if is_shared else self._stages.decode(batch)
        with self._lock:
            for part in decoded:
                self._task.update_table(part)  # the running task reports rows that it refuses

    def _prepare(self) -> None:
        with self._lock:
            self._task.prepare_decisions()

    # Records

    def _write(self) -> None:
        """Write decisions, all that wait at once, until the service is closed."""
        producer: Producer | None = None
        try:
            while (first := self._waiting.get()) is not None:
                parts = [first]
                while not self._waiting.empty() and (following := self._waiting.get()) is not None:
                    parts.append(following)
                try:
                    if producer is None:
                        producer = self._control.fence.watch(self._clients.open_producer())
                    self._send(producer, parts)
                except HeadraceError as error:
                    _finish(parts, error)
                if self._stop.is_set():
                    break
        finally:
            if producer is not None:
                producer.close(_CLOSE_TIMEOUT)
            self._refuse_waiting()

    def _send(self, producer: Producer, parts: list[_Written]) -> None:
        with self._control.fence:
            deliveries: list[Delivery] = [producer.send(item.batch) for item in parts]
        while not producer.flush(_ACKNOWLEDGED) and not self._stop.is_set() and not self._control.fence.closed:
            pass  # callers wait for their timeout only
        for item, delivery in zip(parts, deliveries, strict=True):
            if delivery.done():
                item.error = delivery.error()
            else:
                text = "the application was stopped before the decision was acknowledged"
                item.error = RetriableError(text, code="stream.decision_timeout")
            item.done.set()

    def _refuse_waiting(self) -> None:
        while not self._waiting.empty():
            item = self._waiting.get_nowait()
            if item is not None:
                _finish([item], RetriableError("the application is stopping", code="stream.decision_not_ready"))


def _finish(parts: list[_Written], error: Exception) -> None:
    for item in parts:
        item.error = error
        item.done.set()
