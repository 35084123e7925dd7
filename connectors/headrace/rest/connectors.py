"""Routes below ``/connectors``."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import NotFoundError
from headrace.rest import bodies, views
from headrace.rest.calls import Call, bad_request, resource
from headrace.runtime.api import ConnectorInfo, WorkerApi
from headrace.states import TargetState, TaskId

# Connect's words for connectors that do not store positions elsewhere by themselves.
_OFFSETS_CHANGED = (
    "The Connect framework-managed offsets for this connector have been {} successfully. However, if this connector "
    "manages offsets externally, they will need to be manually altered in the system that the connector uses."
)


class ConnectorRoutes:
    """Connectors, their tasks and positions. Answers and status codes are those of Kafka Connect 4."""

    def __init__(self, api: WorkerApi) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        """Every path below ``/connectors``."""
        one = "/connectors/{name}"
        return [
            resource("/connectors", get=self.list_connectors, post=self.create),
            resource(one, get=self.info, delete=self.delete),
            resource(f"{one}/config", get=self.config, put=self.put_config, patch=self.patch_config),
            resource(f"{one}/status", get=self.status),
            resource(f"{one}/restart", post=self.restart),
            resource(f"{one}/pause", put=self.pause),
            resource(f"{one}/resume", put=self.resume),
            resource(f"{one}/stop", put=self.stop),
            resource(f"{one}/offsets", get=self.offsets, patch=self.alter_offsets, delete=self.reset_offsets),
            resource(f"{one}/topics", get=self.topics),
            resource(f"{one}/topics/reset", put=self.topics),
            resource(f"{one}/tasks", get=self.tasks),
            resource(f"{one}/tasks/{{task:int}}/status", get=self.task_status),
            resource(f"{one}/tasks/{{task:int}}/restart", post=self.restart_task),
        ]

    def list_connectors(self, call: Call) -> Response:
        """Names; with ``?expand=status`` and/or ``?expand=info`` a map of name to those."""
        if "expand" not in call.query:
            return JSONResponse(self._api.connectors())
        expand = call.query.getlist("expand")
        answer: dict[str, dict[str, Any]] = {}
        for name in self._api.connectors():
            try:
                answer[name] = self._expanded(name, expand)
            except NotFoundError:  # deleted since the names were read, or no status yet: left out, as in Connect
                continue
        return JSONResponse(answer)

    def _expanded(self, name: str, expand: list[str]) -> dict[str, Any]:
        entry: dict[str, Any] = {}
        if "status" in expand:
            entry["status"] = views.connector_status(self._api.status(name))
        if "info" in expand:
            entry["info"] = views.connector_info(self._api.info(name))
        return entry

    def create(self, call: Call) -> Response:
        """201 with ``Location``; 409 when the name is taken. ``initial_state`` is KIP-980."""
        name, config, state = bodies.creation(call.json_object())
        return _created(self._api.create(name, config, state))

    def info(self, call: Call) -> Response:
        return JSONResponse(views.connector_info(self._api.info(call.path["name"])))

    def delete(self, call: Call) -> Response:
        """204; positions and topics are left alone."""
        self._api.delete(call.path["name"])
        return Response(status_code=204)

    def config(self, call: Call) -> Response:
        return JSONResponse(dict(self._api.info(call.path["name"]).config))

    def put_config(self, call: Call) -> Response:
        """201 when it was created, 200 when it was replaced."""
        name = call.path["name"]
        created, info = self._api.put_config(name, bodies.named(bodies.config_map(call.json_object()), name))
        return _created(info) if created else JSONResponse(views.connector_info(info))

    def patch_config(self, call: Call) -> Response:
        """Merges; null deletes a key (KIP-477)."""
        name, changes = call.path["name"], bodies.config_changes(call.json_object())
        if changes.get("name", name) != name:
            raise bad_request(f"the name of connector {name} cannot be changed", "create another, and delete this one")
        return JSONResponse(views.connector_info(self._api.patch_config(name, changes)))

    def status(self, call: Call) -> Response:
        return JSONResponse(views.connector_status(self._api.status(call.path["name"])))

    def restart(self, call: Call) -> Response:
        """The connector alone: 204. With ``includeTasks`` or ``onlyFailed``: 202 and the plan (KIP-745)."""
        include_tasks, only_failed = call.flag("includeTasks"), call.flag("onlyFailed")
        planned = self._api.restart(call.path["name"], include_tasks=include_tasks, only_failed=only_failed)
        if not include_tasks and not only_failed:
            return Response(status_code=204)
        return JSONResponse(views.connector_status(planned), 202)

    def pause(self, call: Call) -> Response:
        return self._target(call, TargetState.PAUSED, 202)

    def resume(self, call: Call) -> Response:
        return self._target(call, TargetState.STARTED, 202)

    def stop(self, call: Call) -> Response:
        return self._target(call, TargetState.STOPPED, 204)  # not 202: Connect's own difference (KIP-875)

    def _target(self, call: Call, target: TargetState, answer: int) -> Response:
        self._api.set_target_state(call.path["name"], target)
        return Response(status_code=answer)

    def offsets(self, call: Call) -> Response:
        return JSONResponse({"offsets": self._api.offsets(call.path["name"])})

    def alter_offsets(self, call: Call) -> Response:
        """Positions of a stopped connector are set, or forgotten where the offset is null (KIP-875)."""
        self._api.alter_offsets(call.path["name"], bodies.offset_changes(call.json_object(numbers_as_text=False)))
        return JSONResponse({"message": _OFFSETS_CHANGED.format("altered")})

    def reset_offsets(self, call: Call) -> Response:
        """All positions of a stopped connector are forgotten: it begins anew."""
        self._api.reset_offsets(call.path["name"])
        return JSONResponse({"message": _OFFSETS_CHANGED.format("reset")})

    def topics(self, _: Call) -> Response:
        """Connect's answer of a worker with ``topic.tracking.enable=false``: headrace does not track topics."""
        raise HTTPException(403, "Topic tracking is disabled.")

    def tasks(self, call: Call) -> Response:
        return JSONResponse([views.task_info(task) for task in self._api.tasks(call.path["name"])])

    def task_status(self, call: Call) -> Response:
        task = _task(call)
        status = self._api.status(task.connector).tasks.get(task.number)
        if status is None:
            raise NotFoundError(f"No status found for task {task}")
        return JSONResponse(views.task_state(task.number, status))

    def restart_task(self, call: Call) -> Response:
        self._api.restart_task(_task(call))
        return Response(status_code=204)


def _task(call: Call) -> TaskId:
    return TaskId(call.path["name"], int(call.path["task"]))


def _created(info: ConnectorInfo) -> Response:
    location = f"/connectors/{quote(info.name, safe='')}"
    return JSONResponse(views.connector_info(info), 201, headers={"Location": location})
