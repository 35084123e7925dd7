"""``admin.listeners``: endpoints below ``/admin`` on ports of their own, as in Kafka Connect (KIP-495)."""

from __future__ import annotations

from collections.abc import Set

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_ADMIN = "/admin"


class AdminPorts:
    """ASGI middleware: the admin ports serve ``/admin/…`` and nothing else, all other ports everything else."""

    def __init__(self, app: ASGIApp, ports: Set[int]) -> None:
        """``ports``: without any, the endpoints are disabled."""
        self._app = app
        self._ports = ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            is_admin = path == _ADMIN or path.startswith(f"{_ADMIN}/")
            if is_admin != (scope["server"][1] in self._ports):
                body = {"error_code": 404, "message": "HTTP 404 Not Found"}
                await JSONResponse(body, 404)(scope, receive, send)
                return
        await self._app(scope, receive, send)
