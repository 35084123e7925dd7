"""What may go wrong with one HTTP request on its way to Elasticsearch and back."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

_REASONS: Mapping[int, tuple[str, str]] = {
    401: ("security_exception", "unable to authenticate user for REST request"),
    403: ("security_exception", "action is unauthorized for user"),
    429: ("es_rejected_execution_exception", "rejected execution of coordinating operation"),
    503: ("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];"),
    504: ("process_cluster_event_timeout_exception", "failed to process cluster event within 30s"),
}
_OWNED_BY_THE_PROXY = {"connection", "content-length", "content-encoding", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """What the client sent. ``path`` has the query; ``body`` is decompressed."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What the client gets: of ``body`` only the first ``cut_after`` bytes when that is not None, then the end."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None


class HangUpError(Exception):
    """The client gets no answer: its connection is closed."""


class Passage(Protocol):
    """How a fault reaches what is behind the proxy."""

    def forward(self, request: Request) -> Answer:
        """The engine's answer to ``request``."""
        ...

    def wait(self, seconds: float | None) -> None:
        """Returns after so long (None = for ever), earlier when the proxy is restored or closed."""
        ...


class Fault(Protocol):
    """One thing that goes wrong."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        """What the client gets. Raises HangUpError for nothing at all."""
        ...


@dataclass(frozen=True)
class Status:
    """This status instead of the engine's answer; the request does not reach it.

    Without ``body`` it is what Elasticsearch says with this status (413: nothing, like its HTTP layer).
    ``retry_after`` is the header, in seconds.
    """

    status: int
    body: bytes | Mapping[str, Any] | None = None
    retry_after: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request: Request, passage: Passage) -> Answer:
        headers = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/json", **self.headers}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Answer(self.status, headers, self._body())

    def _body(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        if self.body is None and self.status not in _REASONS:
            return b""
        return json.dumps(self.body if self.body is not None else _error_body(self.status)).encode()


@dataclass(frozen=True)
class Slow:
    """The request is passed on at once, its answer ``seconds`` later (or when the proxy is restored)."""

    seconds: float

    def answer(self, request: Request, passage: Passage) -> Answer:
        answer = passage.forward(request)
        passage.wait(self.seconds)
        return answer


@dataclass(frozen=True)
class HalfAnswer:
    """The engine does what was asked; its answer breaks off in the middle."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        answer = passage.forward(request)
        return replace(answer, cut_after=len(answer.body) // 2)


@dataclass(frozen=True)
class NoAnswer:
    """The engine does what was asked; the connection ends without an answer."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        passage.forward(request)
        raise HangUpError


@dataclass(frozen=True)
class Drop:
    """The connection ends without an answer; the request does not reach the engine."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        raise HangUpError


@dataclass(frozen=True)
class Hang:
    """Neither answer nor end until the proxy is restored or closed. ``applied``: the engine does what was asked."""

    applied: bool = False

    def answer(self, request: Request, passage: Passage) -> Answer:
        if self.applied:
            passage.forward(request)
        passage.wait(None)
        raise HangUpError


@dataclass(frozen=True)
class Late:
    """No answer until the proxy is restored; only then the engine does what was asked, after what came meanwhile."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        passage.wait(None)
        passage.forward(request)
        raise HangUpError


@dataclass(frozen=True)
class ItemErrors:
    """Some items of a bulk request fail with ``status``; only the others reach the engine.

    ``fails`` chooses by the item's position in the request and its action line's content
    (``{"_index": …, "_id": …}``); by default every second fails, the first one too. Of a request whose engine's
    answer is no bulk answer, all is passed on as it is.
    """

    status: int = 429
    kind: str = "es_rejected_execution_exception"
    reason: str = "rejected execution of primary operation"
    fails: Callable[[int, Mapping[str, Any]], bool] = lambda position, action: position % 2 == 0

    def answer(self, request: Request, passage: Passage) -> Answer:
        items = bulk_items(request.body)
        failed = [self.fails(position, meta) for position, (_, meta, _) in enumerate(items)]
        kept = b"".join(lines for (_, _, lines), fails in zip(items, failed, strict=True) if not fails)
        if not any(failed):
            return passage.forward(request)
        if kept:
            answer = passage.forward(replace(request, body=kept))
            if answer.status != 200:
                return answer
            said = json.loads(answer.body)
            succeeded = iter(said.get("items", []))
        else:
            answer = Status(200, {}).answer(request, passage)
            said, succeeded = {"took": 0}, iter([])
        said["errors"] = True
        said["items"] = [
            {action: self._error(meta)} if fails else next(succeeded)
            for (action, meta, _), fails in zip(items, failed, strict=True)
        ]
        return replace(answer, body=json.dumps(said).encode())

    def _error(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        error = {"type": self.kind, "reason": self.reason}
        return {"_index": meta.get("_index"), "_id": meta.get("_id"), "status": self.status, "error": error}


def bulk_items(body: bytes) -> list[tuple[str, dict[str, Any], bytes]]:
    """Each item of a bulk body: its action, what the action line says, and its lines as they are."""
    items: list[tuple[str, dict[str, Any], bytes]] = []
    lines = iter(body.splitlines(keepends=True))
    for line in lines:
        if not line.strip():
            continue
        ((action, meta),) = json.loads(line).items()
        items.append((action, meta, line if action == "delete" else line + next(lines)))
    return items


def decompressed(body: bytes, encoding: str) -> bytes:
    """A body as it was before ``Content-Encoding``."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    return body


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that go through a proxy."""
    return {name: value for name, value in headers.items() if name.lower() not in _OWNED_BY_THE_PROXY}


def _error_body(status: int) -> dict[str, Any]:
    kind, reason = _REASONS[status]
    cause = {"type": kind, "reason": reason}
    return {"error": {"root_cause": [cause], **cause}, "status": status}
