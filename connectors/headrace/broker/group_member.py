"""Protocols of a member of a group of Kafka's classic group protocol, whose metadata and assignments are bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class JoinedGeneration(NamedTuple):
    """The result of a rebalance for one member."""

    generation: int
    member: str
    protocol: str
    assignment: bytes


@dataclass(frozen=True)
class GroupTimeouts:
    """In seconds, as ``session.timeout.ms``, ``heartbeat.interval.ms`` and ``rebalance.timeout.ms``."""

    session: float = 10.0
    heartbeat: float = 3.0
    rebalance: float = 60.0


@dataclass(frozen=True)
class GroupCallbacks:
    """Called on the client's own thread: they must be short, and must not call the member."""

    protocols: Callable[[], Sequence[tuple[str, bytes]]]
    """Return the names of protocols, preferred ones first, with the metadata of this member. Called at each join."""
    assign: Callable[[int, str, str, Mapping[str, bytes]], Mapping[str, bytes]]
    """Return each member's assignment. Arguments: generation, leader's id, protocol, metadata by member."""
    renewed: Callable[[float], None]
    """The coordinator has answered what was sent at this time of ``clock``."""
    lost: Callable[[], None]
    """The coordinator has removed this member: others may have been given its work."""
    clock: Callable[[], float]


class WorkerGroupMember(Protocol):
    """One member. All methods are called from one thread; they raise the errors of ``broker.interfaces``."""

    def join(self) -> JoinedGeneration | None:
        """Join the group if that is needed, and wait for the end of the rebalance; None when nothing was needed."""
        ...

    def poll(self) -> None:
        """Show that the worker is alive, at least once in each rebalance timeout. Raise what ended the heartbeats."""
        ...

    def request_rejoin(self) -> None:
        """Let the next :meth:`join` join again. May be called from any thread."""
        ...

    def connection_problem(self) -> str | None:
        """See :class:`headrace.broker.interfaces.Producer`."""
        ...

    def leave(self) -> None:
        """Leave the group and close. Bounded to a few seconds."""
        ...
