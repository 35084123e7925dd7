"""Counters and states for Prometheus (``/metrics``) and as JSON (``/v1/metrics``)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import NotFoundError
from headrace.metrics import DESCRIPTIONS, PART_DESCRIPTIONS
from headrace.rest.handlers import RestRequest, resource
from headrace.runtime.api import ConnectorStatus, WorkerApi
from headrace.states import State

GAUGES = frozenset(
    {
        "source_record_active_count",
        "source_record_remaining",
        "sink_record_active_count",
        "sink_record_lag",
        "sink_record_age_ms",
        "stream_record_active_count",
        "stream_record_lag",
        "stream_state_entries",
        "last_record_timestamp_ms",
        "newest_record_timestamp_ms",
    },
)
"""Metrics that go up and down; all others are counters."""


class MetricsRoutes:
    """Metrics of the running tasks."""

    def __init__(self, api: WorkerApi) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        """``/metrics`` and ``/v1/metrics``."""
        return [resource("/metrics", get=self.prometheus), resource("/v1/metrics", get=self.json)]

    def prometheus(self, _: RestRequest) -> Response:
        """Prometheus' text format 0.0.4/1.0.0."""
        return Response(generate_latest(WorkerCollector(self._api)), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def json(self, _: RestRequest) -> Response:
        """``{"tasks": [{"connector", "task", "metrics": {name: int}, "parts": {part: {name: int}}}]}``."""
        tasks = sorted(self._api.metrics().items())
        parts = self._api.part_metrics()
        shown = [
            {"connector": task.connector, "task": task.number, "metrics": dict(values)}
            | ({"parts": parts[task]} if parts.get(task) else {})
            for task, values in tasks
        ]
        return JSONResponse({"tasks": shown})


class WorkerCollector(Collector):
    """Reads the worker once per scrape. It keeps no state, so that ended tasks leave no stale series."""

    def __init__(self, api: WorkerApi) -> None:
        self._api = api

    def collect(self) -> Iterator[Metric]:
        """``headrace_<name>{connector,task}`` and one 0/1 series per possible state (as a Prometheus state set)."""
        yield from self._counters()
        yield from self._parts()
        yield from self._states()

    def _counters(self) -> Iterator[Metric]:
        tasks = sorted(self._api.metrics().items())
        for name, description in DESCRIPTIONS.items():
            metric = _metric(name, description)
            for task, values in tasks:
                if name in values:
                    labels = {"connector": task.connector, "task": str(task.number)}
                    metric.add_sample(f"headrace_{name}", labels, values[name])
            yield metric

    def _parts(self) -> Iterator[Metric]:
        tasks = sorted(self._api.part_metrics().items())
        for name, description in PART_DESCRIPTIONS.items():
            labels = ("connector", "task", "part")
            metric = GaugeMetricFamily(f"headrace_{name}", description, labels=labels)
            for task, parts in tasks:
                for part, values in sorted(parts.items()):
                    if name in values:
                        metric.add_metric((task.connector, str(task.number), part), values[name])
            if metric.samples:
                yield metric

    def _states(self) -> Iterator[Metric]:
        connectors = GaugeMetricFamily(
            "headrace_connector_state", "1 for the state the connector is in, else 0.", labels=("connector", "state")
        )
        tasks = GaugeMetricFamily(
            "headrace_task_state", "1 for the state the task is in, else 0.", labels=("connector", "task", "state")
        )
        for status in self._statuses():
            for state in State:
                connectors.add_metric((status.name, state.value), status.connector.state is state)
                for number, task in sorted(status.tasks.items()):
                    tasks.add_metric((status.name, str(number), state.value), task.state is state)
        yield connectors
        yield tasks

    def _statuses(self) -> Iterator[ConnectorStatus]:
        for name in self._api.connectors():
            try:
                yield self._api.status(name)
            except NotFoundError:  # deleted since the names were read
                continue


def _metric(name: str, description: str) -> Metric:
    if name in GAUGES:
        return Metric(f"headrace_{name}", description, "gauge")
    if name.endswith("_total"):
        return Metric(f"headrace_{name.removesuffix('_total')}", description, "counter")
    # Prometheus wants counters to end in _total; Connect's names that do not are kept, and declared untyped.
    return Metric(f"headrace_{name}", description, "unknown")
