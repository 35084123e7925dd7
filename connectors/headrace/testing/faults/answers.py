"""Faults of one HTTP request to Elasticsearch or of its answer."""

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
    """A client's request. ``path`` includes the query; ``body`` is decompressed."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """The answer to the client. If ``cut_after`` is not None, the connection closes after so many bytes of it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None


class HangUpError(Exception):
    """Closes the client's connection without an answer."""


class Passage(Protocol):
    """What a fault may do with a request."""

    def forward(self, request: Request) -> Answer:
        """Return the engine's answer to ``request``."""
        ...

    def wait(self, seconds: float | None) -> None:
        """Wait so many seconds (None = without limit), or until the proxy is restored or closed."""
        ...


class Fault(Protocol):
    """A fault that is injected into one request."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        """Return the answer to the client. Raise HangUpError to close its connection without one."""
        ...


@dataclass(frozen=True)
class StatusFault:
    """This status instead of the engine's answer; the request does not reach the engine.

    The default ``body`` is that of Elasticsearch for this status (empty for 413). ``retry_after`` is the header, in
    seconds.
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
    """The request is forwarded at once, its answer ``seconds`` later, or when the proxy is restored."""

    seconds: float

    def answer(self, request: Request, passage: Passage) -> Answer:
        answer = passage.forward(request)
        passage.wait(self.seconds)
        return answer


@dataclass(frozen=True)
class HalfAnswer:
    """The engine executes the request; the connection closes in the middle of its answer."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        answer = passage.forward(request)
        return replace(answer, cut_after=len(answer.body) // 2)


@dataclass(frozen=True)
class NoAnswer:
    """The engine executes the request; the connection closes without an answer."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        passage.forward(request)
        raise HangUpError


@dataclass(frozen=True)
class Drop:
    """The connection closes without an answer; the request does not reach the engine."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        raise HangUpError


@dataclass(frozen=True)
class Hang:
    """No answer until the proxy is restored or closed. ``applied``: the engine executes the request."""

    applied: bool = False

    def answer(self, request: Request, passage: Passage) -> Answer:
        if self.applied:
            passage.forward(request)
        passage.wait(None)
        raise HangUpError


@dataclass(frozen=True)
class Late:
    """No answer. The engine executes the request when the proxy is restored, after requests that came later."""

    def answer(self, request: Request, passage: Passage) -> Answer:
        passage.wait(None)
        passage.forward(request)
        raise HangUpError


@dataclass(frozen=True)
class ItemErrors:
    """Some items of a bulk request fail with ``status``; only the others reach the engine.

    ``fails`` selects items by position and by the content of the action line (``{"_index": …, "_id": …}``); by default
    the first item and every second one after it fail. An answer that is not 200 is returned unchanged.
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
            decoded = json.loads(answer.body)
            succeeded = iter(decoded.get("items", []))
        else:
            answer = StatusFault(200, {}).answer(request, passage)
            decoded, succeeded = {"took": 0}, iter([])
        decoded["errors"] = True
        decoded["items"] = [
            {action: self._error(meta)} if fails else next(succeeded)
            for (action, meta, _), fails in zip(items, failed, strict=True)
        ]
        return replace(answer, body=json.dumps(decoded).encode())

    def _error(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        error = {"type": self.kind, "reason": self.reason}
        return {"_index": meta.get("_index"), "_id": meta.get("_id"), "status": self.status, "error": error}


def bulk_items(body: bytes) -> list[tuple[str, dict[str, Any], bytes]]:
    """Return for each item of a bulk body its action, the content of the action line, and its lines."""
    items: list[tuple[str, dict[str, Any], bytes]] = []
    lines = iter(body.splitlines(keepends=True))
    for line in lines:
        if not line.strip():
            continue
        ((action, meta),) = json.loads(line).items()
        items.append((action, meta, line if action == "delete" else line + next(lines)))
    return items


def decompressed(body: bytes, encoding: str) -> bytes:
    """Return a body without its ``Content-Encoding``."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    return body


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a proxy forwards."""
    return {name: value for name, value in headers.items() if name.lower() not in _OWNED_BY_THE_PROXY}


def _error_body(status: int) -> dict[str, Any]:
    kind, reason = _REASONS[status]
    cause = {"type": kind, "reason": reason}
    return {"error": {"root_cause": [cause], **cause}, "status": status}
