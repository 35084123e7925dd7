"""Answers queries of the state of a stream application from the worker of a group that owns the key.

Which partition has a key is known to the producers of a topic only, so every worker that runs tasks of the application
looks into the partitions that its tasks have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from headrace.errors import RetriableError
from headrace.rest.gathering import Ask
from headrace.rest.handlers import RestRequest, error_response
from headrace.runtime.stream_state_queries import no_entry

STATE = "/v1/streams/{name}/state/{store}/{key}"


def answered(request: RestRequest, response: Response, workers: Iterable[str], ask: Ask) -> Response:
    """Return the response of the worker that has the key, else why none has it. ``workers``: the others (URLs).

    ``response``: of this worker's own tasks.
    """
    others = sorted(workers)
    if response.status_code not in (409, 503) or not others:
        return response
    store = request.path["store"]
    looked = _LookedInto()
    looked.add("this worker", json.loads(bytes(response.body)))
    for worker in others:
        try:
            found = ask(worker, f"{request.url_path}?forward=false")
        except RetriableError as error:
            looked.unanswered.append(error.message)
            continue
        if found.status == 200:
            return Response(found.body, media_type="application/json")
        looked.add(worker, json.loads(found.body))
    if looked.everything():
        missing = no_entry(store)
        return error_response(missing.http_status, str(missing), code=missing.code)
    text = f"no worker that answers has this key of store '{store}': {looked.lacking()} → try again in a moment"
    return error_response(503, text, {"Retry-After": "1"}, code="stream.no_answer")


@dataclass
class _LookedInto:
    """The partitions of a store that were looked into, and the workers that could not look."""

    partitions: set[int] = field(default_factory=set)
    total: int = 0
    unanswered: list[str] = field(default_factory=list)

    def add(self, worker: str, body: dict[str, Any]) -> None:
        """Add the answer of a worker that has no entry of the key."""
        if "partitions" in body:
            self.partitions |= set(body["partitions"])
            self.total = max(self.total, body["of"])
        else:
            self.unanswered.append(f"{worker}: {body.get('message', 'no answer')}")

    def everything(self) -> bool:
        return bool(self.total) and self.partitions >= set(range(self.total))

    def lacking(self) -> str:
        """Return what was not looked into, and why."""
        missing = ", ".join(map(str, sorted(set(range(self.total)) - self.partitions)))
        rebalance = f"partitions {missing} have no task, because the group is being rebalanced"
        return "; ".join(self.unanswered) or rebalance
