"""Metrics of the worker for Prometheus (``/metrics``) and as JSON (``/v1/metrics``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.broker.client_traffic import ClientTraffic
from headrace.rest.connect_metrics import ConnectCollector
from headrace.rest.handlers import RestRequest, resource
from headrace.rest.prometheus_metrics import WorkerCollector
from headrace.runtime.api import WorkerApi


@dataclass(frozen=True)
class Exposition:
    """What ``/metrics`` exposes: the sets of names (``metrics.names``), and facts about the worker."""

    names: Collection[str] = ("headrace",)
    kafka_client: str = ""
    traffic: Callable[[], Sequence[ClientTraffic]] = lambda: ()


DEFAULT_EXPOSITION = Exposition()


class MetricsRoutes:
    """Metrics of the running tasks."""

    def __init__(self, api: WorkerApi, exposition: Exposition = DEFAULT_EXPOSITION) -> None:
        self._api = api
        self._registry = CollectorRegistry(auto_describe=False)
        if "headrace" in exposition.names:
            self._registry.register(WorkerCollector(api, exposition.kafka_client))
        if "kafka-connect" in exposition.names:
            self._registry.register(ConnectCollector(api, exposition.traffic))
        ProcessCollector(registry=self._registry)

    def routes(self) -> list[Route]:
        """``/metrics`` and ``/v1/metrics``."""
        return [resource("/metrics", get=self.prometheus), resource("/v1/metrics", get=self.json)]

    def prometheus(self, _: RestRequest) -> Response:
        """Prometheus' text format 0.0.4/1.0.0."""
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

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
