"""Adds to an answer about running tasks what the other workers of the group know of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from headrace.errors import RetriableError
from headrace.groups.worker_requests import WorkerAnswer
from headrace.rest.handlers import RestRequest

_ONE = "/v1/connectors/{name}"
GATHERED = frozenset({f"{_ONE}/records", f"{_ONE}/progress", f"{_ONE}/freshness"})
LIST = "/connectors"

Ask = Callable[[str, str], WorkerAnswer]
"""Sends ``GET`` of a path with its query to the worker with a URL. Raises RetriableError."""


def completed(route: str, request: RestRequest, response: Response, workers: Iterable[str], ask: Ask) -> Response:
    """Return the response with the tasks of the other ``workers`` (URLs).

    ``unreachable`` of the answer names those that did not respond: their tasks are missing in it.
    """
    of_list = route == LIST and "progress" in request.query.getlist("expand")
    if response.status_code != 200 or request.method != "GET" or not (of_list or route in GATHERED):
        return response
    answer: dict[str, Any] = json.loads(bytes(response.body))
    unreachable = []
    pairs = [*((name, value) for name, value in request.query.multi_items() if name != "forward"), ("forward", "false")]
    for worker in sorted(workers):
        try:
            found = ask(worker, f"{request.url_path}?{urlencode(pairs)}")
        except RetriableError:
            unreachable.append(worker)
            continue
        if found.status != 200:  # it does not know the connector yet, or not any more
            continue
        if of_list:
            for name, entry in json.loads(found.body).items():
                if name in answer:
                    _add_tasks(answer[name]["progress"], entry["progress"])
        else:
            _add_tasks(answer, json.loads(found.body))
    if unreachable and not of_list:
        answer["unreachable"] = unreachable
    return JSONResponse(answer)


def _add_tasks(answer: dict[str, Any], other: dict[str, Any]) -> None:
    known = {task["id"] for task in answer["tasks"]}
    answer["tasks"] = sorted(
        [*answer["tasks"], *(task for task in other["tasks"] if task["id"] not in known)], key=lambda task: task["id"]
    )
