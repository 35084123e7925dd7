"""The thread that reports metrics and events of a worker to Elasticsearch.

It reads the worker as the REST API does and shares nothing with the tasks, so that it never delays data. While
Elasticsearch is unavailable, documents wait in a bounded buffer; the oldest are dropped when it is full.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

import orjson
import structlog

from headrace.errors import HeadraceError, NotFoundError
from headrace.metrics import now_ms
from headrace.reporter.bulk_client import BulkClient, ReporterAccess, StreamDocument
from headrace.reporter.data_streams import data_streams
from headrace.reporter.documents import Document, WorkerSnapshot, event_documents, metric_documents
from headrace.runtime.api import ConnectorStatus, WorkerApi
from headrace.worker_events import RecentEvents

log = structlog.stdlib.get_logger("headrace.reporter")

_MOST_WAITING = 10_000
"""Documents that wait while Elasticsearch is unavailable: about 5 MB."""
_BATCH = 1_000
"""Documents of a request."""
_STOP = 12.0
"""Seconds for the last report."""


class MetricsReporter:
    """Reports every ``interval`` seconds. Call ``start`` and ``stop`` once."""

    def __init__(
        self,
        api: WorkerApi,
        worker: str,
        access: ReporterAccess,
        *,
        interval: float,
        namespace: str = "default",
        retention: str = "30d",
        most_waiting: int = _MOST_WAITING,
        group_events: RecentEvents | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """``group_events``: of the group that the worker is a member of."""
        self._api = api
        self._worker = worker
        self._client = BulkClient(access)
        self._interval = interval
        self._metrics, self._events = data_streams(namespace, retention)
        self._group_events = group_events or RecentEvents()
        self._clock = clock
        self._waiting: deque[StreamDocument] = deque(maxlen=most_waiting)
        self._before = WorkerSnapshot(clock(), worker)
        self._prepared = False
        self._problem: str | None = None
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-reporter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Report a last time, if Elasticsearch answers, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP)
        self._client.close()

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(self._interval)
            try:
                self.report()
            except Exception:  # a bug must not end the reports, nor the worker
                log.exception("metrics not reported")

    def report(self) -> None:
        """Make the documents of this moment, and send all that wait."""
        now = self._snapshot()
        before, self._before = self._before, now
        self._add(self._events.name, event_documents(before, now))
        self._add(self._metrics.name, metric_documents(before, now))
        try:
            self._send()
        except HeadraceError as error:
            self._report_problem(error)
        else:
            if self._problem is not None:
                log.info("metrics are reported again", dropped=self._dropped)
                self._problem, self._dropped = None, 0

    def _snapshot(self) -> WorkerSnapshot:
        api = self._api
        return WorkerSnapshot(
            self._clock(),
            self._worker,
            self._statuses(),
            api.metrics(),
            api.part_metrics(),
            api.freshness(),
            api.events(),
            self._group_events.snapshot(),
        )

    def _statuses(self) -> list[ConnectorStatus]:
        found = []
        for name in self._api.connectors():
            try:
                found.append(self._api.status(name))
            except NotFoundError:  # deleted since the names were read
                continue
        return found

    def _add(self, stream: str, documents: Iterable[Document]) -> None:
        for document in documents:
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(StreamDocument(stream, orjson.dumps(document)))

    def _send(self) -> None:
        if not self._prepared:
            for stream in (self._metrics, self._events):
                self._client.put_template(stream)
            self._prepared = True
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(_BATCH, len(self._waiting)))]
            refused = self._client.send(batch)
            for _ in batch:
                self._waiting.popleft()
            if refused:
                log.warning("documents of metrics were refused", count=len(refused), reason=refused[0])

    def _report_problem(self, error: HeadraceError) -> None:
        if self._problem != error.code:
            hint = error.hint or "the worker continues; metrics are sent when it answers"
            log.warning("metrics cannot be reported", code=error.code, reason=error.message, next=hint)
        self._problem = error.code
