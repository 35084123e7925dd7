"""Who the workers of a group are. Alone, the group is this worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Membership(Protocol):
    """The group as this worker sees it."""

    @property
    def me(self) -> str:
        """This worker's id, ``host:port`` of its REST API."""
        ...

    def members(self) -> Sequence[str]:
        """Ids of all living members, this worker's included."""
        ...


@dataclass(frozen=True)
class SoloMembership:
    """A group of one."""

    me: str

    def members(self) -> Sequence[str]:
        return (self.me,)
