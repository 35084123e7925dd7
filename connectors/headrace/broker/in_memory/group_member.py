"""A coordinator of groups with metadata of their own, and their members, for tests with several workers."""

from __future__ import annotations

import threading
from itertools import count

from headrace.broker.group_member import GroupCallbacks, JoinedGeneration
from headrace.errors import RetriableError


class InMemoryCoordinator:
    """One group. Rebalances wait until all members have joined again. Thread-safe."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.generation = 0
        self.members: dict[str, InMemoryGroupMember] = {}
        self._joining: dict[str, dict[str, bytes]] = {}
        self._leader = ""
        self._ids = count()

    def member(self, callbacks: GroupCallbacks) -> InMemoryGroupMember:
        """Return a new member, which joins with its first :meth:`InMemoryGroupMember.join`."""
        return InMemoryGroupMember(self, f"member-{next(self._ids)}", callbacks)

    @property
    def rebalancing(self) -> bool:
        """Whether some members have joined again, and others have not yet."""
        return bool(self._joining)

    def join(self, member: InMemoryGroupMember) -> JoinedGeneration:
        """Wait for all members, and return the assignment. Raise RetriableError for a member that was removed."""
        protocols = dict(member.callbacks.protocols())
        with self.changed:
            self.members.setdefault(member.id, member)
            self._joining[member.id] = protocols
            self._complete()
            self.changed.wait_for(lambda: member.result is not None or member.id not in self.members)
            result, member.result = member.result, None
            if result is None:
                raise RetriableError("the coordinator removed this member", code="kafka.rebalance")
            return result

    def expel(self, member: InMemoryGroupMember) -> None:
        """Remove a member of which the coordinator has not heard in time. It learns this when it joins again."""
        member.expelled = True
        self.remove(member)

    def remove(self, member: InMemoryGroupMember) -> None:
        """Remove a member, which has left."""
        with self.changed:
            self.members.pop(member.id, None)
            self._joining.pop(member.id, None)
            member.rejoin = True
            for other in self.members.values():
                other.rejoin = True
            self._complete()
            self.changed.notify_all()

    def _complete(self) -> None:
        if not self.members or self._joining.keys() != self.members.keys():
            for name, member in self.members.items():
                member.rejoin = member.rejoin or (bool(self._joining) and name not in self._joining)
            self.changed.notify_all()
            return
        self.generation += 1
        if self._leader not in self.members:
            self._leader = min(self.members)
        offered = [list(protocols) for protocols in self._joining.values()]
        protocol = next(name for name in offered[0] if all(name in names for names in offered))
        metadata = {member: protocols[protocol] for member, protocols in self._joining.items()}
        leader = self.members[self._leader]
        found = leader.callbacks.assign(self.generation, self._leader, protocol, metadata)
        self._joining = {}
        for name, member in self.members.items():
            member.rejoin = False
            member.result = JoinedGeneration(self.generation, name, protocol, found[name])
        self.changed.notify_all()


class InMemoryGroupMember:
    """See :class:`headrace.broker.group_member.WorkerGroupMember`. ``cut_off``: the coordinator does not answer it."""

    def __init__(self, coordinator: InMemoryCoordinator, member_id: str, callbacks: GroupCallbacks) -> None:
        self._coordinator = coordinator
        self.id = member_id
        self.callbacks = callbacks
        self.rejoin = True
        self.result: JoinedGeneration | None = None
        self.cut_off = False
        self.expelled = False

    def join(self) -> JoinedGeneration | None:
        if self.cut_off:
            raise RetriableError("the in-memory coordinator does not answer", code="kafka.unreachable")
        if not self.rejoin:
            return None
        if self.expelled:
            self.expelled = False
            self.callbacks.lost()
        sent = self.callbacks.clock()
        joined = self._coordinator.join(self)
        self.callbacks.renewed(sent)
        return joined

    def poll(self) -> None:
        if not self.cut_off and not self.expelled:
            self.callbacks.renewed(self.callbacks.clock())

    def request_rejoin(self) -> None:
        self.rejoin = True

    def connection_problem(self) -> str | None:
        return "the in-memory coordinator does not answer" if self.cut_off else None

    def leave(self) -> None:
        self._coordinator.remove(self)
