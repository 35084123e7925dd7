"""Dashboards over the metrics and events that workers write to Elasticsearch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from headrace.errors import RetriableError, TaskError
from headrace.kibana.panel_choice import COUNT, Panel, PanelColumn
from headrace.kibana.sinks import DesignedDashboard, SearchableSink
from headrace.metrics_settings import MetricsSettings
from headrace.plugin import DashboardData, DataTarget, IndexedField
from headrace.reporter.bulk_client import ReporterAccess, open_http, reporter_access
from headrace.reporter.data_streams import EVENT_FIELDS, EVENTS_DATASET, METRIC_FIELDS, METRICS_DATASET

METRICS, EVENTS = f"metrics-{METRICS_DATASET}-*", f"logs-{EVENTS_DATASET}-*"
_TIME_FIELD = "@timestamp"
_NAME = "workers"
_SPLIT, _TOP = 9, 20
"""Values in a legend and in a table."""


def worker_data(settings: MetricsSettings | None) -> SearchableSink | None:
    """Return the data streams of a worker with their dashboards; None when it writes none. Raise ConfigError."""
    if settings is None or settings.reporter_url is None:
        return None
    data = WorkerStreams(reporter_access(settings))
    dashboards = {
        METRICS: (
            DesignedDashboard("operations", _OPERATIONS, ("connector.name", "task.id", "task.state", "lag", "age.p99")),
            DesignedDashboard("stream applications", _STREAMS, ("connector.name", "part.name", "part.records")),
        ),
        EVENTS: (DesignedDashboard("events", _EVENTS, ("connector.name", "event.action", "state.after", "message")),),
    }
    return SearchableSink(_NAME, data, data.targets([]), frozenset(), dashboards)


class WorkerStreams(DashboardData):
    """Opens no connection before a request is sent."""

    def __init__(self, access: ReporterAccess) -> None:
        self._url = access.url.rstrip("/")
        self._http = open_http(access)

    def targets(self, topics: Sequence[str]) -> Sequence[DataTarget]:
        return [
            DataTarget("", name, [IndexedField(path, str(each["type"])) for path, each in fields.items()], _TIME_FIELD)
            for name, fields in ((METRICS, METRIC_FIELDS), (EVENTS, EVENT_FIELDS))
        ]

    def fields(self, name: str) -> Sequence[IndexedField] | None:
        answer = self._request("GET", f"/{name}/_field_caps?fields=*")
        if not answer.get("indices"):
            return None
        return [
            IndexedField(path, "/".join(sorted(types)), all(each.get("aggregatable", False) for each in types.values()))
            for path, types in sorted(answer["fields"].items())
            if not any(each.get("metadata_field") for each in types.values()) and "object" not in types
        ]

    def search(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._request("POST", f"/{name}/_search", request)

    def close(self) -> None:
        self._http.close()

    def _request(self, method: str, place: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, self._url + place, json=body)
        except httpx.TransportError as error:
            text = f"Elasticsearch at {self._url} cannot be reached: {error}"
            raise RetriableError(text, code="kibana.unreachable", hint="see metrics.elasticsearch.url") from error
        if answer.status_code >= 300:
            text = f"Elasticsearch at {self._url} answered {method} {place} with status {answer.status_code}"
            hint = "grant read and view_index_metadata for the streams of metrics and events"
            raise TaskError(text, code="kibana.query_failed", hint=hint)
        found: dict[str, Any] = answer.json()
        return found


def _time() -> PanelColumn:
    return PanelColumn("time", "date_histogram", _TIME_FIELD, _TIME_FIELD, "date")


def _terms(field: str, title: str, order_by: str, size: int = _SPLIT) -> PanelColumn:
    return PanelColumn("values", "terms", title, field, "keyword", size, order_by)


def _sum(field: str, title: str, ident: str = "sum") -> PanelColumn:
    return PanelColumn(ident, "sum", title, field, "long")


def _max(field: str, title: str, kind: str = "double") -> PanelColumn:
    return PanelColumn("max", "max", title, field, kind)


def _over_time(key: str, title: str, split: str, label: str, value: PanelColumn) -> Panel:
    return Panel(key, title, "lnsXY", (_time(), _terms(split, label, value.id), value))


def _by_connector(key: str, title: str, value: PanelColumn) -> Panel:
    return _over_time(key, title, "connector.name", "Connector", value)


_OPERATIONS = (
    Panel("data-as-of", "Data as of", "lnsMetric", (_max("data_as_of", "Newest", "date"),)),
    Panel("written", "Records written", "lnsMetric", (_sum("records.written", "Records"),)),
    _by_connector("written-over-time", "Records written by connector", _sum("records.written", "Records")),
    _by_connector("lag", "Lag by connector", _max("lag", "Records", "long")),
    _by_connector("age", "Age of the data by connector, 99th percentile", _max("age.p99", "Seconds")),
    _over_time("hops", "Time at each hop, median", "hop.name", "Hop", _max("hop.p50", "Seconds")),
    Panel(
        "refused",
        "Refused records by connector",
        "lnsDatatable",
        (
            _terms("connector.name", "Connector", "sum", _TOP),
            _sum("records.refused", "Refused"),
            _sum("records.dead_lettered", "Dead letters", "letters"),
        ),
    ),
    _over_time("states", "States of tasks", "task.state", "State", COUNT),
)
_STREAMS = (
    Panel("records", "Records processed by steps", "lnsMetric", (_sum("part.records", "Records"),)),
    Panel("late", "Late records", "lnsMetric", (_sum("part.late", "Records"),)),
    _over_time("steps", "Records by step", "part.name", "Step", _sum("part.records", "Records")),
    _over_time("dropped", "Records that ended in a step", "part.name", "Step", _sum("part.dropped", "Records")),
    Panel(
        "table",
        "Steps",
        "lnsDatatable",
        (
            _terms("part.name", "Step", "sum", _TOP),
            _sum("part.records", "Received"),
            _sum("part.dropped", "Ended here", "dropped"),
            _sum("part.late", "Late", "late"),
        ),
    ),
)
_EVENTS = (
    Panel("events", "Events", "lnsMetric", (COUNT,)),
    Panel("newest", "Newest event", "lnsMetric", (_max(_TIME_FIELD, "Newest", "date"),)),
    _over_time("over-time", "Events over time", "event.action", "Event", COUNT),
    Panel(
        "connectors",
        "Events by connector",
        "lnsDatatable",
        (_terms("connector.name", "Connector", "count", _TOP), COUNT),
    ),
    Panel("states", "States", "lnsPie", (_terms("state.after", "State", "count"), COUNT)),
    Panel("kinds", "Kinds of events", "lnsPie", (_terms("kind", "Kind", "count"), COUNT)),
)
