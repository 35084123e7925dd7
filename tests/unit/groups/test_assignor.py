"""Every unit has one owner, the group is balanced, running work stays, and work of a lost worker waits."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.groups.assignor import Decision, LeaderMemory, assign
from headrace.groups.protocol import CONNECTOR, Unit

DELAY = 30_000


def units_of(connector: str, tasks: int) -> set[Unit]:
    return {Unit(connector, number) for number in range(CONNECTOR, tasks)}


@dataclass
class Group:
    """Members that carry out what a leader decides, as workers do."""

    max_delay: int = 0
    held: dict[str, set[Unit]] = field(default_factory=dict)
    units: set[Unit] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    memory: LeaderMemory = field(default_factory=LeaderMemory)
    now: int = 1_000
    generation: int = 0
    completed: int = -1

    def rebalance(self, lost_answers: frozenset[str] = frozenset()) -> Decision:
        self.generation += 1
        self.now += 10
        reported = {member: sorted(units) for member, units in self.held.items()}
        decision, self.memory = assign(
            self.memory,
            self.units,
            reported,
            now=self.now,
            generation=self.generation,
            completed=self.completed,
            max_delay=self.max_delay,
            leaving=self.leaving,
        )
        self.completed = self.generation
        for member in self.held:
            if member not in lost_answers:
                self.held[member] -= set(decision.revoked[member])
                self.held[member] |= set(decision.assigned[member])
        return decision

    def settle(self, rounds: int = 40) -> int:
        """Rebalance until nothing changes; return the number of rounds."""
        for number in range(1, rounds + 1):
            decision = self.rebalance()
            if decision.delay:
                self.now += decision.delay
            elif not any(decision.assigned.values()) and not any(decision.revoked.values()):
                return number
        raise AssertionError(f"not quiet after {rounds} rounds")

    def require_balanced(self) -> None:
        assert sorted(unit for units in self.held.values() for unit in units) == sorted(self.units)
        for connectors in (True, False):
            sizes = [sum(unit.is_connector is connectors for unit in units) for units in self.held.values()]
            assert max(sizes) - min(sizes) <= 1


@dataclass(frozen=True)
class Change:
    kind: str
    seed: int
    lost_answers: bool


CHANGES = st.lists(
    st.builds(
        Change,
        st.sampled_from(["join", "die", "new leader", "create", "delete", "nothing"]),
        st.integers(0, 10_000),
        st.booleans(),
    ),
    max_size=15,
)


def apply(change: Change, group: Group, number: int) -> None:
    pick = random.Random(change.seed)
    if change.kind == "join":
        group.held[f"w{number}"] = set()
    elif change.kind == "die" and len(group.held) > 1:
        group.held.pop(pick.choice(sorted(group.held)))
    elif change.kind == "new leader":
        group.memory, group.completed = LeaderMemory(), -1
    elif change.kind == "create":
        group.units |= units_of(f"c{number}", pick.randrange(4))
    elif change.kind == "delete" and group.units:
        gone = pick.choice(sorted(group.units)).connector
        group.units = {unit for unit in group.units if unit.connector != gone}


@given(CHANGES, st.sampled_from([0, 3_000]))
def test_after_any_history_each_unit_has_one_owner_and_the_group_is_balanced(
    changes: list[Change], max_delay: int
) -> None:
    group = Group(max_delay, {"w": set()})
    for number, change in enumerate(changes):
        apply(change, group, number)
        if change.lost_answers:
            group.rebalance(frozenset(random.Random(change.seed).sample(sorted(group.held), 1)))
        assert group.settle() <= 8
        group.require_balanced()


@given(CHANGES, st.sampled_from([0, 25]))
def test_no_unit_is_assigned_before_its_owner_has_released_it(changes: list[Change], max_delay: int) -> None:
    group = Group(max_delay, {"w": set()})
    for number, change in enumerate(changes):
        apply(change, group, number)
        for _ in range(4):
            held = {member: set(units) for member, units in group.held.items()}
            running = {unit for units in held.values() for unit in units}
            decision = group.rebalance()
            for member, units in decision.revoked.items():
                assert held[member].issuperset(units), "a worker cannot release what it does not run"
            assert running.isdisjoint(unit for units in decision.assigned.values() for unit in units)


def test_what_a_returned_worker_gets_above_its_share_is_assigned_in_the_same_round() -> None:
    """Otherwise no worker could release it, no worker would join again, and it would run nowhere."""
    held = {"a": units_of("a", 1), "b": units_of("b", 1)}
    configured = held["a"] | held["b"] | units_of("z", 2)
    memory = LeaderMemory(frozenset(configured), generation=1, members=frozenset("ab"), candidates=("b",), due=100)
    decision, _ = assign(memory, configured, held, now=200, generation=2, completed=1, max_delay=DELAY)
    assert not any(decision.revoked.values())
    assert {unit for units in decision.assigned.values() for unit in units} == units_of("z", 2)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 12))
def test_a_worker_that_joins_takes_only_its_share(workers: int, tasks: int) -> None:
    group = Group(0, {f"w{number}": set() for number in range(workers)}, units_of("c", tasks))
    group.settle()
    before = {unit: member for member, units in group.held.items() for unit in units}
    group.held["new"] = set()
    group.settle()
    moved = [unit for member, units in group.held.items() for unit in units if before[unit] != member]
    assert sorted(moved) == sorted(group.held["new"])
    group.require_balanced()


def group_of_three() -> Group:
    group = Group(DELAY, {"w0": set(), "w1": set(), "w2": set()}, units_of("a", 8))
    group.settle()
    return group


def test_work_of_a_worker_that_died_waits_for_the_delay() -> None:
    group = group_of_three()
    gone = group.held.pop("w2")
    decision = group.rebalance()
    assert decision.delay == DELAY
    assert not any(decision.assigned.values())
    group.now += DELAY
    decision = group.rebalance()
    assert {unit for units in decision.assigned.values() for unit in units} == gone
    group.require_balanced()


def test_a_worker_that_returns_within_the_delay_gets_its_work_back() -> None:
    group = group_of_three()
    gone = group.held.pop("w2")
    group.rebalance()
    group.now += 5_000
    group.held["w2 again"] = set()
    decision = group.rebalance()
    assert DELAY - 5_100 <= decision.delay <= DELAY - 5_000
    group.now += decision.delay
    group.rebalance()
    assert group.held["w2 again"] == gone


def test_new_connectors_do_not_wait_for_a_lost_worker() -> None:
    group = group_of_three()
    group.held.pop("w2")
    group.rebalance()
    group.units |= units_of("b", 1)
    decision = group.rebalance()
    assert decision.delay > 0
    assert {unit for units in decision.assigned.values() for unit in units} == units_of("b", 1)


def test_the_work_of_a_leaving_worker_moves_at_once() -> None:
    group = group_of_three()
    gone = set(group.held["w2"])
    group.held["w2"] = set()
    group.leaving = {"w2"}
    decision = group.rebalance()
    assert decision.delay == 0
    assert not decision.assigned["w2"]
    assert group.held["w0"] | group.held["w1"] >= gone
    group.held.pop("w2")
    group.leaving = set()
    decision = group.rebalance()
    assert decision.delay == 0
    assert not any(decision.assigned.values())
    group.require_balanced()


def test_a_new_leader_assigns_the_work_of_the_old_one_at_once() -> None:
    group = group_of_three()
    group.held.pop("w0")
    group.memory, group.completed = LeaderMemory(), -1
    assert group.rebalance().delay == 0
    group.settle()
    group.require_balanced()


def test_a_unit_that_two_workers_run_is_revoked_from_both() -> None:
    unit = Unit("a", CONNECTOR)
    group = Group(0, {"w0": {unit}, "w1": {unit}}, {unit})
    decision = group.rebalance()
    assert decision.revoked == {"w0": (unit,), "w1": (unit,)}
    assert not any(decision.assigned.values())
    group.settle()
    group.require_balanced()


def test_units_without_a_member_that_takes_them_have_no_owner() -> None:
    decision, _ = assign(
        LeaderMemory(),
        {Unit("a", 0)},
        {"w0": []},
        now=1,
        generation=1,
        completed=-1,
        max_delay=0,
        leaving=frozenset({"w0"}),
    )
    assert decision.owners == {}
    assert decision.assigned == {"w0": ()}
