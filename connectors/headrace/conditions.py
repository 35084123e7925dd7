"""Conditions: events that an operator must know of, kept until the operator acknowledges them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Condition:
    """An event of a connector that lost records, or may have. ``since`` and ``last`` are epoch milliseconds."""

    code: str
    text: str
    hint: str
    since: int
    last: int
    count: int
    """Affected records, as far as they can be counted; 0 when they cannot."""
    example: str

    def raised_again(self, newer: Condition) -> Condition:
        """Return both as one. The same event reported twice, for example after a crash, is not counted twice."""
        count = self.count if newer.example and newer.example == self.example else self.count + newer.count
        return replace(newer, since=self.since, count=count)


class RaiseCondition(Protocol):
    """Raises a condition of the task's connector. Never fails, never blocks for long."""

    def __call__(self, code: str, text: str, hint: str = "", *, count: int = 0, example: str = "") -> None:
        """``code`` is stable, ``text`` says what happened to which records, ``hint`` what to do. ``example`` names one
        record or range. Call it once per batch at most: a condition with the same code is updated."""
        ...


def ignore_condition(code: str, text: str, hint: str = "", *, count: int = 0, example: str = "") -> None:
    """Ignore it: for tasks that run outside of a worker."""
