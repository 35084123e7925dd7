"""Sends the requests of the contract to a worker, and makes its answers comparable."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.golden.connect.requests import Request, Settled, requests

FILE = Path(__file__).parent / "answers.jsonl"
"""One answer a line, in the order of the requests."""

Answer = dict[str, Any]

_HEADERS = ("allow", "content-type", "location")
_TIMEOUT = 20.0
_LOOK = 0.02
# Members that differ from run to run, or are too long to store.
_REPLACED = {
    "worker_id": "WORKER", "trace": "TRACE", "kafka_cluster_id": "CLUSTER", "commit": "COMMIT", "last_modified": 0,
    "since": 0,
}  # fmt: skip
_LEFT_OUT = {"documentation", "since"}
# A worker that is between two states: the same request is sent again until it has settled. Kafka Connect says so with
# 409, headrace with 503.
_TEMPORARY = {
    409: re.compile("rebalance|stale configuration|momentarily|no known leader", re.IGNORECASE),
    503: re.compile("still stopping|it has members"),
}


def ask(url: str, folder: Path) -> Iterator[tuple[Request, Answer]]:
    """Send each request to the worker at ``url`` and yield its normalised answer."""
    # A connection for each request: the JVM closes those whose body it did not read.
    with httpx.Client(base_url=url, timeout=_TIMEOUT, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        for request in requests():
            if request.after is not None:
                _wait(client, request.after)
            yield request, _normalised(_send(client, request, folder), request, url, folder)


def stored() -> list[Answer]:
    """Return the recorded answers, each with its ``request``."""
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def as_line(request: Request, answer: Answer) -> str:
    return json.dumps({"request": request.title, **answer}, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _send(client: httpx.Client, request: Request, folder: Path) -> httpx.Response:
    body = request.body.replace("{folder}", str(folder)) if request.body is not None else None
    headers = {"Content-Type": request.content_type} if body is not None else {}
    deadline = time.monotonic() + _TIMEOUT
    while True:
        answer = client.request(request.method, request.path, content=body, headers=headers)
        temporary = _TEMPORARY.get(answer.status_code)
        if temporary is None or not temporary.search(answer.text) or time.monotonic() > deadline:
            return answer
        time.sleep(_LOOK)


def _wait(client: httpx.Client, wanted: Settled) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not _is_settled(client, wanted):
        if time.monotonic() > deadline:
            status = client.get(f"/connectors/{quote(wanted.connector)}/status").text
            raise TimeoutError(f"{wanted} is not reached: {status[:2000]}")
        time.sleep(_LOOK)


def _is_settled(client: httpx.Client, wanted: Settled) -> bool:
    answer = client.get(f"/connectors/{quote(wanted.connector)}/status")
    if answer.status_code == 404:
        return not wanted.state
    if answer.status_code != 200:
        return False
    status = answer.json()
    tasks = [task["state"] for task in status["tasks"]]
    connector = "RUNNING" if wanted.state == "FAILED" else wanted.state  # only the tasks fail
    count = len(tasks) if wanted.tasks is None else wanted.tasks
    return bool(status["connector"]["state"] == connector and tasks == [wanted.state] * count)


def _normalised(answer: httpx.Response, request: Request, url: str, folder: Path) -> Answer:
    text = answer.text.replace(url, "http://WORKER").replace(str(folder), "{folder}")
    try:
        body = _comparable(json.loads(text), request.full)
    except ValueError:
        body = text
    headers = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
    if "location" in headers:
        headers["location"] = headers["location"].replace(url, "http://WORKER")
    if "allow" in headers:
        headers["allow"] = ",".join(sorted(item.strip() for item in headers["allow"].split(",")))
    return {"status": answer.status_code, "headers": headers, "body": body}


def _comparable(value: Any, full: bool) -> Any:
    if isinstance(value, list):
        if value and all(isinstance(item, dict) and "definition" in item and "value" in item for item in value):
            return _validated(value, full)
        if value and all(isinstance(item, dict) and "default_value" in item for item in value):
            return {item["name"]: _comparable(item, full) for item in value} if full else "definitions"
        return [_comparable(item, full) for item in value]
    if isinstance(value, dict):
        return {
            name: _REPLACED[name] if name in _REPLACED and inner is not None else _comparable(inner, full)
            for name, inner in value.items()
            if name not in _LEFT_OUT
        }
    return value


def _validated(configs: list[Any], full: bool) -> dict[str, Any]:
    """Return validated keys by name: all of them with their definitions, or the errors and values of those with any."""
    if full:
        return {item["value"]["name"]: _comparable(item, full) for item in configs}
    return {
        item["value"]["name"]: {"errors": item["value"]["errors"], "value": item["value"]["value"]}
        for item in configs
        if item["value"]["errors"]
    }
