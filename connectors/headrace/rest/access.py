"""The roles of the REST API, and the role that each method of each path requires.

The table is complete: a route without a rule is an error when the server starts.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from headrace.errors import PermissionDeniedError


class Role(enum.IntEnum):
    """Roles, each with the rights of those before it."""

    VIEWER = 1
    """Status, metrics and definitions; no configurations, no offsets, no contents of records."""
    OPERATOR = 2
    """Also reads configurations, offsets and dead letters; starts, stops and retries."""
    ADMIN = 3
    """Also creates, changes and deletes connectors, offsets and log levels."""

    @property
    def word(self) -> str:
        return self.name.lower()


PUBLIC = None
"""For the probes of load balancers and containers, which have no credentials."""

_ONE = "/connectors/{name}"
_QUEUE = f"/v1{_ONE}/dead-letters"
RULES: Mapping[str, Mapping[str, Role | None]] = {
    "/": {"GET": Role.VIEWER},
    "/health": {"GET": PUBLIC},
    "/health/live": {"GET": PUBLIC},
    "/health/ready": {"GET": PUBLIC},
    "/v1/workers": {"GET": Role.VIEWER},
    "/metrics": {"GET": Role.VIEWER},
    "/v1/metrics": {"GET": Role.VIEWER},
    "/admin/loggers": {"GET": Role.OPERATOR},
    "/admin/loggers/{logger}": {"GET": Role.OPERATOR, "PUT": Role.ADMIN},
    "/connectors": {"GET": Role.VIEWER, "POST": Role.ADMIN},  # ?expand=info requires operator
    _ONE: {"GET": Role.OPERATOR, "DELETE": Role.ADMIN},
    f"{_ONE}/config": {"GET": Role.OPERATOR, "PUT": Role.ADMIN, "PATCH": Role.ADMIN},
    f"{_ONE}/status": {"GET": Role.VIEWER},
    f"{_ONE}/restart": {"POST": Role.OPERATOR},
    f"{_ONE}/pause": {"PUT": Role.OPERATOR},
    f"{_ONE}/resume": {"PUT": Role.OPERATOR},
    f"{_ONE}/stop": {"PUT": Role.OPERATOR},
    f"{_ONE}/offsets": {"GET": Role.OPERATOR, "PATCH": Role.ADMIN, "DELETE": Role.ADMIN},
    f"{_ONE}/topics": {"GET": Role.VIEWER},
    f"{_ONE}/topics/reset": {"PUT": Role.OPERATOR},
    f"{_ONE}/tasks": {"GET": Role.OPERATOR, "POST": PUBLIC},  # workers of a group sign it
    f"{_ONE}/fence": {"PUT": PUBLIC},  # the same
    f"{_ONE}/tasks/{{task:int}}/status": {"GET": Role.VIEWER},
    f"{_ONE}/tasks/{{task:int}}/restart": {"POST": Role.OPERATOR},
    f"/v1{_ONE}/records": {"GET": Role.VIEWER},
    f"/v1{_ONE}/progress": {"GET": Role.VIEWER},
    f"/v1{_ONE}/freshness": {"GET": Role.VIEWER},
    f"/v1{_ONE}/conditions": {"GET": Role.VIEWER},
    f"/v1{_ONE}/acknowledge": {"POST": Role.OPERATOR},
    f"/v1{_ONE}/reset": {"POST": Role.ADMIN},
    # Contents of records; the audit log has a line of each request.
    f"/v1{_ONE}/tasks/{{task:int}}/tap": {"POST": Role.OPERATOR},
    "/v1/streams/{name}/state/{store}/{key}": {"GET": Role.OPERATOR},
    "/v1/streams/{name}/registration": {"GET": Role.OPERATOR},
    # A decision is a record that the application learns from.
    "/v1/streams/{name}/decide": {"POST": Role.OPERATOR},
    _QUEUE: {"GET": Role.VIEWER},
    f"{_QUEUE}/letters": {"GET": Role.OPERATOR},
    f"{_QUEUE}/retry": {"POST": Role.OPERATOR},
    f"{_QUEUE}/discard": {"POST": Role.OPERATOR},
    f"{_QUEUE}/job": {"GET": Role.VIEWER},
    "/connector-plugins": {"GET": Role.VIEWER},
    "/connector-plugins/{plugin}/config": {"GET": Role.VIEWER},
    # Validation resolves placeholders and may connect: the same rights as creating a connector.
    "/connector-plugins/{plugin}/config/validate": {"PUT": Role.ADMIN},
}


class Caller(NamedTuple):
    """Who sent a request. ``method``: how it was authenticated (password, token, certificate, proxy, none)."""

    name: str
    role: Role
    method: str

    def require(self, role: Role | None, what: str) -> None:
        """Raise PermissionDeniedError unless the caller has at least this role."""
        if role is not PUBLIC and self.role < role:
            raise PermissionDeniedError(
                f"{what} requires the role {role.word}, and {self.name} has the role {self.role.word}",
                hint="ask an administrator of the worker to change the role in its users file",
            )


UNRESTRICTED = Caller("anonymous", Role.ADMIN, "none")
"""The caller of a worker without authentication."""


PUBLIC_CALLER = Caller("anonymous", Role.VIEWER, "none")
"""The caller of a public route."""


def rule_of(method: str, path: str) -> Role | None:
    """Return the role that a route requires. Raise LookupError for a route without a rule."""
    try:
        return RULES[path][method]
    except KeyError as error:
        raise LookupError(f"{method} {path} has no rule in headrace.rest.access") from error
