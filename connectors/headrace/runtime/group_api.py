"""What the REST API needs to know of the group of its worker."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Protocol

from headrace.groups.protocol import Unit
from headrace.stores.config_fold import SessionKey


class WorkerGroupApi(Protocol):
    """Thread-safe."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS settings of requests to other workers; None without https."""
        ...

    def not_ready(self) -> str | None:
        """Return why this worker cannot answer yet: it has not joined its group; None when it has."""
        ...

    def leads(self) -> bool:
        """Return whether this worker is the leader."""
        ...

    def leader_url(self) -> str | None:
        """Return the URL of the leader; None while it is not known."""
        ...

    def owns(self, unit: Unit) -> bool:
        """Return whether this worker runs a connector or task."""
        ...

    def owner_url(self, unit: Unit) -> str | None:
        """Return the URL of the worker that runs a connector or task, if this worker is the leader."""
        ...

    @property
    def me(self) -> str:
        """Return the id of this worker."""
        ...

    def workers_of(self, connector: str) -> Mapping[str, str]:
        """Return the URLs of the workers that run tasks of a connector, by their ids, according to the statuses."""
        ...

    def others_with_tasks(self) -> frozenset[str]:
        """Return the URLs of the other workers that run tasks, by their statuses."""
        ...

    def put_logger_level(self, logger: str, level: str) -> None:
        """Set the level of a logger on every worker (KIP-976). Raise RetriableError."""
        ...

    def session_key(self) -> SessionKey | None:
        """Return the key with which workers sign requests; None before the first one."""
        ...
