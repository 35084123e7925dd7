"""Assigns connectors and tasks to the workers of a group, as Kafka Connect's incremental cooperative assignor does
(KIP-415).

Running work stays where it is. Units move only to balance the group, in two rounds: the leader revokes them from one
worker, and assigns them to another one after the first has stopped them and joined again. Units of a worker that has
disappeared wait for ``max_delay``, in case it returns. :func:`assign` is pure: it knows no clock and does no I/O.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from headrace.groups.protocol import Unit

_BACKOFF = 40
"""Factor between the delays of consecutive rounds that revoke units to balance the group, from 1 ms on."""


@dataclass(frozen=True, slots=True)
class LeaderMemory:
    """What the leader remembers of its former rounds. A new leader has no memory."""

    units: frozenset[Unit] = frozenset()
    """Units that were assigned, or wait for a worker that has disappeared."""
    revoked: frozenset[Unit] = frozenset()
    generation: int = -1
    members: frozenset[str] = frozenset()
    candidates: tuple[str, ...] = ()
    """Members without units that joined while units waited: one of them may be the worker that had them."""
    due: int = 0
    """When waiting units are assigned, in milliseconds; 0: nothing waits."""
    delay: int = 0
    balancing: bool = False
    """Whether the last round revoked units to balance the group."""
    balancing_rounds: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """``assigned`` and ``revoked`` are changes, by member. ``owners`` is who has each unit afterwards."""

    assigned: Mapping[str, tuple[Unit, ...]]
    revoked: Mapping[str, tuple[Unit, ...]]
    delay: int
    owners: Mapping[Unit, str]


def assign(
    memory: LeaderMemory,
    configured: Set[Unit],
    reported: Mapping[str, Iterable[Unit]],
    *,
    now: int,
    generation: int,
    completed: int,
    max_delay: int,
    leaving: Set[str] = frozenset(),
) -> tuple[Decision, LeaderMemory]:
    """Return the changes of this round, and the memory for the next one.

    ``configured``: all connectors and tasks. ``reported``: the units that each member runs. ``completed``: the last
    generation that this leader completed; a gap makes its memory invalid. ``leaving``: members that take no units.
    Times are in milliseconds.
    """
    held = {member: set(units) for member, units in reported.items()}
    active = set().union(*held.values())
    previous = memory.units if memory.generation == completed else frozenset()
    if memory.revoked & active:
        previous = frozenset(active)  # a member has not read the last assignment

    counts = Counter(unit for units in held.values() for unit in units)
    twice = {unit for unit, count in counts.items() if count > 1}
    deleted = (previous | active) - configured
    lost = previous - active - deleted
    created = set(configured) - previous - active

    revoked = {
        member: set(units) if member in leaving else {unit for unit in units if unit in deleted or unit in twice}
        for member, units in held.items()
    }
    load = {member: held[member] - revoked[member] for member in held if member not in leaving}
    state = replace(memory, revoked=frozenset())
    state, due = _place_lost(state, lost, load, frozenset(held), now, max_delay)
    state, freed = _balance(state, configured, held, load, revoked, now, max_delay)
    _place(created | due | freed, load)

    gone = {unit for units in revoked.values() for unit in units}
    placed = {unit: member for member, units in load.items() for unit in units}
    state = replace(
        state,
        units=(frozenset(placed) - gone) | lost,
        revoked=frozenset(gone),
        generation=generation,
        members=frozenset(held) - leaving,
    )
    assigned = {member: tuple(sorted(load.get(member, set()) - held[member])) for member in held}
    changes = {member: tuple(sorted(units)) for member, units in revoked.items()}
    return Decision(assigned, changes, state.delay, placed), state


def _place_lost(
    state: LeaderMemory,
    lost: Set[Unit],
    load: Mapping[str, set[Unit]],
    members: Set[str],
    now: int,
    max_delay: int,
) -> tuple[LeaderMemory, set[Unit]]:
    """Wait for the worker that had the lost units, or assign them. Return those that any member may get."""
    if not lost and not (state.balancing and state.due):
        return replace(state, delay=0, due=0, candidates=()), set()
    if max_delay == 0 or (state.due == 0 and state.members <= members):
        return state, set(lost)  # no member has disappeared: a lost answer, or the member has released its units
    if state.due and now >= state.due:
        returned = [member for member in state.candidates if member in load]
        state = replace(state, delay=0, due=0, candidates=(), balancing=False)
        if not returned:
            return state, set(lost)
        for of_kind in _by_kind(lost):
            for index, unit in enumerate(sorted(of_kind)):
                load[returned[index % len(returned)]].add(unit)
        return state, set()
    idle = [member for member, units in load.items() if not units]
    candidates = tuple(dict.fromkeys([*state.candidates, *idle]))
    delay = min(state.due - now, max_delay) if state.due else max_delay
    return replace(state, delay=delay, due=now + delay, candidates=candidates), set()


def _balance(
    state: LeaderMemory,
    configured: Set[Unit],
    held: Mapping[str, Set[Unit]],
    load: Mapping[str, set[Unit]],
    revoked: Mapping[str, set[Unit]],
    now: int,
    max_delay: int,
) -> tuple[LeaderMemory, set[Unit]]:
    """Revoke the units that members have above their share. Nothing is moved while units wait for a lost worker.

    Return the units of the surplus that do not run yet. No member can release them, so that they would run nowhere
    until the next rebalance: they are placed in this one.
    """
    if state.delay:
        return replace(state, balancing=False), set()
    surplus = _surplus(configured, held, load)
    freed = {unit for member, units in surplus.items() for unit in units - held[member]}
    for member, units in surplus.items():
        load[member].difference_update(units - held[member])
    surplus = {member: units & held[member] for member, units in surplus.items() if units & held[member]}
    if not surplus:
        return (replace(state, balancing=False, balancing_rounds=0) if state.balancing else state), freed
    rounds = state.balancing_rounds + 1 if state.balancing else state.balancing_rounds
    delay = min(_BACKOFF**rounds, max_delay) if state.balancing else 0
    if delay:
        return replace(state, balancing_rounds=rounds, delay=delay, due=now + delay), freed
    for member, units in surplus.items():
        revoked[member].update(units)
        load[member].difference_update(units)
    return replace(state, balancing=True, balancing_rounds=rounds), freed


def _surplus(
    configured: Set[Unit], held: Mapping[str, Set[Unit]], load: Mapping[str, set[Unit]]
) -> dict[str, set[Unit]]:
    """Return the units above the shares, those that do not run yet first. Connectors and tasks are balanced
    separately."""
    found: dict[str, set[Unit]] = {}
    if not any(load.values()):
        return found
    for connectors in (True, False):
        share, larger = divmod(sum(unit.is_connector is connectors for unit in configured), len(load))
        sizes = {member: [unit for unit in units if unit.is_connector is connectors] for member, units in load.items()}
        for member, units in sorted(sizes.items(), key=lambda item: (-len(item[1]), item[0])):
            if len(units) <= share:
                break
            limit = share + (larger > 0)
            larger -= 1
            if len(units) > limit:
                running = held[member]
                kept_first = sorted(units, key=lambda unit: (unit not in running, unit))
                found.setdefault(member, set()).update(kept_first[limit:])
    return found


def _place(units: Iterable[Unit], load: Mapping[str, set[Unit]]) -> None:
    """Give each unit to the member with the fewest of its kind, connectors first."""
    if not load:
        return
    for of_kind, connectors in zip(_by_kind(units), (True, False), strict=True):
        sizes = [
            (sum(unit.is_connector is connectors for unit in held), member) for member, held in sorted(load.items())
        ]
        heapq.heapify(sizes)
        for unit in sorted(of_kind):
            size, member = sizes[0]
            load[member].add(unit)
            heapq.heapreplace(sizes, (size + 1, member))


def _by_kind(units: Iterable[Unit]) -> tuple[list[Unit], list[Unit]]:
    """Return the connectors and the tasks."""
    both = list(units)
    return [unit for unit in both if unit.is_connector], [unit for unit in both if not unit.is_connector]
