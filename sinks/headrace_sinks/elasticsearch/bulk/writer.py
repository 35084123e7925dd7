"""Sends bulk requests concurrently until every line is written or refused.

Requests are kept in *ordered queues*: requests of one queue are sent one after another, queues are sent concurrently.
Where writes carry an external version each request is its own queue; otherwise all writes to a document share one.

Unsent requests stay in their queue: a failed delivery resumes where it stopped, and nothing that was answered is sent
again. A request whose response was lost may still be running. Where the order of writes matters, its queue waits until
that request has ended before it sends more; executed later, it would overwrite newer writes (decision 92).
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote
from uuid import uuid4

from headrace import Backoff, DataError, RetriableError, RetryPolicy
from headrace_sinks.elasticsearch.bulk.adaptive_limiter import AdaptiveConcurrencyLimiter, SendPermit
from headrace_sinks.elasticsearch.bulk.line_encoder import details, split_by_size
from headrace_sinks.elasticsearch.cluster.allocation import explained
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient, ElasticsearchResponse
from headrace_sinks.elasticsearch.cluster.responses import (
    FILTER,
    BulkResult,
    error_of,
    read_bulk_response,
    require_usable_response,
)
from headrace_sinks.elasticsearch.timings import DEFAULT_TIMINGS, SinkTimings

MEDIA_TYPE = "application/x-ndjson"
_PRIMARY_SHARD_TIMEOUT = 2.0
"""Seconds that Elasticsearch waits for an unassigned primary shard before it reports the error. Its default of a
minute would hide the cause that long."""
_TICK = 0.25
_SILENCE_BEFORE_REASON = 3.0  # seconds without an answer after which the status says so
_LONGEST_WAIT = 5.0
_BUSY = "elasticsearch.overloaded"
_TOO_SLOW = "elasticsearch.timeout"
_OVERLOADED = (_TOO_SLOW, "elasticsearch.unavailable", _BUSY)


def bulk_path(client: ElasticsearchClient) -> str:
    """Return the path of bulk requests, with a shard timeout below the read timeout: responses name the cause."""
    timeout = min(_PRIMARY_SHARD_TIMEOUT, client.read_timeout / 2)
    return f"/_bulk?timeout={max(1, round(timeout * 1000))}ms&{FILTER}"


class BulkRequest(NamedTuple):
    """Lines sent together. ``rows`` are their rows in the put; only ordered queues have ``ids``."""

    rows: Sequence[int]
    lines: Sequence[bytes]
    ids: Sequence[bytes] = ()
    lost: str = ""
    """Opaque id of an earlier request with these lines whose response was lost, else empty."""

    def half(self, start: int, end: int) -> BulkRequest:
        return BulkRequest(self.rows[start:end], self.lines[start:end], self.ids[start:end], self.lost)

    def only(self, places: Sequence[int]) -> BulkRequest:
        return BulkRequest(
            [self.rows[place] for place in places],
            [self.lines[place] for place in places],
            [self.ids[place] for place in places] if self.ids else (),
            self.lost,
        )


OrderedQueue = deque[BulkRequest]


@dataclass(slots=True)
class BulkDelivery:
    """Results of one put's lines. Written by the sending threads, read when all queues are done."""

    began: float
    refused: dict[int, DataError] = field(default_factory=dict)
    """Errors by row."""
    conflicts: list[int] = field(default_factory=list)
    newer: list[tuple[int, int]] = field(default_factory=list)
    """Row and index version of each version conflict, where Elasticsearch reports the version."""
    failure: BaseException | None = None
    waiting: str | None = None
    """The last reason to send a request again; None after one that was accepted."""
    missing_index: bool = False
    settled: int = 0
    """Approximate number of lines written or refused; threads add to it without a lock."""
    left: list[OrderedQueue] = field(default_factory=list)
    """Queues with unsent requests."""
    dropped: frozenset[int] = frozenset()
    """Rows that must not be sent any more."""
    open: int = 0
    done: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)


