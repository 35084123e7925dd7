"""Sends bulk requests, several at a time, until every line is written or refused.

Requests stand in *lanes*: those of one lane go one after another, lanes go side by side. Where Elasticsearch settles
the order of writes itself (external versions) each request is a lane; else all writes to a document share one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace import DataError, RetriableError, RetryPolicy
from headrace_sinks.elasticsearch.answers import FILTER, Judgement, error_of, judge_items, judge_request
from headrace_sinks.elasticsearch.client import Answer, Client

PATH = f"/_bulk?{FILTER}"
MEDIA_TYPE = "application/x-ndjson"
PATIENCE = 10.0
"""Seconds: after that long a put gives its records back to the framework, which shows why and begins anew."""
STOP_PATIENCE = 2.0
"""Seconds: how long a stopping task waits for answers that are on their way."""
_TICK = 0.25
_LONGEST_WAIT = 5.0


class Request(NamedTuple):
    """Lines that go together. ``rows`` say which records of the put they are; only ordered lanes have ``ids``."""

    rows: Sequence[int]
    lines: Sequence[bytes]
    ids: Sequence[bytes] = ()

    def half(self, start: int, end: int) -> Request:
        return Request(self.rows[start:end], self.lines[start:end], self.ids[start:end])

    def only(self, places: Sequence[int]) -> Request:
        return Request(
            [self.rows[place] for place in places],
            [self.lines[place] for place in places],
            [self.ids[place] for place in places] if self.ids else (),
        )


@dataclass(slots=True)
class Delivery:
    """What became of one put's lines. Written by the writer's threads, read when all lanes are done."""

    began: float
    refused: dict[int, DataError] = field(default_factory=dict)
    """By row."""
    conflicts: list[int] = field(default_factory=list)
    failure: BaseException | None = None
    waiting: str | None = None
    missing_index: bool = False
    open: int = 0
    done: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)


class Writer:
    """Threads that send. One put at a time: ``begin``, ``submit`` lanes, ``finish``."""

    def __init__(
        self,
        client: Client,
        retry: RetryPolicy,
        stop_event: threading.Event,
        *,
        most_requests: int,
        versioned: bool,
        name: str,
    ) -> None:
        self._client = client
        self._retry = RetryPolicy(retry.first, min(retry.longest, _LONGEST_WAIT), retry.tries)
        self._stop_event = stop_event
        self._most_requests = most_requests
        self._versioned = versioned
        self._name = name
        self._lanes: queue.SimpleQueue[tuple[Delivery, Sequence[Request]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self) -> Delivery:
        return Delivery(time.monotonic())

    def submit(self, delivery: Delivery, lane: Sequence[Request]) -> None:
        """Send these one after another. Returns at once."""
        delivery.open += 1
        if len(self._threads) < min(delivery.open, self._most_requests):
            # Daemons: a request that nobody answers must not keep a stopped worker alive.
            thread = threading.Thread(target=self._work, name=f"{self._name}-bulk", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._lanes.put((delivery, lane))

    def finish(self, delivery: Delivery) -> Iterator[str | None]:
        """Wait until all lanes are done; yields what is waited for whenever that changes. Raises what a lane failed of.

        Raises RetriableError when the task is told to stop and answers do not come.
        """
        told: str | None = None
        stop_by: float | None = None
        while delivery.open:
            try:
                # A queue and an event cannot be waited for together, so the event is looked at between ticks.
                delivery.done.get(timeout=_TICK)
                delivery.open -= 1
            except queue.Empty:
                if self._stop_event.is_set():
                    stop_by = stop_by or time.monotonic() + STOP_PATIENCE
                    if time.monotonic() >= stop_by:
                        text = "told to stop before Elasticsearch answered"
                        delivery.failure = RetriableError(text, code="elasticsearch.stopped")
                        break
            if delivery.waiting != told:
                told = delivery.waiting
                yield told
        if delivery.failure is not None:
            raise delivery.failure
        if told is not None:
            yield None

    def stop(self) -> None:
        """End the threads; one whose request is not answered ends when the answer has come or timed out."""
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
                for request in lane:
                    if delivery.failure is not None:
                        break  # the whole put comes again
                    self._send(delivery, request)
            except BaseException as error:  # raised again by finish, on the task's thread
                delivery.failure = delivery.failure or error
            finally:
                delivery.done.put(None)

    def _send(self, delivery: Delivery, request: Request) -> None:
        """Until every line is written or refused. Raises RetriableError, EnvironmentFault."""
        waits = self._retry.waits()
        while True:
            answer = self._client.request("POST", PATH, b"".join(request.lines), MEDIA_TYPE)
            judge_request(answer)
            if answer.status != 200:
                self._divide(delivery, request, answer)
                return
            judgement = judge_items(answer, len(request.lines), versioned=self._versioned)
            delivery.conflicts.append(judgement.conflicts)
            delivery.refused.update((request.rows[place], error) for place, error in judgement.refused)
            if judgement.reason is None:
                return
            self._wait(delivery, judgement, next(waits, None))
            request = request.only(_to_send_again(judgement, request.ids))

    def _divide(self, delivery: Delivery, request: Request, answer: Answer) -> None:
        """The request as a whole was refused: too large, or one of its lines is no valid action."""
        middle = len(request.lines) // 2
        if middle:
            self._send(delivery, request.half(0, middle))
            self._send(delivery, request.half(middle, len(request.lines)))
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
        delivery.refused[request.rows[0]] = error

    def _wait(self, delivery: Delivery, judgement: Judgement, seconds: float | None) -> None:
        assert judgement.reason is not None
        if judgement.missing_index:
            delivery.missing_index = True
            raise judgement.reason
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
