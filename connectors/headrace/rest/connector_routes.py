"""Routes below ``/connectors``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import HeadraceError, NotFoundError
from headrace.groups.signatures import require_signature
from headrace.rest import request_bodies, response_bodies
from headrace.rest.access import Role
from headrace.rest.handlers import RestRequest, bad_request, resource
from headrace.runtime.api import ConnectorInfo, WorkerApi
from headrace.runtime.group_api import WorkerGroupApi
from headrace.states import TargetState, TaskId

# Connect's text for connectors that do not store offsets in their own system.
_OFFSETS_CHANGED = (
    "The Connect framework-managed offsets for this connector have been {} successfully. However, if this connector "
    "manages offsets externally, they will need to be manually {} in the system that the connector uses."
)


class ConnectorRoutes:
    """Connectors, their tasks and offsets. Bodies and status codes are those of Kafka Connect 4."""

    def __init__(self, api: WorkerApi, group: WorkerGroupApi | None = None) -> None:
        """``group``: of which the worker is a member."""
        self._api = api
        self._group = group

    def routes(self) -> list[Route]:
        """Return the routes below ``/connectors``."""
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
            resource(f"{one}/topics/reset", put=self.reset_topics),
            resource(f"/v1{one}/records", get=self.records),
            resource(f"/v1{one}/progress", get=self.progress),
            resource(f"/v1{one}/freshness", get=self.freshness),
            resource(f"/v1{one}/conditions", get=self.conditions),
            resource(f"/v1{one}/acknowledge", post=self.acknowledge),
            resource(f"/v1{one}/reset", post=self.reset_stream),
            resource(f"{one}/tasks", get=self.tasks, post=self.put_tasks),
            resource(f"{one}/fence", put=self.fence),
            resource(f"{one}/tasks/{{task:int}}/status", get=self.task_status),
            resource(f"{one}/tasks/{{task:int}}/restart", post=self.restart_task),
        ]

    def list_connectors(self, request: RestRequest) -> Response:
        """Return names; with ``?expand=status``, ``info`` and/or ``progress`` (ours) a map of name to those."""
        if "expand" not in request.query:
            return JSONResponse(self._api.connectors())
        expand = request.query.getlist("expand")
        if "info" in expand:
            request.caller.require(Role.OPERATOR, "GET /connectors?expand=info, which shows configurations,")
        answer: dict[str, dict[str, Any]] = {}
        for name in self._api.connectors():
            try:
                answer[name] = self._expanded(name, expand)
            except NotFoundError:  # deleted since the names were read, or without a status yet: omitted, as in Connect
                continue
        return JSONResponse(answer)

    def _expanded(self, name: str, expand: list[str]) -> dict[str, Any]:
        entry: dict[str, Any] = {}
        if "status" in expand:
            entry["status"] = response_bodies.connector_status(self._api.status(name))
        if "info" in expand:
            entry["info"] = response_bodies.connector_info(self._api.info(name))
        if "progress" in expand:
            entry["progress"] = response_bodies.progress(name, self._api.progress(name))
        return entry

    def create(self, request: RestRequest) -> Response:
        """Return 201 with ``Location``; 409 when the name exists. ``initial_state`` is KIP-980."""
        name, config, state = request_bodies.creation(request.json_object())
        request.change.config(None, config)
        return _created(request, self._api.create(name, config, state))

    def info(self, request: RestRequest) -> Response:
        return JSONResponse(response_bodies.connector_info(self._api.info(request.path["name"])))

    def delete(self, request: RestRequest) -> Response:
        """Return 204. Offsets and topics are kept."""
        request.change.config(self._config(request.path["name"]), None)
        self._api.delete(request.path["name"])
        return Response(status_code=204)

    def config(self, request: RestRequest) -> Response:
        return JSONResponse(dict(self._api.info(request.path["name"]).config))

    def put_config(self, request: RestRequest) -> Response:
        """Return 201 when the connector was created, 200 when its configuration was replaced."""
        name = request.path["name"]
        config = request_bodies.named(request_bodies.config_map(request.json_object()), name)
        request.change.config(self._config(name), config)
        created, info = self._api.put_config(name, config)
        return _created(request, info) if created else JSONResponse(response_bodies.connector_info(info))

    def patch_config(self, request: RestRequest) -> Response:
        """Merge changes; null deletes a key (KIP-477)."""
        name, changes = request.path["name"], request_bodies.config_changes(request.json_object())
        if changes.get("name", name) != name:
            raise bad_request(f"the name of connector {name} cannot be changed", "create another, and delete this one")
        before = self._config(name) or {}
        request.change.config({key: before[key] for key in changes if key in before}, changes)
        return JSONResponse(response_bodies.connector_info(self._api.patch_config(name, changes)))

    # What was there before a change, for the audit line. The change itself reports what is wrong.
    def _config(self, name: str) -> Mapping[str, str] | None:
        try:
            return self._api.info(name).config
        except NotFoundError:
            return None

    def _state(self, name: str) -> str | None:
        try:
            return self._api.status(name).connector.state.value
        except NotFoundError:
            return None

    def _offsets(self, name: str) -> list[dict[str, Any]]:
        try:
            return self._api.offsets(name)
        except HeadraceError:
            return []

    def status(self, request: RestRequest) -> Response:
        return JSONResponse(response_bodies.connector_status(self._api.status(request.path["name"])))

    def restart(self, request: RestRequest) -> Response:
        """Restart the connector only: 204. With ``includeTasks`` or ``onlyFailed``: 202 and the plan (KIP-745)."""
        include_tasks, only_failed = request.flag("includeTasks"), request.flag("onlyFailed")
        planned = self._api.restart(request.path["name"], include_tasks=include_tasks, only_failed=only_failed)
        if not include_tasks and not only_failed:
            return Response(status_code=204)
        return JSONResponse(response_bodies.connector_status(planned), 202)

    def pause(self, request: RestRequest) -> Response:
        return self._target(request, TargetState.PAUSED, 202)

    def resume(self, request: RestRequest) -> Response:
        return self._target(request, TargetState.STARTED, 202)

    def stop(self, request: RestRequest) -> Response:
        return self._target(request, TargetState.STOPPED, 204)  # not 202: Connect's own difference (KIP-875)

    def _target(self, request: RestRequest, target: TargetState, answer: int) -> Response:
        name = request.path["name"]
        request.change.state(self._state(name), target.value)
        self._api.set_target_state(name, target)
        return Response(status_code=answer)

    def reset_stream(self, request: RestRequest) -> Response:
        """Reset a stopped stream application. The body is ``{"try": true or false}``; true changes nothing."""
        name, body = request.path["name"], request.json_object()
        dry = body.get("try", False)
        if not isinstance(dry, bool) or set(body) - {"try"}:
            raise bad_request('the body must be {"try": true or false}')
        request.change.state(None, {"action": "reset", "try": dry})
        reset = self._api.reset_stream(name, dry=dry)
        offsets = [
            {"topic": place.topic, "partition": place.partition, "before": before, "after": after}
            for place, (before, after) in reset.offsets.items()
        ]
        return JSONResponse({"try": dry, "offsets": offsets, "deleted_topics": list(reset.topics)})

    def offsets(self, request: RestRequest) -> Response:
        return JSONResponse({"offsets": self._api.offsets(request.path["name"])})

    def alter_offsets(self, request: RestRequest) -> Response:
        """Set offsets of a stopped connector; delete those that are null (KIP-875)."""
        name, changes = request.path["name"], request_bodies.offset_changes(request.json_object(numbers_as_text=False))
        partitions = [partition for partition, _ in changes]
        before = [item for item in self._offsets(name) if item["partition"] in partitions]
        request.change.state(before, [{"partition": partition, "offset": offset} for partition, offset in changes])
        self._api.alter_offsets(name, changes)
        return JSONResponse({"message": _OFFSETS_CHANGED.format("altered", "altered")})

    def reset_offsets(self, request: RestRequest) -> Response:
        """Delete all offsets of a stopped connector: it starts from the beginning (KIP-875)."""
        name = request.path["name"]
        request.change.state(self._offsets(name), [])
        self._api.reset_offsets(name)
        return JSONResponse({"message": _OFFSETS_CHANGED.format("reset", "reset")})

    def topics(self, request: RestRequest) -> Response:
        """Return the topics that the connector has used (KIP-558)."""
        name = request.path["name"]
        topics = self._api.topics(name)
        if topics is None:
            raise HTTPException(403, "Topic tracking is disabled.")
        return JSONResponse({name: {"topics": topics}})

    def reset_topics(self, request: RestRequest) -> Response:
        """Forget the topics that the connector has used; 202."""
        name = request.path["name"]
        if self._api.topics(name) is None:
            raise HTTPException(403, "Topic tracking is disabled.")
        if not self._api.reset_topics(name):
            raise HTTPException(403, "Topic tracking reset is disabled.")
        return Response(status_code=202)

    def conditions(self, request: RestRequest) -> Response:
        """Return the conditions that are not acknowledged."""
        name = request.path["name"]
        found = self._api.conditions(name)
        return JSONResponse({"name": name, "conditions": [asdict(condition) for condition in found]})

    def acknowledge(self, request: RestRequest) -> Response:
        """Acknowledge conditions: all, or with ``?code=`` those of one code; return them."""
        name = request.path["name"]
        removed = self._api.acknowledge(name, request.query.get("code"))
        request.change.state([condition.code for condition in removed], [])
        return JSONResponse({"name": name, "acknowledged": [asdict(condition) for condition in removed]})

    def records(self, request: RestRequest) -> Response:
        """Return what each running task has read, and the outcome of the records; ``balance`` is 0."""
        name = request.path["name"]
        return JSONResponse(response_bodies.records(name, self._api.records(name)))

    def progress(self, request: RestRequest) -> Response:
        """Return rate, lag, age of the newest record and dead letters of each running task."""
        name = request.path["name"]
        return JSONResponse(response_bodies.progress(name, self._api.progress(name)))

    def freshness(self, request: RestRequest) -> Response:
        """Return how old the data is at the hops of each running task."""
        name = request.path["name"]
        self._api.info(name)  # an unknown connector is 404
        return JSONResponse(response_bodies.freshness(name, self._api.freshness()))

    def put_tasks(self, request: RestRequest) -> Response:
        """Store the tasks that a connector has planned on another worker, which signs the request; 204."""
        self._require_worker(request)
        self._api.put_tasks(request.path["name"], request_bodies.task_configs(request.body))
        return Response(status_code=204)

    def fence(self, request: RestRequest) -> Response:
        """Fence the producers of earlier tasks of an exactly-once source, for a worker that signs the request; 204."""
        self._require_worker(request)
        self._api.fence(request.path["name"])
        return Response(status_code=204)

    def _require_worker(self, request: RestRequest) -> None:
        if self._group is None:
            raise bad_request("this worker is not a member of a group", "only workers of a group send this request")
        require_signature(self._group.session_key(), request.headers, request.body)

    def tasks(self, request: RestRequest) -> Response:
        return JSONResponse([response_bodies.task_info(task) for task in self._api.tasks(request.path["name"])])

    def task_status(self, request: RestRequest) -> Response:
        task = _task(request)
        status = self._api.status(task.connector).tasks.get(task.number)
        if status is None:
            raise NotFoundError(f"No status found for task {task}")
        return JSONResponse(response_bodies.task_state(task.number, status))

    def restart_task(self, request: RestRequest) -> Response:
        self._api.restart_task(_task(request))
        return Response(status_code=204)


def _task(request: RestRequest) -> TaskId:
    return TaskId(request.path["name"], int(request.path["task"]))


def _created(request: RestRequest, info: ConnectorInfo) -> Response:
    location = f"{request.base_url}/connectors/{quote(info.name, safe='')}"
    return JSONResponse(response_bodies.connector_info(info), 201, headers={"Location": location})
