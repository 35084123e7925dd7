"""What a worker runs and decides within its group. A standalone worker is a group of one."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Protocol

from headrace.groups.protocol import Unit


class Membership(Protocol):
    """This worker's part of the group. Thread-safe."""

    @property
    def me(self) -> str:
        """Return this worker's id: ``host:port`` of its REST API."""
        ...

    def generation(self) -> int:
        """Return the generation of the group: it increases with every rebalance."""
        ...

    def owns(self, unit: Unit) -> bool:
        """Return whether this worker has to run the connector or task now."""
        ...

    def leads(self) -> bool:
        """Return whether this worker writes configurations and decides who runs what."""
        ...

    def workers(self) -> Set[str] | None:
        """Return the ids of all workers of the group; None when this worker does not know them."""
        ...

    def waiting(self) -> Set[Unit]:
        """Return the units whose worker has left the group, and which no other worker has been given yet."""
        ...

    def runs(self, units: Set[Unit]) -> None:
        """Note what this worker still runs: units that were revoked are released when they are not among it."""
        ...


@dataclass(frozen=True)
class SoloMembership:
    """A group of one."""

    me: str

    def generation(self) -> int:
        return 0

    def owns(self, unit: Unit) -> bool:
        del unit
        return True

    def leads(self) -> bool:
        return True

    def workers(self) -> frozenset[str]:
        return frozenset({self.me})

    def waiting(self) -> frozenset[Unit]:
        return frozenset()

    def runs(self, units: Set[Unit]) -> None:
        del units  # nothing is ever revoked
