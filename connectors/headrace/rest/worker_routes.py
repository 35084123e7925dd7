"""Routes about the worker itself: version, health, loggers."""

from __future__ import annotations

import importlib.metadata

import anyio
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import NotFoundError
from headrace.rest import log_levels
from headrace.rest.handlers import RestRequest, bad_request, resource
from headrace.rest.response_bodies import workers_body
from headrace.runtime.api import WorkerApi
from headrace.runtime.group_api import WorkerGroupApi

HEALTH_STATUS = {"healthy": 200, "starting": 503, "unhealthy": 500}
"""KIP-1017."""


class WorkerRoutes:
    """Version, health and log levels of the worker."""

    def __init__(
        self, api: WorkerApi, group: WorkerGroupApi | None = None, levels: log_levels.LogLevels | None = None
    ) -> None:
        """``group``: of which the worker is a member. ``levels``: of this worker's loggers."""
        self._api = api
        self._group = group
        self._loggers = levels or log_levels.LogLevels()

    def routes(self) -> list[Route]:
        """``/``, the probes, the workers of the group, and ``/admin/loggers``."""
        probes = anyio.CapacityLimiter(2)
        return [
            resource("/", get=self.root),
            resource("/health", limiter=probes, get=self.health),
            resource("/health/ready", limiter=probes, get=self.health),
            resource("/health/live", limiter=probes, get=self.liveness),
            resource("/v1/workers", get=self.workers),
            resource("/admin/loggers", get=self.loggers),
            resource("/admin/loggers/{logger}", get=self.logger, put=self.set_level),
        ]

    def root(self, _: RestRequest) -> Response:
        """``version`` is headrace's own; ``commit`` is ``unknown`` as in Connect's unreleased builds."""
        version = importlib.metadata.version("headrace")
        answer = {"version": version, "commit": "unknown", "kafka_cluster_id": self._api.cluster_id()}
        return JSONResponse(answer)

    def health(self, _: RestRequest) -> Response:
        health = self._api.health()
        return JSONResponse({"status": health.status, "message": health.message}, HEALTH_STATUS[health.status])

    def liveness(self, _: RestRequest) -> Response:
        health = self._api.liveness()
        return JSONResponse({"status": health.status, "message": health.message}, HEALTH_STATUS[health.status])

    def workers(self, _: RestRequest) -> Response:
        """Return the workers of the group, and what is wrong with its setup. Raise NotFoundError without a group."""
        if self._group is None:
            raise NotFoundError("this worker is standalone", hint="set group.id and the three topics of a worker group")
        return JSONResponse(workers_body(self._group.view()))

    def loggers(self, _: RestRequest) -> Response:
        return JSONResponse(self._loggers.all())

    def logger(self, request: RestRequest) -> Response:
        return JSONResponse(self._loggers.one(request.path["logger"]))

    def set_level(self, request: RestRequest) -> Response:
        """Return 200 with the names of the changed loggers; 204 with ``?scope=cluster``."""
        level = request.json_object().get("level")
        if not isinstance(level, str):
            raise bad_request("Desired 'level' parameter was not specified in request.")
        before = self._loggers.all().get(request.path["logger"], {}).get("level")
        changed = self._loggers.set_level(request.path["logger"], level)
        request.change.state(before, level)
        if request.query.get("scope", "").lower() == "cluster":
            if self._group is not None:
                self._group.put_logger_level(request.path["logger"], level)
            return Response(status_code=204)
        return JSONResponse(changed)
