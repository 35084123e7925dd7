"""Route of ``headrace tap``, headrace's own: records of a running task as they pass a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import anyio
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.rest.handlers import RestRequest, bad_request, resource
from headrace.runtime.api import WorkerApi
from headrace.runtime.tap_view import TapQuery, TapView
from headrace.states import TaskId

_AT_ONCE = 4
"""Taps at the same time; they wait on threads of their own, so that they do not delay other requests."""
_LIMITS: Mapping[str, tuple[float, float, float]] = {
    "records": (1, 1_000, 10),
    "bytes": (1, 1_000_000, 100_000),
    "seconds": (0.1, 60, 10),
}
"""Least, most and default."""
_MOST_MASKED = 100


class TapRoutes:
    """Shows records of tasks. Roles that may not see contents of records have no access."""

    def __init__(self, api: WorkerApi) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        path = "/v1/connectors/{name}/tasks/{task:int}/tap"
        return [resource(path, limiter=anyio.CapacityLimiter(_AT_ONCE), post=self.tap)]

    def tap(self, request: RestRequest) -> Response:
        """Return the next records. The body is ``{"stage", "records", "bytes", "seconds", "mask"}``."""
        query = _query(request.json_object(numbers_as_text=False))
        task = TaskId(request.path["name"], int(request.path["task"]))
        request.change.state(None, {"action": "tap", "stage": query.stage, "mask": list(query.mask)})
        return JSONResponse(_body(task, query, self._api.tap(task, query)))


def _query(body: Mapping[str, Any]) -> TapQuery:
    if unknown := sorted(body.keys() - {"stage", "mask", *_LIMITS}):
        raise bad_request(f"unknown field '{unknown[0]}'", f"known: stage, mask, {', '.join(_LIMITS)}")
    stage, mask = body.get("stage"), body.get("mask", [])
    if not isinstance(stage, str):
        raise bad_request("'stage' must be the name of a stage", "for example written")
    if not isinstance(mask, list) or len(mask) > _MOST_MASKED or not all(isinstance(item, str) for item in mask):
        raise bad_request(f"'mask' must be a list of at most {_MOST_MASKED} names of fields")
    records, size, seconds = (_number(name, body.get(name)) for name in _LIMITS)
    return TapQuery(stage, int(records), int(size), seconds, tuple(mask))


def _number(name: str, given: Any) -> float:
    least, most, default = _LIMITS[name]
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not least <= given <= most:
        raise bad_request(f"'{name}' must be a number from {least:g} to {most:g}")
    return float(given)


def _body(task: TaskId, query: TapQuery, found: TapView) -> dict[str, Any]:
    records = [
        {**asdict(record), "headers": [{"name": name, "value": value} for name, value in record.headers]}
        for record in found.records
    ]
    return {
        "name": task.connector,
        "task": task.number,
        "stage": query.stage,
        "seconds": query.seconds,
        "records": records,
        "left_out": found.left_out,
    }
