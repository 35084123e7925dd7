"""The ASGI application: all routes, and routing by encoded paths."""

from __future__ import annotations

from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.dead_letters.service import DeadLetterService
from headrace.registry import Registry
from headrace.rest.audit import AuditLog
from headrace.rest.authentication import Authenticator
from headrace.rest.connector_routes import ConnectorRoutes
from headrace.rest.dead_letter_routes import DeadLetterRoutes
from headrace.rest.forwarding import GroupForwarding
from headrace.rest.handlers import router_error
from headrace.rest.limits import DEFAULT_LIMITS, RestLimits
from headrace.rest.log_levels import LogLevels
from headrace.rest.metrics_routes import DEFAULT_EXPOSITION, Exposition, MetricsRoutes
from headrace.rest.options import NO_OPTIONS, RestOptions
from headrace.rest.plugin_routes import PluginRoutes
from headrace.rest.stream_routes import StreamRoutes
from headrace.rest.tap_routes import TapRoutes
from headrace.rest.worker_routes import WorkerRoutes
from headrace.runtime.api import WorkerApi
from headrace.runtime.group_api import WorkerGroupApi


def create_app(
    api: WorkerApi,
    registry: Registry,
    options: RestOptions = NO_OPTIONS,
    dead_letters: DeadLetterService | None = None,
    limits: RestLimits = DEFAULT_LIMITS,
    authenticator: Authenticator | None = None,
    exposition: Exposition = DEFAULT_EXPOSITION,
    group: WorkerGroupApi | None = None,
    levels: LogLevels | None = None,
) -> ASGIApp:
    """Return the REST API of a worker. ``group``: of which the worker is a member."""
    routes = all_routes(api, registry, dead_letters, exposition, group, levels)
    app = Starlette(routes=routes, exception_handlers={HTTPException: router_error})
    app.router.redirect_slashes = False
    app.state.audit = AuditLog()
    app.state.limits = limits
    app.state.authenticator = authenticator or Authenticator()
    app.state.forwarding = GroupForwarding(group) if group is not None else None
    return options.wrap(EncodedPaths(app))


def all_routes(
    api: WorkerApi,
    registry: Registry,
    dead_letters: DeadLetterService | None,
    exposition: Exposition = DEFAULT_EXPOSITION,
    group: WorkerGroupApi | None = None,
    levels: LogLevels | None = None,
) -> list[Route]:
    """Return the routes. Each has its rules of :mod:`headrace.rest.access`; one without is a LookupError."""
    return [
        *WorkerRoutes(api, group, levels).routes(),
        *ConnectorRoutes(api, group).routes(),
        *PluginRoutes(api, registry).routes(),
        *MetricsRoutes(api, exposition).routes(),
        *StreamRoutes(api).routes(),
        *TapRoutes(api).routes(),
        *(DeadLetterRoutes(dead_letters).routes() if dead_letters is not None else ()),
    ]


class EncodedPaths:
    """Routes by the encoded path, so that a connector's name may contain ``/`` (``%2F``).

    Handlers decode the variables. A trailing slash is ignored, as in Connect.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sent = scope.get("raw_path") or quote(scope["path"]).encode()
            scope = {**scope, "path": sent.decode("ascii").rstrip("/") or "/"}
        await self._app(scope, receive, send)
