"""The leader's part of a rebalance: reads what the members report, decides, and writes their assignments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from headrace.groups.assignor import LeaderMemory, assign
from headrace.groups.protocol import (
    CONFIG_MISMATCH,
    VERSIONS,
    GroupAssignment,
    Unit,
    WorkerState,
    WorkerTraits,
    decode_state,
    encode_assignment,
)

log = structlog.stdlib.get_logger("headrace.group")


class ConfigView(Protocol):
    """What the group knows of the config topic. Thread-safe."""

    def offset(self) -> int:
        """Return one more than the offset of the last record that was read; 0: none."""
        ...

    def wait_for_offset(self, offset: int, timeout: float) -> bool:
        """Wait until the topic is read up to ``offset``; return whether it is."""
        ...

    def units(self) -> frozenset[Unit]:
        """Return all connectors and tasks."""
        ...


@dataclass(frozen=True)
class LeaderView:
    """What the leader knows after a rebalance."""

    units: frozenset[Unit] = frozenset()
    """All connectors and tasks, as of the rebalance."""
    urls: Mapping[Unit, str] = field(default_factory=dict)
    """The REST URL of the worker that has each unit."""
    members: frozenset[str] = frozenset()
    """The REST URLs of all members."""
    waiting: frozenset[Unit] = frozenset()
    foreign: frozenset[str] = frozenset()
    """The REST URLs of members that are workers of Kafka Connect."""


class Leadership:
    """Used on the thread of the group's client. It forgets everything when the worker is not the leader any more."""

    def __init__(
        self, configs: ConfigView, max_delay: int, sync_timeout: float, now: Callable[[], int], *, mixed: bool = False
    ) -> None:
        """``max_delay`` and the time that ``now`` returns are milliseconds, ``sync_timeout`` is seconds. ``mixed``:
        whether workers of Kafka Connect get work."""
        self._configs = configs
        self._max_delay = max_delay
        self._sync_timeout = sync_timeout
        self._now = now
        self._mixed = mixed
        self._memory = LeaderMemory()

    def decide(
        self, generation: int, completed: int, leader: str, protocol: str, metadata: Mapping[str, bytes]
    ) -> tuple[LeaderView, dict[str, bytes]]:
        """Return the leader's view and the assignments. ``completed``: the last generation that this worker joined."""
        states = {member: decode_state(data) for member, data in metadata.items()}
        version, url = VERSIONS[protocol], states[leader].url
        foreign = _urls(state for state in states.values() if state.traits is None)
        if foreign and completed < 0 and not self._mixed:
            return LeaderView(members=_urls(states.values()), foreign=foreign), self._refusal(states, version, leader)
        newest = max(state.config_offset for state in states.values())
        if not self._configs.wait_for_offset(newest, self._sync_timeout):
            log.warning("rebalance without assignment", reason="the config topic was not read to its end in time")
            return LeaderView(members=_urls(states.values())), self._refusal(states, version, leader)
        offset, units = self._configs.offset(), self._configs.units()
        reported = {
            member: state.assignment.assigned if state.assignment is not None else ()
            for member, state in states.items()
        }
        decision, self._memory = assign(
            self._memory,
            units,
            reported,
            now=self._now(),
            generation=generation,
            completed=completed,
            max_delay=self._max_delay,
            leaving={member for member, state in states.items() if self._takes_no_work(state)},
        )
        owned = {unit: states[member].url for unit, member in decision.owners.items()}
        running = {unit for held in reported.values() for unit in held}
        waiting = units - owned.keys() - running if decision.delay else frozenset()
        view = LeaderView(units, owned, _urls(states.values()), frozenset(waiting), foreign)
        answers = {}
        for member in states:
            answer = GroupAssignment(
                version,
                leader=leader,
                leader_url=url,
                config_offset=offset,
                assigned=decision.assigned[member],
                revoked=decision.revoked[member],
                delay=decision.delay,
                traits=WorkerTraits(),
            )
            answers[member] = encode_assignment(answer, version)
        moved = sum(map(len, decision.assigned.values())), sum(map(len, decision.revoked.values()))
        log.info(
            "work assigned",
            generation=generation,
            workers=len(states),
            assigned=moved[0],
            revoked=moved[1],
            waiting=len(waiting),
            next_in=f"{decision.delay / 1000:g} s" if decision.delay else None,
        )
        return view, answers

    def _takes_no_work(self, state: WorkerState) -> bool:
        return not self._mixed if state.traits is None else state.traits.leaving

    def _refusal(self, states: Mapping[str, WorkerState], version: int, leader: str) -> dict[str, bytes]:
        """Return assignments that change nothing, after which all members join again."""
        url, offset = states[leader].url, self._configs.offset()
        refusal = GroupAssignment(version, CONFIG_MISMATCH, leader, url, offset, traits=WorkerTraits())
        return dict.fromkeys(states, encode_assignment(refusal, version))

    def forget(self) -> None:
        """Forget what was decided: another member leads, or this worker is not a member any more."""
        self._memory = LeaderMemory()


def _urls(states: Iterable[WorkerState]) -> frozenset[str]:
    return frozenset(state.url for state in states)
