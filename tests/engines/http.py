"""Requests to engines and workers over plain HTTP."""

from __future__ import annotations

import httpx

HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=60)
"""``httpx.get`` creates a client, and with it a TLS context, for each request: 20 ms of CPU time in loops that wait.
A connection is not used twice, because tests kill the servers that it leads to."""
