"""Copies single documents from one index to another, with all digits of their numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from headrace import DataError
from headrace_sinks.elasticsearch.bulk.direct_writes import send_lines
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.verification.index_scan import IndexScan

_INTEGERS = -(1 << 63), (1 << 64) - 1
"""What orjson writes."""
_MOST_DIGITS = 20  # with a sign
_OLDEST = 0
"""Every record replaces a document of this version; the sink writes offset 0 over it, too."""


def copy_documents(
    client: ElasticsearchClient, scan: IndexScan, idents: Sequence[str], source: str, target: str, *, keep_version: bool
) -> list[DataError]:
    """Copy documents that ``target`` does not have; return an error for each one that it refuses.

    ``keep_version``: with the version of the original, else with one that every record replaces. Raise RetriableError,
    InfrastructureError, TaskError.
    """
    lines, errors = [], []
    for hit in scan.hits(source, idents, loads=_exact):
        # An internal version would be 1, which is newer than the record at offset 0.
        version = int(hit["_version"]) if keep_version else _OLDEST
        place = {"_index": target, "_id": hit["_id"], "routing": hit.get("_routing")}
        versioned = {**place, "version": version, "version_type": "external"}
        action = {"index": {name: value for name, value in versioned.items() if value is not None}}
        try:
            lines.append(orjson.dumps(action) + b"\n" + orjson.dumps(hit["_source"]) + b"\n")
        except (KeyError, TypeError) as error:
            why = "has no _source" if isinstance(error, KeyError) else "is not valid UTF-8"
            errors.append(DataError(f"document '{hit['_id']}' {why}", code="elasticsearch.not_json"))
    refused = send_lines(client, lines)
    return [*errors, *(error for _, error in refused)]


def _exact(body: bytes) -> Any:
    """Parse a response without changing the digits of numbers."""
    return json.loads(body.decode(errors="surrogateescape"), parse_float=orjson.Fragment, parse_int=_integer)


def _integer(text: str) -> Any:
    """Return an int, or the text where orjson would not write it."""
    if len(text) <= _MOST_DIGITS and _INTEGERS[0] <= (number := int(text)) <= _INTEGERS[1]:
        return number
    return orjson.Fragment(text)
