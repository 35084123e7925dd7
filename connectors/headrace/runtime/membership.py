"""The workers of a group. A standalone worker is a group of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Membership(Protocol):
    """The members of the group of this worker."""

    @property
    def me(self) -> str:
        """Return this worker's id: ``host:port`` of its REST API."""
        ...

    def members(self) -> Sequence[str]:
        """Return the ids of all live members, including this worker."""
        ...


@dataclass(frozen=True)
class SoloMembership:
    """A group of one."""

    me: str

    def members(self) -> Sequence[str]:
        return (self.me,)
