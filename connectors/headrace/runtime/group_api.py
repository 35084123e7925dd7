"""What the REST API needs to know of the group of its worker."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.errors import Finding
from headrace.groups.protocol import Unit
from headrace.stores.config_fold import SessionKey
from headrace.stores.worker_records import WorkerRecord


@dataclass(frozen=True, slots=True)
class GroupView:
    """What a worker knows of its group."""

    group: str
    leader: str | None
    """URL of the leader's REST API; None while it is not known."""
    workers: Sequence[WorkerRecord]
    clock_offsets: Mapping[str, float]
    """Seconds that the clocks of other workers are ahead of this one's, where known."""
    problems: Sequence[Finding]


class WorkerGroupApi(Protocol):
    """Thread-safe."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS settings of requests to other workers; None without https."""
        ...

    def not_ready(self) -> str | None:
        """Return why this worker cannot answer yet: it has not joined its group; None when it has."""
        ...

    def view(self) -> GroupView:
        """Return the workers of the group, and the problems of its setup that this worker sees."""
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
