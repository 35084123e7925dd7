"""The ASGI application: all routes, one error body."""

from __future__ import annotations

from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.registry import Registry
from headrace.rest.calls import router_error
from headrace.rest.connectors import ConnectorRoutes
from headrace.rest.metrics import MetricsRoutes
from headrace.rest.plugins import PluginRoutes
from headrace.rest.worker import WorkerRoutes
from headrace.runtime.api import WorkerApi


def create_app(api: WorkerApi, registry: Registry) -> ASGIApp:
    """The REST API of a worker."""
    routes = [
        *WorkerRoutes(api).routes(),
        *ConnectorRoutes(api).routes(),
        *PluginRoutes(api, registry).routes(),
        *MetricsRoutes(api).routes(),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: router_error})
    app.router.redirect_slashes = False
    return EncodedPaths(app)


class EncodedPaths:
    """Routes by the path as it was sent, so that a connector's name may hold an encoded ``/`` (``%2F``).

    Handlers decode the parts. A trailing slash is the same as none, as in Connect.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sent = scope.get("raw_path") or quote(scope["path"]).encode()
            scope = {**scope, "path": sent.decode("ascii").rstrip("/") or "/"}
        await self._app(scope, receive, send)
