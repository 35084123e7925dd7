"""Routes about the worker itself: version, health, loggers."""

from __future__ import annotations

import importlib.metadata

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.rest import loggers
from headrace.rest.calls import Call, bad_request, resource
from headrace.runtime.api import WorkerApi

HEALTH_STATUS = {"healthy": 200, "starting": 503, "unhealthy": 500}
"""KIP-1017."""


class WorkerRoutes:
    """What the worker is, how it is, how much it says."""

    def __init__(self, api: WorkerApi) -> None:
        self._api = api
        self._loggers = loggers.Loggers()

    def routes(self) -> list[Route]:
        """``/``, ``/health`` and ``/admin/loggers``."""
        return [
            resource("/", get=self.root),
            resource("/health", get=self.health),
            resource("/admin/loggers", get=self.loggers),
            resource("/admin/loggers/{logger}", get=self.logger, put=self.set_level),
        ]

    def root(self, _: Call) -> Response:
        """``version`` is headrace's own; ``commit`` is ``unknown`` as in Connect's unreleased builds."""
        version = importlib.metadata.version("headrace")
        answer = {"version": version, "commit": "unknown", "kafka_cluster_id": self._api.cluster_id()}
        return JSONResponse(answer)

    def health(self, _: Call) -> Response:
        health = self._api.health()
        return JSONResponse({"status": health.status, "message": health.message}, HEALTH_STATUS[health.status])

    def loggers(self, _: Call) -> Response:
        return JSONResponse(self._loggers.all())

    def logger(self, call: Call) -> Response:
        return JSONResponse(self._loggers.one(call.path["logger"]))

    def set_level(self, call: Call) -> Response:
        """200 with the names it changed; 204 with ``?scope=cluster`` (this worker is all of the cluster it knows)."""
        level = call.json_object().get("level")
        if not isinstance(level, str):
            raise bad_request("Desired 'level' parameter was not specified in request.")
        changed = self._loggers.set_level(call.path["logger"], level)
        if call.query.get("scope", "").lower() == "cluster":
            return Response(status_code=204)
        return JSONResponse(changed)
