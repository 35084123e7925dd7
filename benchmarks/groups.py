"""Simulate a large worker group without engines: ``python -m benchmarks.groups``; ``live`` measures a real one.

200 workers, 2,000 connectors, 20,000 tasks: how long a leader needs for each decision, how many units move, and how
long a worker needs to read a config topic of 1,000,000 records. Exits with 1 when a decision takes a second or more.
"""

from __future__ import annotations

import resource
import sys
import time

from benchmarks import live_group
from headrace.groups.assignor import Decision, LeaderMemory, assign
from headrace.groups.protocol import (
    CONNECTOR,
    GroupAssignment,
    Unit,
    WorkerState,
    decode_state,
    encode_assignment,
    encode_state,
)
from headrace.stores.config_fold import ConfigFold

WORKERS, CONNECTORS, TASKS_EACH = 200, 2_000, 10
RECORDS = 1_000_000
DELAY = 30_000
LIMIT = 1.0


class SimulatedGroup:
    """Members that apply what the leader decides."""

    def __init__(self) -> None:
        self.units = {Unit(f"connector-{c}", task) for c in range(CONNECTORS) for task in range(CONNECTOR, TASKS_EACH)}
        self.held: dict[str, set[Unit]] = {f"worker-{number}": set() for number in range(WORKERS)}
        self.memory, self.generation, self.now = LeaderMemory(), 0, 1
        self.slowest = 0.0

    def rebalance(self) -> Decision:
        """One round: decode what the members report, decide, encode the answers."""
        reports = {
            member: encode_state(WorkerState("http://host:8083/", 7, GroupAssignment(assigned=tuple(units))), 2)
            for member, units in self.held.items()
        }
        began = time.perf_counter()
        reported = {}
        for member, report in reports.items():
            held = decode_state(report).assignment
            reported[member] = held.assigned if held is not None else ()
        self.generation += 1
        decision, self.memory = assign(
            self.memory,
            self.units,
            reported,
            now=self.now,
            generation=self.generation,
            completed=self.generation - 1,
            max_delay=DELAY,
        )
        for member in self.held:
            answer = GroupAssignment(assigned=decision.assigned[member], revoked=decision.revoked[member])
            encode_assignment(answer, 2)
        self.slowest = max(self.slowest, time.perf_counter() - began)
        for member, units in self.held.items():
            units -= set(decision.revoked[member])
            units |= set(decision.assigned[member])
        return decision

    def settle(self) -> tuple[int, int]:
        """Rebalance until nothing changes; return the numbers of rounds and of units that were assigned."""
        rounds = moved = 0
        while True:
            decision = self.rebalance()
            rounds += 1
            changes = sum(map(len, decision.assigned.values()))
            moved += changes
            self.now += decision.delay
            if not changes and not decision.delay and not any(decision.revoked.values()):
                return rounds, moved


def main() -> int:
    group = SimulatedGroup()
    total = len(group.units)
    print(f"{WORKERS} workers, {CONNECTORS} connectors, {CONNECTORS * TASKS_EACH} tasks: {total} units")
    print("first assignment: {} rounds, {} units assigned".format(*group.settle()))
    group.held["worker-new"] = set()
    print(
        "a worker joins:   {} rounds, {} units moved; its share is {}".format(*group.settle(), total // (WORKERS + 1))
    )
    lost = len(group.held.pop("worker-7"))
    print("a worker dies:    {} rounds, {} units moved; it had {}".format(*group.settle(), lost))
    print(f"slowest decision: {group.slowest * 1000:.0f} ms")
    print(f"config topic:     {RECORDS} records folded in {_replay():.1f} s, {_peak_mb():.0f} MB at most")
    return 1 if group.slowest >= LIMIT else 0


def _replay() -> float:
    fold = ConfigFold()
    began = time.perf_counter()
    count = 0
    while count < RECORDS:
        name = f"connector-{count // (TASKS_EACH + 2) % CONNECTORS}"
        fold.apply(f"connector-{name}", {"properties": {"name": name, "revision": str(count)}})
        for number in range(TASKS_EACH):
            fold.apply(f"task-{name}-{number}", {"properties": {"name": name, "task": str(number)}})
        fold.apply(f"commit-{name}", {"tasks": TASKS_EACH})
        count += TASKS_EACH + 2
    assert sum(map(len, fold.desired().tasks.values())) == CONNECTORS * TASKS_EACH
    return time.perf_counter() - began


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(live_group.main(sys.argv[2:]) if sys.argv[1:2] == ["live"] else main())
