"""Requests of a worker to another worker of its group."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import httpx
import orjson

from headrace.errors import CommandError, HeadraceError, RetriableError
from headrace.groups.signatures import signed_headers
from headrace.stores.config_fold import SessionKey

USER_AGENT = "kafka-connect"
"""As Kafka Connect's workers call themselves."""
_CONNECT_TIMEOUT = 5.0
_TIMEOUT = 100.0
"""Seconds; a worker itself responds within 90."""


class WorkerAnswer(NamedTuple):
    """The response of another worker, as it was received."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send_to_worker(
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None,
    *,
    timeout: float = _TIMEOUT,
) -> WorkerAnswer:
    """Send a request. Raise RetriableError when the worker cannot be reached or does not respond."""
    try:
        response = httpx.request(
            method,
            url,
            content=body or None,
            headers={**headers, "User-Agent": USER_AGENT},
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
            trust_env=False,  # a worker is not reached through the proxies of the environment
            verify=(tls or True) if url.startswith("https:") else False,  # a context takes 30 ms of CPU time
        )
    except httpx.HTTPError as error:
        raise RetriableError(
            f"cannot reach the worker at {url.partition('?')[0]}: {error}",
            code="group.worker_unreachable",
            hint="if it runs, set rest.advertised.host.name and listeners of that worker so that others reach it",
        ) from error
    return WorkerAnswer(response.status_code, response.headers, response.content)


def send_tasks(
    leader: str, key: SessionKey, connector: str, tasks: Sequence[Mapping[str, str]], tls: ssl.SSLContext | None
) -> None:
    """Send the task configurations of a connector to the leader, which stores them. Raise HeadraceError."""
    body = orjson.dumps([dict(task) for task in tasks])
    url = f"{leader.rstrip('/')}/connectors/{quote(connector, safe='')}/tasks"
    headers = {"Content-Type": "application/json", **signed_headers(key, body)}
    answer = send_to_worker("POST", url, body, headers, tls)
    if answer.status < 300:
        return
    text = f"the leader {leader} answered {answer.status} to the tasks of {connector}: {_message(answer.body)}"
    error: type[HeadraceError] = CommandError if answer.status in (400, 404) else RetriableError
    raise error(text, code="group.tasks_refused")


def send_fencing(leader: str, key: SessionKey, connector: str, tls: ssl.SSLContext | None) -> None:
    """Ask the leader to fence the producers of earlier tasks of a connector (KIP-618). Raise RetriableError."""
    url = f"{leader.rstrip('/')}/connectors/{quote(connector, safe='')}/fence"
    answer = send_to_worker("PUT", url, b"", signed_headers(key, b""), tls)
    if answer.status >= 300:
        text = f"the leader {leader} answered {answer.status} to the fencing of {connector}: {_message(answer.body)}"
        raise RetriableError(text, code="group.fencing_refused")


def _message(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
