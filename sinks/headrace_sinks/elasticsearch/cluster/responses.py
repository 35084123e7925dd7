"""Classifies Elasticsearch's responses: written, retry, refused, or a problem that the user must fix.

=======================================================  ==============================================
2xx; 404 of a delete                                      written
409 of a write with an external version, or of a create   written: the index has it, or something newer
429, 5xx, a blocked, closed or vanished index             sent again (RetriableError in the end)
401, 403 without a block                                  InfrastructureError
any other 4xx of an item                                  refused: a DataError with Elasticsearch's reason
413, 400 of a whole request                               sent in halves, to find the record it is about
=======================================================  ==============================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headrace import DataError, InfrastructureError, RetriableError
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchResponse, proxy_denied

FILTER = "filter_path=errors,items.*.status,items.*.error"
"""Limits responses to the needed fields; in full they would be larger than many requests. Each further path costs
Elasticsearch time for every item, so errors are requested in full."""

_BLOCK = "cluster_block_exception"
_MISSING_INDEX = "index_not_found_exception"
_CLOSED_INDEX = "index_closed_exception"
_NO_SHARDS_LEFT = "validation_exception"  # "this cluster currently has … maximum … shards open"
_LONGEST_REASON = 500


@dataclass(slots=True)
class BulkResult:
    """Result of a bulk request by the place of its items. Items that are not mentioned were written."""

    conflicts: int = 0
    """Writes that the index already had in the same or a newer version."""
    newer: list[tuple[int, int]] = field(default_factory=list)
    """Place and index version of conflicts, where Elasticsearch reports the version."""
    again: list[int] = field(default_factory=list)
    reason: RetriableError | None = None
    """Reason of the first item to send again."""
    refused: list[tuple[int, DataError]] = field(default_factory=list)
    missing_index: bool = False
    overloaded: bool = False


def read_bulk_response(answer: ElasticsearchResponse, count: int, *, versioned: bool) -> BulkResult:
    """Read a bulk response with status 200. Raise RetriableError when it is unreadable, InfrastructureError."""
    body = answer.body
    if body.startswith(b'{"errors":false') and body.count(b'"status":') == count:
        return BulkResult()
    content = answer.json()
    items = content.get("items") if isinstance(content, dict) else None
    if not isinstance(items, list) or len(items) != count:
        raise RetriableError(
            f"Elasticsearch's answer to a bulk request of {count} items cannot be read ({len(body)} bytes)",
            code="elasticsearch.garbled_answer",
            hint="check whether a proxy between headrace and Elasticsearch changes or truncates responses",
        )
    result = BulkResult()
    for place, item in enumerate(items):
        ((action, outcome),) = item.items()
        if (status := outcome["status"]) >= 300 and not (
            status == 404 and action == "delete" and "error" not in outcome
        ):
            _read_item(result, place, status, outcome.get("error") or {}, versioned)
    return result


def require_usable_response(answer: ElasticsearchResponse) -> None:
    """Return when the status is 200, 400 or 413; else raise RetriableError or InfrastructureError."""
    status = answer.status
    if 200 <= status < 300 or status == 413:
        return
    kind, reason = error_of(answer)
    if status == 400 and kind:
        return
    said = f"HTTP {status}{f', {kind}: {reason}' if kind else ''}"
    if status in (401, 403) and kind != _BLOCK:
        raise denied(status, reason)
    if status == 407:
        raise proxy_denied(said)
    if status == 429:
        delay, said = _retry_after(answer), f"HTTP 429{f', {_described(kind, reason)}' if kind else ''}"
        raise RetriableError(f"Elasticsearch is overloaded ({said})", code="elasticsearch.overloaded", delay=delay)
    if status in (403, 408) or status >= 500:
        raise RetriableError(
            f"Elasticsearch is not available ({said})", code="elasticsearch.unavailable", delay=_retry_after(answer)
        )
    raise InfrastructureError(
        f"the server is not Elasticsearch, or answered unexpectedly ({said})",
        code="elasticsearch.unexpected_answer",
        hint="check 'connection.url'; an https port needs https://",
    )


def denied(status: int, reason: str) -> InfrastructureError:
    """Return the error for refused credentials (401) or missing privileges (403)."""
    if status == 401:
        return InfrastructureError(
            f"Elasticsearch does not accept the credentials: {reason}",
            code="elasticsearch.unauthorized",
            hint="check 'connection.username' and 'connection.password', or 'connection.api.key'",
        )
    return InfrastructureError(
        f"Elasticsearch does not allow this: {reason}",
        code="elasticsearch.forbidden",
        hint="the user needs the privileges write and create_index on the indices, and monitor on the cluster",
    )


def no_write_index(alias: str) -> RetriableError:
    """Return the error for an alias that no index accepts writes for."""
    return RetriableError(
        f"no index is marked as write index: {alias}",
        code="elasticsearch.no_write_index",
        hint='mark one: POST /_aliases {"actions": [{"add": {"index": "…", "alias": "…", "is_write_index": true}}]}; '
        "writing then resumes",
        delay=10.0,
    )


def error_of(answer: ElasticsearchResponse) -> tuple[str, str]:
    """Return type and reason of an error response; empty when it has none."""
    content = answer.json()
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, str):
        return "error", without_contents(error)
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("type") or ""), without_contents(str(error.get("reason") or ""))


def without_contents(reason: str) -> str:
    """Remove quoted document contents from a reason, because reasons go to logs and headers."""
    for pattern, put in _QUOTES:
        reason = pattern.sub(put, reason)
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"


def _place_of(source: re.Match[str]) -> str:
    return f" (line{source[1].removeprefix('; line').removesuffix(']')})" if source[1] else ""


_QUOTES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\.? *(Preview of field's value|The prefix of the first immense term is):.*", re.DOTALL), ""),
    (re.compile(r" in document with id '.*?'(?=[\s.,;:]|$)", re.DOTALL), ""),
    (re.compile(r"^(\[[^\]]{1,300}\]: version conflict)", re.DOTALL), "version conflict"),
    (
        re.compile(r"((?:parse|parsing)(?: date)? (?:field|value) )\[[^\]]*\](?= (?:with format|as ))", re.DOTALL),
        r"\1[…]",
    ),
    (re.compile(r'(input string: )".*"', re.DOTALL), r"\1…"),
    # The quoted beginning of invalid JSON; greedy, because the quote may contain the text that follows it.
    (re.compile(r"\s*at \[Source: (?:.*(; line: \d+, column: \d+\])|.*)", re.DOTALL), _place_of),
    (re.compile(r"'[^']*'"), "'…'"),
]


_NEWER = re.compile(r".*current version \[(\d+)\] is higher (?:or equal|than)", re.DOTALL)
_NO_WRITE_INDEX = re.compile(r"no write index is defined for alias (\[[^\]]*\])")
_NO_PIPELINE = re.compile(r"pipeline with id .* does not exist")


def _read_item(result: BulkResult, place: int, status: int, error: dict[str, Any], versioned: bool) -> None:
    kind, reason = str(error.get("type") or ""), without_contents(str(error.get("reason") or ""))
    if status == 409 and versioned:
        result.conflicts += 1
        if found := _NEWER.match(str(error.get("reason") or "")):
            result.newer.append((place, int(found[1])))
    elif status in (409, 429) or status >= 500 or kind in (_BLOCK, _MISSING_INDEX, _CLOSED_INDEX, _NO_SHARDS_LEFT):
        result.again.append(place)
        result.missing_index = result.missing_index or kind == _MISSING_INDEX
        result.overloaded = result.overloaded or status == 429
        if result.reason is None:
            result.reason = _retriable(status, kind, reason)
    elif status in (401, 403):
        raise denied(status, reason)
    elif kind == "illegal_argument_exception" and (alias := _NO_WRITE_INDEX.search(reason)):
        result.again.append(place)
        result.reason = result.reason or no_write_index(f"alias {alias[1]}")
    elif kind == "illegal_argument_exception" and "op_type of create" in reason:
        raise InfrastructureError(
            f"the target is a data stream: {reason}",
            code="elasticsearch.data_stream",
            hint="external.resource.usage: DATASTREAM or ALIAS_DATASTREAM, or 'data.stream.type'; or write to an index",
        )
    elif kind == "illegal_argument_exception" and _NO_PIPELINE.search(reason):
        raise InfrastructureError(
            f"documents cannot go through the ingest pipeline: {reason}",
            code="elasticsearch.pipeline_missing",
            hint="create it, or change 'ingest.pipeline' (or the index's default pipeline)",
        )
    elif kind == "document_missing_exception":
        text = "the document does not exist, and write.method: update creates none"
        hint = "write.method: upsert creates missing documents"
        result.refused.append((place, DataError(text, code="elasticsearch.document_missing", hint=hint)))
    else:
        cause = (error.get("caused_by") or {}).get("type")
        result.refused.append(
            (
                place,
                DataError(
                    f"Elasticsearch refused the document: {kind}: {reason}{f' ({cause})' if cause else ''}",
                    code="elasticsearch.document_rejected",
                ),
            )
        )


def _described(kind: str, reason: str) -> str:
    """Remove the names of Java objects in the queue, which differ each time."""
    if kind == "es_rejected_execution_exception" and reason.startswith("rejected execution of "):
        return "a write queue is full"
    return reason or kind


def _retriable(status: int, kind: str, reason: str) -> RetriableError:
    if kind == _BLOCK and "flood" in reason:
        hint = "free disk space on the Elasticsearch nodes; writing then continues by itself"
        return RetriableError(f"Elasticsearch's disks are full: {reason}", code="elasticsearch.disk_full", hint=hint)
    if kind == _BLOCK:
        hint = (
            "`headrace reindex` blocks it for some seconds (see `--status`; `--abort` ends an interrupted run); "
            "otherwise remove index.blocks.* from the index settings"
        )
        return RetriableError(f"the index is blocked: {reason}", code="elasticsearch.index_blocked", hint=hint)
    if kind == _CLOSED_INDEX:
        return RetriableError(f"an index is closed: {reason}", code="elasticsearch.index_closed", hint="open the index")
    if kind == _MISSING_INDEX:
        return RetriableError(f"an index was deleted: {reason}", code="elasticsearch.index_missing")
    if status == 429:
        return RetriableError(
            f"Elasticsearch is overloaded: {_described(kind, reason)}", code="elasticsearch.overloaded"
        )
    return RetriableError(
        f"Elasticsearch could not write (status {status}, {kind}: {reason})", code="elasticsearch.unavailable"
    )


def _retry_after(answer: ElasticsearchResponse) -> float | None:
    text = answer.headers.get("retry-after") or ""
    return min(float(text), 60.0) if text.isdigit() else None
