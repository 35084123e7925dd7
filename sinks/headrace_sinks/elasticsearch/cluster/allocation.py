"""Why the primary shard of an index is not active, as the cluster explains it."""

from __future__ import annotations

import re
from typing import Any

import orjson

from headrace import HeadraceError, RetriableError
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient

# For example: [orders][0] primary shard is not active Timeout: [5s], request: […]
_INACTIVE = re.compile(r"\[(?P<index>[^\]]+)\]\[(?P<shard>\d+)\] primary shard is not active")
_READ_TIMEOUT = 5.0


def explained(client: ElasticsearchClient, error: RetriableError) -> RetriableError:
    """Return ``error`` with the cause, if it is about a primary shard that is not active and the cluster tells it."""
    found = _INACTIVE.search(error.message)
    if found is None:
        return error
    body = {"index": found["index"], "shard": int(found["shard"]), "primary": True}
    try:
        answer = client.request("POST", "/_cluster/allocation/explain", orjson.dumps(body), read_timeout=_READ_TIMEOUT)
    except HeadraceError:  # the error that is to be explained matters more
        return error
    cause = _cause(answer.lenient_json()) if answer.status == 200 else ""
    if not cause:
        return error
    text = f"primary shard is not active: shard {found['shard']} of index {found['index']}: {cause}"
    hint = "correct that (details: `GET _cluster/allocation/explain`); writing then continues by itself"
    return RetriableError(text, code="elasticsearch.shard_inactive", hint=hint, delay=error.delay)


def _cause(explanation: Any) -> str:
    """Return what prevents the allocation: the deciders that say no, else Elasticsearch's summary."""
    if not isinstance(explanation, dict):
        return ""
    deciders = [
        str(decider.get("explanation", ""))
        for node in explanation.get("node_allocation_decisions") or ()
        for decider in node.get("deciders") or ()
        if decider.get("decision") == "NO"
    ]
    unassigned = explanation.get("unassigned_info") or {}
    details = str(unassigned.get("details") or "")
    summary = str(explanation.get("allocate_explanation") or explanation.get("explanation") or "")
    return "; ".join(dict.fromkeys(filter(None, deciders or [summary, details])))
