"""Forwards requests to the worker of the group that can answer them: the leader, or the worker that has a task.

Status codes, texts and the parameter ``forward`` are Kafka Connect's: a request is forwarded at most twice.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from starlette.responses import Response

from headrace.errors import ConflictError, RetriableError
from headrace.groups.protocol import Unit
from headrace.groups.signatures import ALGORITHM, AUTHORIZATION
from headrace.groups.worker_requests import WorkerAnswer, send_to_worker
from headrace.rest.gathering import completed
from headrace.rest.handlers import RestRequest, error_response
from headrace.rest.state_gathering import STATE, answered
from headrace.runtime.group_api import WorkerGroupApi

_ONE = "/connectors/{name}"
_QUEUE = f"/v1{_ONE}/dead-letters"
LEADER: frozenset[tuple[str, str]] = frozenset(
    {
        ("POST", "/connectors"),
        ("DELETE", _ONE),
        ("PUT", f"{_ONE}/config"),
        ("PATCH", f"{_ONE}/config"),
        ("POST", f"{_ONE}/restart"),
        ("PUT", f"{_ONE}/pause"),
        ("PUT", f"{_ONE}/resume"),
        ("PUT", f"{_ONE}/stop"),
        ("PATCH", f"{_ONE}/offsets"),
        ("DELETE", f"{_ONE}/offsets"),
        ("POST", f"{_ONE}/tasks"),
        ("PUT", f"{_ONE}/fence"),
        ("POST", f"/v1{_ONE}/reset"),
        # Jobs are kept in the memory of one worker.
        ("GET", _QUEUE),
        ("GET", f"{_QUEUE}/letters"),
        ("POST", f"{_QUEUE}/retry"),
        ("POST", f"{_QUEUE}/discard"),
        ("GET", f"{_QUEUE}/job"),
    }
)
"""What only the leader does: it writes the config topic, and keeps tasks from starting while offsets change."""
OWNER = frozenset({("POST", f"{_ONE}/tasks/{{task:int}}/restart"), ("POST", f"/v1{_ONE}/tasks/{{task:int}}/tap")})
"""What the worker that runs the task does."""
ANY_TASK = frozenset({("POST", "/v1/streams/{name}/decide"), ("GET", STATE)})
"""What a worker answers from its own tasks of an application."""
PROBES = frozenset({"/health", "/health/live", "/health/ready"})
ALWAYS = PROBES | {"/", "/v1/workers", "/metrics", "/v1/metrics", "/admin/loggers", "/admin/loggers/{logger}"}
"""What a worker answers before it has joined its group."""

NO_LEADER = "Cannot complete request momentarily due to no known leader URL, likely because a rebalance was underway."
_CONFLICT = "Cannot complete request because of a conflicting operation (e.g. worker rebalance)"
_GATHER_TIMEOUT = 3.0
"""Seconds: a worker that does not respond is left out of answers about all tasks."""
_FORWARDED = ("Authorization", "Content-Type", AUTHORIZATION, ALGORITHM)
_RETURNED = ("content-type", "location", "www-authenticate", "retry-after")


class GroupForwarding:
    """Decides for each request which worker answers it. Its methods may block."""

    def __init__(self, group: WorkerGroupApi) -> None:
        self._group = group

    def respond(self, route: str, request: RestRequest) -> Response | None:
        """Return the response of another worker; None when this one answers. Raise ConflictError, RetriableError."""
        if route in ALWAYS:
            return None
        if (reason := self._group.not_ready()) is not None:
            raise RetriableError(f"the worker is starting: {reason}", code="worker.starting", hint="try again")
        target = self._target(route, request)
        return None if target is None else self._forward(target, request)

    def completed(self, route: str, request: RestRequest, response: Response) -> Response:
        """Return this worker's response with the tasks that other workers run."""
        if request.query.get("forward", "").strip().lower() == "false":
            return response  # another worker gathers

        def ask(worker: str, path: str) -> WorkerAnswer:
            headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
            url = worker.rstrip("/") + path
            return send_to_worker("GET", url, b"", headers, self._group.tls, timeout=_GATHER_TIMEOUT)

        if route == STATE:
            workers = self._group.workers_of(request.path["name"])
            others = [url for worker, url in workers.items() if worker != self._group.me]
            return answered(request, response, others, ask)
        return completed(route, request, response, self._group.others_with_tasks(), ask)

    def _target(self, route: str, request: RestRequest) -> str | None:
        if (request.method, route) in OWNER:
            unit = Unit(request.path["name"], int(request.path["task"]))
            if self._group.owns(unit):
                return None
            if self._group.leads():
                return self._group.owner_url(unit)  # unknown: this worker says that there is no such task
        elif (request.method, route) in ANY_TASK:
            workers = self._group.workers_of(request.path["name"])
            return None if self._group.me in workers else next(iter(workers.values()), None)
        elif (request.method, route) not in LEADER or self._group.leads():
            return None
        leader = self._group.leader_url()
        if leader is None:
            raise ConflictError(NO_LEADER, code="group.no_leader", hint="try again in a moment")
        return leader

    def _forward(self, target: str, request: RestRequest) -> Response:
        forwarded = request.query.get("forward")
        if forwarded is not None and forwarded.strip().lower() != "true":
            raise ConflictError(_CONFLICT, code="group.rebalance", hint="try again in a moment")
        pairs = [(name, value) for name, value in request.query.multi_items() if name != "forward"]
        pairs.append(("forward", "true" if forwarded is None else "false"))
        url = f"{target.rstrip('/')}{request.url_path}?{urlencode(pairs)}"
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        try:
            answer = send_to_worker(request.method, url, request.body, headers, self._group.tls)
        except RetriableError as error:
            return error_response(500, f"IO Error trying to forward REST request: {error}", code=error.code)
        kept = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
        if "location" in kept:
            kept["location"] = request.base_url + urlsplit(kept["location"]).path
        return Response(answer.body, answer.status, kept)
