"""The cases that ``scripts/record_connect_group.py`` asks Kafka Connect about, and its recorded answers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from headrace.groups.protocol import (
    GroupAssignment,
    Unit,
    WorkerState,
    WorkerTraits,
    encode_assignment,
    encode_state,
)

FILE = Path(__file__).parent / "answers.jsonl"
_SEED = 20261130
_HISTORIES, _ROUNDS = 60, 12
URL = "http://a:8083/"
SRC, SRC_0, SRC_1, SNK = Unit("src", -1), Unit("src", 0), Unit("src", 1), Unit("snk ü", -1)
ASSIGNMENTS = {
    "full": GroupAssignment(2, 0, "m-1", URL, 42, (SNK, SRC, SRC_0, SRC_1), (Unit("old", -1), Unit("old", 3)), 30_000),
    "nothing-new": GroupAssignment(2, 0, "m-1", URL, 42),
    "mismatch": GroupAssignment(2, 1, "m-1", URL, 41),
    "tasks-only": GroupAssignment(2, 0, "m-2", URL, 2**40, (SRC_0, SRC_1), (), 0),
}
STATES = {
    "new": WorkerState(URL, 0),
    "first": WorkerState(URL, -1),
    "holding": WorkerState(URL, 42, GroupAssignment(2, 0, "m-1", URL, 42, (SRC, SRC_0, SRC_1), (), 0)),
}
OFFSETS: list[tuple[str, str | None]] = [
    ('["orders",{"protocol":"1","table":"public.orders"}]', '{"incrementing":42}'),
    ('["orders",{"protocol":"1","table":"public.items"}]', '{"timestamp_nanos":7000000,"timestamp":1767225600007}'),
    ('["files",{"filename":"/tmp/ä.txt"}]', '{"position":165}'),
    ('["gone",{"table":"x"}]', None),
]


class GoldenCase(NamedTuple):
    """A case, and what Kafka Connect answered."""

    case: Mapping[str, Any]
    out: Any


def recorded(kind: str) -> list[GoldenCase]:
    """Return the recorded cases of a kind."""
    items = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return [GoldenCase(item, item["out"]) for item in items if item["kind"] == kind]


def all_cases() -> Iterator[dict[str, Any]]:
    """Yield all cases, without answers."""
    for version in (0, 1, 2):
        for name, assignment in ASSIGNMENTS.items():
            yield {"id": f"assignment-{name}-{version}", "kind": "assignment", "version": version, **_of(assignment)}
        for name, state in STATES.items():
            held = None if state.assignment is None else _of(state.assignment)
            yield {
                "id": f"state-{name}-{version}",
                "kind": "state",
                "version": version,
                "url": state.url,
                "offset": state.config_offset,
                "held": held,
            }
    for version in (1, 2):
        for name, assignment in ASSIGNMENTS.items():
            # Bytes of headrace follow the last field, which Kafka Connect must ignore.
            data = encode_assignment(replace(assignment, traits=WorkerTraits()), version)
            yield {"id": f"read-assignment-{name}-{version}", "kind": "read-assignment", "hex": data.hex()}
        for name, state in STATES.items():
            data = encode_state(replace(state, traits=WorkerTraits(leaving=True)), version)
            yield {"id": f"read-state-{name}-{version}", "kind": "read-state", "hex": data.hex()}
    yield {"id": "offsets", "kind": "offsets", "entries": [list(entry) for entry in OFFSETS]}
    yield {"id": "no-offsets", "kind": "offsets", "entries": []}
    for number in range(_HISTORIES):
        yield {"id": f"rounds-{number}", "kind": "rounds", **_history(random.Random(_SEED + number))}


def _of(assignment: GroupAssignment) -> dict[str, Any]:
    return {
        "error": assignment.error,
        "leader": assignment.leader,
        "leaderUrl": assignment.leader_url,
        "offset": assignment.config_offset,
        "assigned": [list(unit) for unit in assignment.assigned],
        "revoked": [list(unit) for unit in assignment.revoked],
        "delay": assignment.delay,
    }


def _history(choose: random.Random) -> dict[str, Any]:
    """Return a random history of workers that join and disappear, and of connectors that are created and deleted."""
    delay = choose.choice((0, 0, 30_000))
    members, connectors, now, rounds = ["w0"], dict[str, int](), 0, []
    for number in range(_ROUNDS):
        for _ in range(choose.choice((0, 1, 1, 2))):
            change = choose.random()
            if change < 0.35:
                members.append(f"w{number}-{len(members)}")
            elif change < 0.5 and len(members) > 1:
                members.remove(choose.choice(members))
            elif change < 0.85:
                connectors[f"c{choose.randrange(6)}"] = choose.randrange(5)
            elif connectors:
                del connectors[choose.choice(sorted(connectors))]
        rounds.append({"now": now, "connectors": dict(connectors), "members": list(members)})
        now += choose.choice((1, 50, 5_000, 40_000))
    return {"delay": delay, "rounds": rounds}


def units(texts: Sequence[str]) -> set[Unit]:
    """Return units as ``GroupProtocol.java`` writes them: ``name`` is a connector, ``name 0`` one of its tasks."""
    found = set()
    for text in texts:
        name, _, task = text.rpartition(" ")
        found.add(Unit(name, int(task)) if name and task.isdecimal() else Unit(text, -1))
    return found
