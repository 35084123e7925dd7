"""The faults of a run, chosen by a seed: one seed gives one schedule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

SESSION = 3.0
"""Seconds of ``session.timeout.ms``."""
KILL, TERMINATE, FREEZE = "kill -9", "SIGTERM", "SIGSTOP"
BLACKHOLE, HELD, REFUSED = "black hole", "held answers", "refused connections"
BROKER = "kill a broker"
ENDS = (KILL, TERMINATE)
"""After these the worker has to be started again."""
CUTS = (BLACKHOLE, HELD, REFUSED)
DELAYS = (FREEZE, *CUTS)
"""After these, a request that was under way may still reach a broker. Only transactions exclude its effect."""


@dataclass(frozen=True)
class Fault:
    """What is done to one worker (or broker), and for how many seconds."""

    kind: str
    seconds: float
    leader: bool
    """Whether it strikes the leader, if that is free."""

    def __str__(self) -> str:
        return f"{self.kind} of {'the leader' if self.leader else 'a worker'} for {self.seconds:g} s"


@dataclass(frozen=True)
class Round:
    """Faults that strike different victims at the same time."""

    number: int
    faults: tuple[Fault, ...]

    @property
    def changes_members(self) -> bool:
        """Whether the group has to assign work again: not after the death of a broker, however long it takes."""
        return all(fault.kind != BROKER for fault in self.faults)

    def __str__(self) -> str:
        return f"round {self.number}: {', and '.join(map(str, self.faults))}"


def rounds(count: int, seed: int, *, brokers: int) -> Iterator[Round]:
    """Yield the rounds: every kind first, in random order, then random ones. A fifth has two faults at once."""
    chance = random.Random(seed)
    kinds = [KILL, TERMINATE, FREEZE, *CUTS]
    if brokers > 1:
        kinds.append(BROKER)
    queue: list[str] = []
    for number in range(1, count + 1):
        if not queue:
            queue = chance.sample(kinds, len(kinds))
        first = _fault(chance, queue.pop())
        second = _fault(chance, chance.choice([KILL, FREEZE, BLACKHOLE]))
        double = chance.random() < 0.2 and first.kind != BROKER
        yield Round(number, (first, second) if double else (first,))


def _fault(chance: random.Random, kind: str) -> Fault:
    leader = chance.random() < 0.5
    if kind == FREEZE:
        return Fault(kind, chance.choice([1.0, SESSION - 0.5, SESSION + 0.5, 2 * SESSION]), leader)
    if kind in CUTS:
        return Fault(kind, chance.choice([SESSION - 1, SESSION + 1, 2 * SESSION]), leader)
    return Fault(kind, 1.0, leader)
