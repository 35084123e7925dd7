"""Sends bulk requests, several at a time, until every line is written or refused.

Requests stand in *lanes*: those of one lane go one after another, lanes go side by side. Where Elasticsearch settles
the order of writes itself (external versions) each request is a lane; else all writes to a document share one.

What a lane could not send stays in it: a delivery that failed goes on where it was, nothing that was answered is sent
again. A request whose answer was lost may be at work still. Where the order of writes matters the lane waits for its
end before it sends more: done later, it would undo what came after it (decision 92).
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

from headrace import DataError, RetriableError, RetryPolicy
from headrace_sinks.elasticsearch.cluster.answers import FILTER, Judgement, error_of, judge_items, judge_request
from headrace_sinks.elasticsearch.cluster.client import Answer, Client
from headrace_sinks.elasticsearch.sending.lines import cut, details
from headrace_sinks.elasticsearch.sending.pace import Pace, Ticket

MEDIA_TYPE = "application/x-ndjson"
PATIENCE = 10.0
"""Seconds: after that long a delivery fails, so that the framework keeps its place in the group and shows why."""
STOP_PATIENCE = 2.0
"""Seconds: how long a stopping task waits for answers that are on their way."""
_PRIMARY_PATIENCE = 5.0
"""Seconds: how long Elasticsearch waits for a primary shard that is not there, before it says so; by itself it would
wait a minute, and so long nobody would know."""
_TICK = 0.25
_SILENCE = 3.0  # seconds without an answer after which the status says so
_LONGEST_WAIT = 5.0
_BUSY = "elasticsearch.overloaded"
_TOO_SLOW = "elasticsearch.timeout"
_OVERLOADED = (_TOO_SLOW, "elasticsearch.unavailable", _BUSY)


def bulk_path(client: Client) -> str:
    """Where bulk requests go. Elasticsearch waits less for a shard than we wait for its answer: so it says what for."""
    patience = min(_PRIMARY_PATIENCE, client.read_timeout / 2)
    return f"/_bulk?timeout={max(1, round(patience * 1000))}ms&{FILTER}"


class Request(NamedTuple):
    """Lines that go together. ``rows`` say which records of the put they are; only ordered lanes have ``ids``."""

    rows: Sequence[int]
    lines: Sequence[bytes]
    ids: Sequence[bytes] = ()
    lost: str = ""
    """By what Elasticsearch knows an earlier sending of these lines, if its answer was lost."""

    def half(self, start: int, end: int) -> Request:
        return Request(self.rows[start:end], self.lines[start:end], self.ids[start:end], self.lost)

    def only(self, places: Sequence[int]) -> Request:
        return Request(
            [self.rows[place] for place in places],
            [self.lines[place] for place in places],
            [self.ids[place] for place in places] if self.ids else (),
            self.lost,
        )


Lane = deque[Request]


@dataclass(slots=True)
class Delivery:
    """What became of one put's lines. Written by the writer's threads, read when all lanes are done."""

    began: float
    refused: dict[int, DataError] = field(default_factory=dict)
    """By row."""
    conflicts: list[int] = field(default_factory=list)
    newer: list[tuple[int, int]] = field(default_factory=list)
    """Of conflicts: row and the version that the index has."""
    failure: BaseException | None = None
    waiting: str | None = None
    missing_index: bool = False
    settled: int = 0
    """About how many lines are written or refused; threads add to it without a lock."""
    left: list[Lane] = field(default_factory=list)
    """What could not be sent."""
    dropped: frozenset[int] = frozenset()
    """Rows that are not to be sent any more."""
    open: int = 0
    done: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)


class Writer:
    """Threads that send: ``begin``, ``submit`` lanes, ``finish``. Deliveries may overlap."""

    def __init__(
        self,
        client: Client,
        retry: RetryPolicy,
        stop_event: threading.Event,
        pace: Pace,
        *,
        most_requests: int,
        versioned: bool,
        pipeline: str,
        name: str,
    ) -> None:
        self._client = client
        self._retry = RetryPolicy(retry.first, min(retry.longest, _LONGEST_WAIT), retry.tries)
        self._stop_event = stop_event
        self._pace = pace
        self._most_requests = most_requests
        self._versioned = versioned
        self._path = bulk_path(client)
        if pipeline:
            self._path += f"&pipeline={quote(pipeline, safe='')}"
        self._name = name
        self._token, self._sendings = f"headrace-{uuid4().hex[:12]}", itertools.count()
        self._lanes: queue.SimpleQueue[tuple[Delivery, Lane] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._submitted = 0

    def begin(self) -> Delivery:
        return Delivery(time.monotonic())

    def submit(self, delivery: Delivery, lane: Sequence[Request]) -> None:
        """Send these one after another. Returns at once."""
        delivery.open += 1
        self._submitted += 1
        if len(self._threads) < min(self._submitted, self._most_requests):
            # Daemons: a request that nobody answers must not keep a stopped worker alive.
            thread = threading.Thread(target=self._work, name=f"{self._name}-bulk", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._lanes.put((delivery, deque(lane)))

    def resume(self, delivery: Delivery) -> None:
        """Send again what is left after a failure."""
        lanes, delivery.left = delivery.left, []
        delivery.began, delivery.failure, delivery.waiting, delivery.missing_index = time.monotonic(), None, None, False
        for lane in lanes:
            self.submit(delivery, lane)

    def finish(self, delivery: Delivery) -> Iterator[str | None]:
        """Wait until all lanes are done; yields what is waited for whenever that changes. Raises what a lane failed of.

        Raises RetriableError when the task is told to stop and answers do not come.
        """
        told: str | None = None
        stop_by: float | None = None
        answered = time.monotonic()
        while delivery.open:
            try:
                # A queue and an event cannot be waited for together, so the event is looked at between ticks.
                delivery.done.get(timeout=_TICK)
                delivery.open -= 1
                answered = time.monotonic()
            except queue.Empty:
                if self._stop_event.is_set():
                    stop_by = stop_by or time.monotonic() + STOP_PATIENCE
                    if time.monotonic() >= stop_by:
                        text = "told to stop before Elasticsearch answered"
                        delivery.failure = RetriableError(text, code="elasticsearch.stopped")
                        break
            reason = delivery.waiting
            if reason is None and time.monotonic() - answered > _SILENCE:
                reason = f"waiting for Elasticsearch at {self._client.address} to answer"
            if reason != told:
                told = reason
                yield told
        if delivery.failure is not None:
            raise delivery.failure
        if told is not None:
            yield None

    def stop(self) -> None:
        """End the threads; one whose request is not answered ends when the answer has come or timed out. What has not
        been sent is not: whoever has the partitions now sends it, and ours would come between."""
        with suppress(queue.Empty):
            while True:
                self._lanes.get_nowait()
        for _ in self._threads:
            self._lanes.put(None)
        end = time.monotonic() + 1.0
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._threads.clear()

    def _work(self) -> None:
        while (work := self._lanes.get()) is not None:
            delivery, lane = work
            try:
                self._empty(delivery, lane)
            except BaseException as error:  # raised again by finish, on the task's thread
                delivery.failure = delivery.failure or error
            finally:
                if lane:
                    delivery.left.append(lane)
                delivery.done.put(None)

    def _empty(self, delivery: Delivery, lane: Lane) -> None:
        """Until every line is written or refused. Raises RetriableError, InfrastructureError; the lane has the rest."""
        waits = self._retry.waits()
        while lane and delivery.failure is None:  # else the whole delivery comes again
            with self._pace.leave() as ticket:
                request = self._next(delivery, lane)
                if request is None:
                    continue
                if request.lost:
                    request = self._ended(delivery, lane, request)
                judgement = self._exchange(delivery, lane, request, ticket)
            if judgement is None or len(judgement.again) < len(request.lines):
                waits = self._retry.waits()  # it gets on
            if judgement is not None and judgement.reason is not None:
                lane.appendleft(request.only(_to_send_again(judgement, request.ids)))
                self._wait(delivery, judgement, next(waits, None))

    def _next(self, delivery: Delivery, lane: Lane) -> Request | None:
        """As much of the lane's first request as may go at once now."""
        request = lane.popleft()
        if delivery.dropped and not delivery.dropped.isdisjoint(request.rows):
            kept = [place for place, row in enumerate(request.rows) if row not in delivery.dropped]
            request = request.only(kept)
            if not kept:
                return None
        if self._pace.slowed:
            _, end = next(cut(request.lines, self._pace.rows, self._pace.bytes))
            if end < len(request.lines):
                lane.appendleft(request.half(end, len(request.lines)))
                request = request.half(0, end)
        return request

    def _exchange(self, delivery: Delivery, lane: Lane, request: Request, ticket: Ticket) -> Judgement | None:
        """Send and judge; None when the request was refused as a whole and its parts are in the lane, or alone in it
        and refused for good."""
        count = len(request.lines)
        sending = "" if self._versioned else f"{self._token}-{next(self._sendings)}"
        try:
            answer = self._client.request("POST", self._path, b"".join(request.lines), MEDIA_TYPE, opaque_id=sending)
            judge_request(answer)
            if answer.status != 200:
                self._divide(delivery, lane, request, answer)
                return None
            judgement = judge_items(answer, count, versioned=self._versioned)
        except BaseException as failure:
            if isinstance(failure, RetriableError) and failure.code in _OVERLOADED:
                self._pace.overloaded(ticket, too_slow=failure.code == _TOO_SLOW)
                if failure.code == _BUSY:  # as if it had said so of every item
                    return Judgement(again=list(range(count)), reason=failure, overloaded=True)
            lane.appendleft(request._replace(lost=sending) if isinstance(failure, RetriableError) else request)
            raise
        delivery.conflicts.append(judgement.conflicts)
        delivery.newer.extend((request.rows[place], version) for place, version in judgement.newer)
        delivery.settled += count - len(judgement.again)
        for place, error in judgement.refused:
            self._refuse(delivery, request, place, error)
        if judgement.overloaded:
            self._pace.overloaded(ticket, partly=len(judgement.again) < count)
        elif judgement.reason is None:
            self._pace.went_well()
        return judgement

    def _ended(self, delivery: Delivery, lane: Lane, request: Request) -> Request:
        """The request, once Elasticsearch has done with its earlier sending. Raises RetriableError when that takes
        long, or when nobody can say."""
        try:
            self._wait_for_end(delivery, request.lost)
        except BaseException:
            lane.appendleft(request)
            raise
        return request._replace(lost="")

    def _wait_for_end(self, delivery: Delivery, lost: str) -> None:
        while self._client.at_work(lost):
            delivery.waiting = "waiting until Elasticsearch has done a request whose answer was lost"
            out_of_patience = time.monotonic() - delivery.began > PATIENCE
            if out_of_patience or self._stop_event.wait(_TICK):
                raise RetriableError(delivery.waiting, code="elasticsearch.unanswered")
        delivery.waiting = None

    def _divide(self, delivery: Delivery, lane: Lane, request: Request, answer: Answer) -> None:
        """The request as a whole was refused: too large, or one of its lines is no valid action."""
        if middle := len(request.lines) // 2:
            if answer.status == 413:
                self._pace.too_large(sum(map(len, request.lines)))
            lane.appendleft(request.half(middle, len(request.lines)))
            lane.appendleft(request.half(0, middle))
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

    def _refuse(self, delivery: Delivery, request: Request, place: int, error: DataError) -> None:
        error.details = details(request.lines[place])
        delivery.refused[request.rows[place]] = error

    def _wait(self, delivery: Delivery, judgement: Judgement, seconds: float | None) -> None:
        assert judgement.reason is not None
        if judgement.missing_index:
            delivery.missing_index = True
            raise judgement.reason
        if seconds is not None and judgement.reason.delay is not None:
            seconds = judgement.reason.delay
        out_of_patience = seconds is None or time.monotonic() + seconds - delivery.began > PATIENCE
        if out_of_patience or delivery.failure is not None:
            raise judgement.reason
        delivery.waiting = str(judgement.reason)
        if self._stop_event.wait(seconds):
            raise judgement.reason
        delivery.waiting = None


def _to_send_again(judgement: Judgement, ids: Sequence[bytes]) -> Sequence[int]:
    """Where order matters a later write to the same document goes again too: sent alone, the earlier would undo it."""
    if not ids:
        return judgement.again
    late = {ids[place] for place in judgement.again}
    return [place for place in range(judgement.again[0], len(ids)) if ids[place] in late]
