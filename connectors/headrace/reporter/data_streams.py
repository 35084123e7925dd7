"""The data streams of metrics and events: names, fields, and the templates that create them.

Names follow Elastic's scheme ``type-dataset-namespace``. The templates have a retention (data stream lifecycle) and map
texts as keywords, so that every field can be shown in Kibana.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

METRICS_DATASET = "headrace.worker"
EVENTS_DATASET = "headrace.events"
_PRIORITY = 200
"""Above that of Elastic's own templates for ``metrics-*-*`` and ``logs-*-*`` (100)."""

_KEYWORD, _LONG, _DOUBLE, _BOOLEAN = ({"type": kind} for kind in ("keyword", "long", "double", "boolean"))
_COMMON: Mapping[str, Mapping[str, Any]] = {
    "@timestamp": {"type": "date"},
    "kind": _KEYWORD,
    "worker.id": _KEYWORD,
    "connector.name": _KEYWORD,
    "connector.type": _KEYWORD,
    "task.id": _KEYWORD,
}
METRIC_FIELDS: Mapping[str, Mapping[str, Any]] = {
    **_COMMON,
    "task.state": _KEYWORD,
    "task.retrying": _BOOLEAN,
    "records.read": _LONG,
    "records.written": _LONG,
    "records.per_second": _DOUBLE,
    "records.refused": _LONG,
    "records.dead_lettered": _LONG,
    "lag": _LONG,
    "age.newest": _DOUBLE,
    "age.p50": _DOUBLE,
    "age.p99": _DOUBLE,
    "data_as_of": {"type": "date"},
    "slo.seconds": _DOUBLE,
    "slo.exceeded": _BOOLEAN,
    "hop.name": _KEYWORD,
    "hop.batches": _LONG,
    "hop.newest": _DOUBLE,
    "hop.p50": _DOUBLE,
    "hop.p99": _DOUBLE,
    "part.name": _KEYWORD,
    "part.records": _LONG,
    "part.dropped": _LONG,
    "part.late": _LONG,
}
"""Fields of the stream of metrics; ``kind`` is ``task``, ``hop`` or ``step``. Counts are those of one interval."""
EVENT_FIELDS: Mapping[str, Mapping[str, Any]] = {
    **_COMMON,
    "event.action": _KEYWORD,
    "event.code": _KEYWORD,
    "state.before": _KEYWORD,
    "state.after": _KEYWORD,
    "partitions": _KEYWORD,
    "group.generation": _LONG,
    "group.leader": _KEYWORD,
    "experiment.name": _KEYWORD,
    "experiment.transition": _KEYWORD,
    "experiment.version": _KEYWORD,
    "experiment.number": _LONG,
    "experiment.current": _KEYWORD,
    "experiment.by": _KEYWORD,
    "experiment.at": {"type": "date"},
    "message": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 1024}}},
}
"""Fields of the stream of events. ``kind`` is ``state``, ``condition``, ``rebalance`` or ``experiment``."""


class DataStream(NamedTuple):
    """A data stream that the reporter writes."""

    name: str
    template: str
    body: Mapping[str, Any]


def data_streams(namespace: str, retention: str) -> tuple[DataStream, DataStream]:
    """Return the stream of metrics and that of events."""
    return (
        _stream("metrics", METRICS_DATASET, namespace, retention, METRIC_FIELDS),
        _stream("logs", EVENTS_DATASET, namespace, retention, EVENT_FIELDS),
    )


def _stream(
    kind: str, dataset: str, namespace: str, retention: str, fields: Mapping[str, Mapping[str, Any]]
) -> DataStream:
    body = {
        "index_patterns": [f"{kind}-{dataset}-*"],
        "data_stream": {},
        "priority": _PRIORITY,
        "template": {
            "lifecycle": {"data_retention": retention},
            "mappings": {"dynamic": False, "properties": nested(fields)},
        },
        "_meta": {"description": "Written by headrace (metrics.elasticsearch.url)."},
    }
    return DataStream(f"{kind}-{dataset}-{namespace}", f"{kind}-{dataset}", body)


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with dots in their names as properties of objects."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        *parents, last = name.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {"properties": {}})["properties"]
        place[last] = dict(value)
    return found