class BulkWriter:
    """Sending threads: ``begin`` a delivery, ``submit`` its queues, ``finish`` it. Deliveries may overlap."""

    def __init__(
        self,
        client: ElasticsearchClient,
        retry: RetryPolicy,
        stop_event: threading.Event,
        limiter: AdaptiveConcurrencyLimiter,
        *,
        most_requests: int,
        versioned: bool,
        pipeline: str,
        name: str,
        timings: SinkTimings = DEFAULT_TIMINGS,
    ) -> None:
        self._client = client
        self._retry = RetryPolicy(retry.first, min(retry.longest, _LONGEST_WAIT), retry.tries)
        self._stop_event = stop_event
        self._limiter = limiter
        self._most_requests = most_requests
        self._versioned = versioned
        self._path = bulk_path(client)
        if pipeline:
            self._path += f"&pipeline={quote(pipeline, safe='')}"
        self._name = name
        self._timings = timings
        self._token, self._sendings = f"headrace-{uuid4().hex[:12]}", itertools.count()
        self._queues: queue.SimpleQueue[tuple[BulkDelivery, OrderedQueue] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._submitted = 0

    def begin(self) -> BulkDelivery:
        return BulkDelivery(time.monotonic())

    def submit(self, delivery: BulkDelivery, pending: Sequence[BulkRequest]) -> None:
        """Send these requests one after another. Return at once."""
        delivery.open += 1
        self._submitted += 1
        if len(self._threads) < min(self._submitted, self._most_requests):
            # Daemon: an unanswered request must not keep a stopped worker alive.
            thread = threading.Thread(target=self._run, name=f"{self._name}-bulk", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queues.put((delivery, deque(pending)))

    def resume(self, delivery: BulkDelivery) -> None:
        """Send the remaining requests after a failure."""
        queues, delivery.left = delivery.left, []
        delivery.began, delivery.failure, delivery.waiting, delivery.missing_index = time.monotonic(), None, None, False
        for pending in queues:
            self.submit(delivery, pending)

    def finish(self, delivery: BulkDelivery) -> Iterator[str | None]:
        """Wait until all queues are done; yield the status reason whenever it changes. Raise the failure of a queue.

        Raise RetriableError when the task is stopped and outstanding responses do not arrive.
        """
        told: str | None = None
        stop_by: float | None = None
        answered = time.monotonic()
        while delivery.open:
            try:
                # A queue and an event cannot be awaited together, so check the event between ticks.
                delivery.done.get(timeout=_TICK)
                delivery.open -= 1
                answered = time.monotonic()
            except queue.Empty:
                if self._stop_event.is_set():
                    stop_by = stop_by or time.monotonic() + self._timings.stop_timeout
                    if time.monotonic() >= stop_by:
                        text = "the task was stopped before Elasticsearch answered"
                        delivery.failure = RetriableError(text, code="elasticsearch.stopped")
                        break
            reason = delivery.waiting
            if reason is None and time.monotonic() - answered > _SILENCE_BEFORE_REASON:
                reason = f"waiting for Elasticsearch at {self._client.address} to answer"
            if reason != told:
                told = reason
                yield told
        if delivery.failure is not None:
            raise delivery.failure
        if told is not None:
            yield None

    def stop(self) -> None:
        """End the threads; one with an outstanding request ends after its response or timeout. Discard unsent requests:
        the next owner of the partitions sends their records."""
        with suppress(queue.Empty):
            while True:
                self._queues.get_nowait()
        for _ in self._threads:
            self._queues.put(None)
        end = time.monotonic() + 1.0
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._threads.clear()

    def _run(self) -> None:
        while (work := self._queues.get()) is not None:
            delivery, pending = work
            try:
                self._drain(delivery, pending)
            except BaseException as error:  # raised again by finish, on the task's thread
                delivery.failure = delivery.failure or error
            finally:
                if pending:
                    delivery.left.append(pending)
                delivery.done.put(None)

    def _drain(self, delivery: BulkDelivery, pending: OrderedQueue) -> None:
        """Send until the queue is empty. Raise RetriableError, InfrastructureError; unsent requests stay queued."""
        backoff = Backoff(self._retry)
        while pending and delivery.failure is None:  # after a failure the whole delivery is retried
            with self._limiter.acquire() as permit:
                request = self._next(delivery, pending)
                if request is None:
                    continue
                if request.lost:
                    request = self._ended(delivery, pending, request)
                result = self._exchange(delivery, pending, request, permit)
            if result is None or len(result.again) < len(request.lines):
                backoff.reset()  # it makes progress
            if result is not None and result.reason is not None:
                pending.appendleft(request.only(_to_send_again(result, request.ids)))
                if result.missing_index:
                    delivery.missing_index = True
                    raise result.reason
                self._wait(delivery, result.reason, backoff.next_wait(result.reason))

    def _next(self, delivery: BulkDelivery, pending: OrderedQueue) -> BulkRequest | None:
        """Take as much of the first request as the limiter allows."""
        request = pending.popleft()
        if delivery.dropped and not delivery.dropped.isdisjoint(request.rows):
            kept = [place for place, row in enumerate(request.rows) if row not in delivery.dropped]
            request = request.only(kept)
            if not kept:
                return None
        if self._limiter.slowed:
            _, end = next(split_by_size(request.lines, self._limiter.rows, self._limiter.bytes))
            if end < len(request.lines):
                pending.appendleft(request.half(end, len(request.lines)))
                request = request.half(0, end)
        return request

    def _exchange(
        self, delivery: BulkDelivery, pending: OrderedQueue, request: BulkRequest, permit: SendPermit
    ) -> BulkResult | None:
        """Send a request and read its response. None: the request was refused as a whole, and its halves are queued
        again, or its only line is refused."""
        count = len(request.lines)
        sending = "" if self._versioned else f"{self._token}-{next(self._sendings)}"
        try:
            answer = self._client.request("POST", self._path, b"".join(request.lines), MEDIA_TYPE, opaque_id=sending)
            require_usable_response(answer)
            if answer.status != 200:
                self._split(delivery, pending, request, answer)
                return None
            result = read_bulk_response(answer, count, versioned=self._versioned)
        except BaseException as failure:
            if isinstance(failure, RetriableError) and failure.code in _OVERLOADED:
                self._limiter.overloaded(permit, too_slow=failure.code == _TOO_SLOW)
                if failure.code == _BUSY:  # equal to this answer for every item
                    return BulkResult(again=list(range(count)), reason=failure, overloaded=True)
            pending.appendleft(request._replace(lost=sending) if isinstance(failure, RetriableError) else request)
            raise
        delivery.conflicts.append(result.conflicts)
        delivery.newer.extend((request.rows[place], version) for place, version in result.newer)
        delivery.settled += count - len(result.again)
        for place, error in result.refused:
            self._refuse(delivery, request, place, error)
        if result.overloaded:
            self._limiter.overloaded(permit, partly=len(result.again) < count)
        elif result.reason is None:
            self._limiter.went_well()
            delivery.waiting = None
        return result

    def _ended(self, delivery: BulkDelivery, pending: OrderedQueue, request: BulkRequest) -> BulkRequest:
        """Wait until the earlier execution of a request has ended. Raise RetriableError after the delivery timeout, or
        when its state is unknown."""
        try:
            self._wait_for_end(delivery, request.lost)
        except BaseException:
            pending.appendleft(request)
            raise
        return request._replace(lost="")

    def _wait_for_end(self, delivery: BulkDelivery, lost: str) -> None:
        # A state that is polled: a request that fails here ends the delivery, and the pipeline retries it.
        while self._client.is_running(lost):
            delivery.waiting = "waiting until Elasticsearch has finished a request whose response was lost"
            timed_out = time.monotonic() - delivery.began > self._timings.delivery_timeout
            if timed_out or self._stop_event.wait(_TICK):
                raise RetriableError(delivery.waiting, code="elasticsearch.unanswered")
        delivery.waiting = None

    def _split(
        self, delivery: BulkDelivery, pending: OrderedQueue, request: BulkRequest, answer: ElasticsearchResponse
    ) -> None:
        """Halve a request that was refused as a whole: too large, or one of its lines is not a valid action."""
        if middle := len(request.lines) // 2:
            if answer.status == 413:
                self._limiter.too_large(sum(map(len, request.lines)))
            pending.appendleft(request.half(middle, len(request.lines)))
            pending.appendleft(request.half(0, middle))
            return
        if answer.status == 413:
            error = DataError(
                f"the document is larger than Elasticsearch accepts ({len(request.lines[0])} bytes)",
                code="elasticsearch.document_too_large",
                hint="http.max_content_length on the Elasticsearch nodes, or a limit of a proxy before them",
            )
        else:
            kind, reason = error_of(answer)
            text = f"Elasticsearch refused the document: {kind}: {reason}"
            error = DataError(text, code="elasticsearch.document_rejected")
        self._refuse(delivery, request, 0, error)

    def _refuse(self, delivery: BulkDelivery, request: BulkRequest, place: int, error: DataError) -> None:
        error.details = details(request.lines[place])
        delivery.refused[request.rows[place]] = error

    def _wait(self, delivery: BulkDelivery, reason: RetriableError, seconds: float | None) -> None:
        """Wait ``seconds`` before the next attempt. Raise ``reason`` when there is none: None, a timeout or a stop."""
        reason = explained(self._client, reason)
        timed_out = seconds is None or time.monotonic() + seconds - delivery.began > self._timings.delivery_timeout
        if timed_out or delivery.failure is not None:
            raise reason
        delivery.waiting = str(reason)  # also during the next attempt: its answer may take as long as this one's
        if self._stop_event.wait(seconds):
            raise reason


def _to_send_again(result: BulkResult, ids: Sequence[bytes]) -> Sequence[int]:
    """Return the places to send again. In an ordered queue later writes to the same document are included: otherwise
    the repeated earlier write would overwrite them."""
    if not ids:
        return result.again
    late = {ids[place] for place in result.again}
    return [place for place in range(result.again[0], len(ids)) if ids[place] in late]
