"""Requests to engines and workers over plain HTTP."""

from __future__ import annotations

import httpx

from tests.engines.canaries import REST_TOKEN

WORKER_PORTS: set[int] = set()
"""Ports of workers that require :data:`REST_TOKEN`. Requests to engines do not have it."""


def _log_in(request: httpx.Request) -> None:
    if request.url.port in WORKER_PORTS:
        request.headers.setdefault("Authorization", f"Bearer {REST_TOKEN}")


HTTP = httpx.Client(
    limits=httpx.Limits(max_keepalive_connections=0), timeout=60, event_hooks={"request": [_log_in], "response": []}
)
"""``httpx.get`` creates a client, and with it a TLS context, for each request: 20 ms of CPU time in loops that wait.
A connection is not used twice, because tests kill the servers that it leads to."""
