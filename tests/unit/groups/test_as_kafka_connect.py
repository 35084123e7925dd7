"""The codec of the group protocol and the assignor, compared with Kafka Connect's own classes (recorded)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from headrace.groups.assignor import LeaderMemory, assign
from headrace.groups.protocol import (
    GroupAssignment,
    Unit,
    WorkerState,
    decode_assignment,
    decode_state,
    encode_assignment,
    encode_state,
)
from tests.golden.connect_group.cases import GoldenCase, all_cases, recorded, units


def by_id(case: GoldenCase) -> str:
    return str(case.case["id"])


def assignment_of(given: Any, version: int) -> GroupAssignment:
    """Return the assignment that a case describes. The eager protocol has neither revocations nor a delay."""
    return GroupAssignment(
        version,
        given["error"],
        given["leader"],
        given["leaderUrl"],
        given["offset"],
        tuple(Unit(*item) for item in given["assigned"]),
        tuple(Unit(*item) for item in given["revoked"]) if version else (),
        given["delay"] if version else 0,
    )


def test_the_recorded_cases_are_those_of_this_version() -> None:
    """Otherwise run scripts/record_connect_group.py."""
    kinds = ("assignment", "state", "read-assignment", "read-state", "offsets", "rounds")
    found = [{name: part for name, part in item.case.items() if name != "out"} for k in kinds for item in recorded(k)]
    assert sorted(found, key=lambda case: case["id"]) == sorted(all_cases(), key=lambda case: case["id"])


@pytest.mark.parametrize("case", recorded("assignment"), ids=by_id)
def test_an_assignment_has_the_bytes_of_kafka_connect(case: GoldenCase) -> None:
    version, data = case.case["version"], bytes.fromhex(case.out)
    assignment = assignment_of(case.case, version)
    assert decode_assignment(data) == assignment
    assert encode_assignment(assignment, version) == data


@pytest.mark.parametrize("case", recorded("state"), ids=by_id)
def test_metadata_has_the_bytes_of_kafka_connect(case: GoldenCase) -> None:
    version, data, held = case.case["version"], bytes.fromhex(case.out), case.case["held"]
    assignment = assignment_of(held, version) if held is not None and version else None
    state = WorkerState(case.case["url"], case.case["offset"], assignment)
    assert decode_state(data) == state
    assert encode_state(state, version) == data


@pytest.mark.parametrize("case", recorded("read-assignment"), ids=by_id)
def test_kafka_connect_reads_an_assignment_of_headrace(case: GoldenCase) -> None:
    known = decode_assignment(bytes.fromhex(case.case["hex"]))
    assert (case.out["error"], case.out["leader"], case.out["leaderUrl"]) == (
        known.error,
        known.leader,
        known.leader_url,
    )
    assert (case.out["offset"], case.out["delay"]) == (known.config_offset, known.delay)
    assert units(case.out["assigned"]) == set(known.assigned)
    assert units(case.out["revoked"]) == set(known.revoked)


@pytest.mark.parametrize("case", recorded("read-state"), ids=by_id)
def test_kafka_connect_reads_metadata_of_headrace_and_ignores_the_traits_after_it(case: GoldenCase) -> None:
    known = decode_state(bytes.fromhex(case.case["hex"]))
    assert known.traits is not None
    assert (case.out["url"], case.out["offset"]) == (known.url, known.config_offset)
    assert units(case.out["assigned"]) == set(known.assignment.assigned if known.assignment is not None else ())


def test_the_assignor_decides_as_kafka_connects_does_on_the_same_inputs() -> None:
    """In each round, both get the same memory and the same reports. Which of several equal units moves to which of
    several equal workers may differ; how many move, and the loads that follow, may not. After one of the two intended
    differences the memories differ, and the history is not compared any further."""
    rounds = moved = 0
    differences: Counter[str] = Counter()
    for history in recorded("rounds"):
        for name, ours, theirs in compared(history):
            rounds += 1
            moved += sum(theirs["assigned"].values()) + sum(theirs["revoked"].values())
            if ours != theirs:
                differences[intended_difference(ours, theirs, f"{by_id(history)}, {name}: {ours}, {theirs}")] += 1
                break
    assert rounds > 600
    assert moved > 1_000
    assert sum(differences.values()) < 6, differences


def intended_difference(ours: Any, theirs: Any, where: str) -> str:
    same = ("assigned", "revoked", "loads")
    if theirs["delay"] and not ours["delay"]:
        # A worker without work has disappeared after a round that moved work. Kafka Connect waits for it.
        assert [ours[name] for name in same] == [theirs[name] for name in same], where
        return "nothing waits, so there is no delay"
    # A worker has returned and gets the work that waited, above its share. Kafka Connect moves it on in later rounds.
    assert ours["assigned"] == theirs["assigned"], where
    assert ours["revoked"].total() < theirs["revoked"].total(), where
    assert all(max(loads) - min(loads) <= 1 for loads in ours["loads"].values()), where
    return "waiting work is balanced at once"


def compared(history: GoldenCase) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return what both decided in each round, by numbers."""
    memory, held = LeaderMemory(), dict[str, set[Unit]]()
    found = []
    for number, (given, answer) in enumerate(zip(history.case["rounds"], history.out, strict=True), 1):
        configured = {Unit(name, task) for name, tasks in given["connectors"].items() for task in range(-1, tasks)}
        reported = {member: held.get(member, set()) for member in given["members"]}
        decision, memory = assign(
            memory,
            configured,
            reported,
            now=given["now"],
            generation=number,
            completed=number - 1,
            max_delay=history.case["delay"],
        )
        added = {member: units(texts) for member, texts in answer["assigned"].items()}
        revoked = {member: units(texts) for member, texts in answer["revoked"].items()}
        held = {member: (reported[member] - revoked[member]) | added[member] for member in reported}
        ours = {
            member: (reported[member] - {*decision.revoked[member]}) | {*decision.assigned[member]} for member in held
        }
        mine = {unit for items in decision.revoked.values() for unit in items}
        theirs = {unit for items in revoked.values() for unit in items}
        found.append(
            (
                f"round {number}",
                numbers(decision.assigned, decision.revoked, ours, decision.delay),
                numbers(added, revoked, held, answer["delay"]),
            )
        )
        memory = replace(memory, units=(memory.units | mine) - theirs, revoked=frozenset(theirs))
    return found


def numbers(assigned: Any, revoked: Any, held: Any, delay: int) -> dict[str, Any]:
    """Return how many connectors and tasks moved, and how many each worker has, without the names of either."""

    def count(changes: Any) -> Counter[str]:
        return Counter("connector" if unit.is_connector else "task" for items in changes.values() for unit in items)

    loads = {
        kind: sorted(sum(unit.is_connector is kind for unit in items) for items in held.values())
        for kind in (True, False)
    }
    return {"assigned": count(assigned), "revoked": count(revoked), "loads": loads, "delay": delay}
