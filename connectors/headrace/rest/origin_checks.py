"""Protects the REST API from web pages: only known host names, and writes of browsers only from the same origin.

A page of any site can send requests to a worker on the user's machine, and by DNS rebinding even read the answers under
a name of its own. Neither passes these checks. Programs that are no browsers send no ``Origin`` and are not affected.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.rest.handlers import error_response

ANY = "*"
_READS = ("GET", "HEAD", "OPTIONS")


class HostCheck:
    """ASGI middleware: answers 421 when the host that a client has addressed is not one of this worker.

    IP addresses are always accepted, because DNS rebinding needs a name; ``localhost`` always means this machine.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = {name.lower().rstrip(".") for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._accepts(host := Headers(scope=scope).get("host", "")):
            text = f"this worker is not known as {host[:100]!r}"
            hint = "use its IP address, or add the name to rest.allowed.hosts in the worker's file"
            await error_response(421, f"{text} → {hint}", code="rest.unknown_host")(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _accepts(self, host: str) -> bool:
        if not host or ANY in self._names:
            return True  # browsers always send the header
        name = _name(host)
        return name == "localhost" or name.endswith(".localhost") or name in self._names or _is_address(name)


class WriteOriginCheck:
    """ASGI middleware: answers 403 to writes that a web page of another origin sends through a user's browser.

    ``origins`` and ``methods`` are those of ``access.control.allow.*``, which allow other origins.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], methods: Sequence[str]) -> None:
        self._app = app
        self._origins = origins
        self._methods = [method.upper() for method in methods]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _READS and not self._accepts(scope):
            text = "a web page of another origin may not change anything here"
            hint = "set access.control.allow.origin and access.control.allow.methods in the worker's file"
            await error_response(403, f"{text} → {hint}", code="rest.cross_origin")(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _accepts(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none").lower()
        if origin is None:
            return site in ("same-origin", "none")  # not sent by programs that are no browsers
        # Schemes are not compared: behind a proxy that serves https, requests arrive by http.
        if _authority(origin) == headers.get("host", "").lower():
            return True
        return scope["method"] in self._methods and (ANY in self._origins or origin in self._origins)


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()  # empty for the origin "null"
    except ValueError:
        return ""


def _name(host: str) -> str:
    """Return the name or address of a ``Host`` header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
