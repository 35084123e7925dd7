"""A worker's membership in its group: joins on a thread of its own, and says which units the worker has to run.

An assignment is an increment: units that are revoked are released when the worker has stopped them, and then the worker
joins again. A worker whose lease ends bars its tasks before the coordinator can give them to another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog

from headrace.broker.group_member import GroupCallbacks, GroupTimeouts, JoinedGeneration, WorkerGroupMember
from headrace.errors import HeadraceError, InfrastructureError, RetriableError
from headrace.groups.leadership import ConfigView, Leadership, LeaderView
from headrace.groups.lease import Lease
from headrace.groups.protocol import (
    CONFIG_MISMATCH,
    GroupAssignment,
    Unit,
    WorkerState,
    WorkerTraits,
    decode_assignment,
    holding,
    offered,
)
from headrace.worker_events import RecentEvents, rebalance

log = structlog.stdlib.get_logger("headrace.group")

_MARGIN = 0.5
"""Seconds before the end of the lease at which all tasks are barred."""
_TICK = 0.5
"""Seconds between two checks of the group's thread."""
_BACKOFF = 1.0
_STOP = 8.0


@dataclass(frozen=True)
class GroupSettings:
    """Settings of the group. ``max_delay`` is milliseconds, the others are seconds."""

    protocol: str = "sessioned"
    timeouts: GroupTimeouts = field(default_factory=GroupTimeouts)
    max_delay: int = 30_000
    sync_timeout: float = 3.0
    mixed: bool = False
    """Whether workers of Kafka Connect may be members, too."""


class WorkerGroup:
    """Implements :class:`headrace.runtime.membership.Membership`. Thread-safe. Call ``start`` and ``stop`` once."""

    def __init__(
        self,
        url: str,
        configs: ConfigView,
        open_member: Callable[[GroupCallbacks], WorkerGroupMember],
        settings: GroupSettings,
        *,
        prepare: Callable[[threading.Event], None] = lambda stop: None,
        changed: Callable[[], None],
        bar: Callable[[], None],
        refused: Callable[[HeadraceError], None],
        lease: Lease | None = None,
    ) -> None:
        """``url``: of this worker's REST API, for the others. The functions are called on threads of the group.

        ``prepare`` is called before the worker joins, again after each RetriableError; it returns early when its event
        is set. ``changed``: what this worker owns has changed. ``bar`` ends the effects of all tasks; it is called
        again until the lease is renewed. ``refused``: Kafka refuses this worker permanently.
        """
        self._url = url if url.endswith("/") else f"{url}/"
        self._configs = configs
        self._open_member = open_member
        self._settings = settings
        self._prepare = prepare
        self._changed = changed
        self._bar = bar
        self._refused = refused
        self._lease = lease or Lease(settings.timeouts.session)
        self.events = RecentEvents()
        """Of the group: one for each generation that this worker has joined."""
        self._lock = threading.Lock()  # guards the fields below
        self._held: frozenset[Unit] = frozenset()
        self._revoked: frozenset[Unit] = frozenset()
        self._last: GroupAssignment | None = None
        self._member_id = ""
        self._generation = -1
        self._view = LeaderView()
        self._due: float | None = None
        self._rejoining = False
        self._barred = True  # until the lease has begun
        self._leaving = False
        self._refusal = False
        self._problem: str | None = "the worker has not joined its group yet"
        self._leadership = Leadership(
            configs,
            settings.max_delay,
            settings.sync_timeout,
            lambda: round(self._lease.now() * 1000),
            mixed=settings.mixed,
        )
        self._foreign: frozenset[str] = frozenset()
        self._member: WorkerGroupMember | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._has_joined = threading.Event()
        self._thread = threading.Thread(target=self._run, name="group", daemon=True)
        self._watch = threading.Thread(target=self._watch_lease, name="group-lease", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._watch.start()

    def stop(self) -> None:
        """Hand over the units, which the worker has stopped, and leave the group."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP)
        self._stopped.set()

    def ended(self) -> str | None:
        """Return which thread of the group has ended although the worker was not stopped or refused."""
        if self._stopping.is_set() or self._refusal:
            return None
        return next((item.name for item in (self._thread, self._watch) if item.ident and not item.is_alive()), None)

    # The membership

    @property
    def me(self) -> str:
        return worker_id_of(self._url)

    def generation(self) -> int:
        return max(self._generation, 0)

    def owns(self, unit: Unit) -> bool:
        with self._lock:
            return unit in self._held and unit not in self._revoked and not self._barred and not self._leaving

    def leads(self) -> bool:
        with self._lock:
            return self._is_leader() and not self._barred

    def workers(self) -> frozenset[str] | None:
        with self._lock:
            return frozenset(map(worker_id_of, self._view.members)) if self._is_leader() else None

    def waiting(self) -> frozenset[Unit]:
        with self._lock:
            return self._view.waiting if self._is_leader() else frozenset()

    def runs(self, units: Set[Unit]) -> None:
        self.configs_changed()
        with self._lock:
            if not self._revoked or self._revoked & units:
                return
            self._held -= self._revoked
            self._revoked = frozenset()
        self._rejoin("revoked work was stopped")

    def has_joined(self) -> bool:
        """Return whether the worker has been a member since its start."""
        return self._has_joined.is_set()

    # For the REST API and the status of the worker

    def leader_url(self) -> str | None:
        """Return the URL of the leader's REST API; None while it is not known."""
        with self._lock:
            if self._last is None or (self._is_leader() and self._barred):
                return None
            return self._last.leader_url

    def owner_url(self, unit: Unit) -> str | None:
        """Return the URL of the worker that has a unit, if this worker is the leader and knows it."""
        with self._lock:
            return self._view.urls.get(unit) if self._is_leader() else None

    def problem(self) -> str | None:
        """Return why this worker is not a member of its group; None when it is."""
        return self._problem

    def may_write(self) -> bool:
        """Return whether no other worker can have been given the work of this one."""
        return self._lease.left() > 0

    def configs_changed(self) -> None:
        """Note that the config topic has changed: the leader assigns new connectors and tasks."""
        with self._lock:
            due = self._is_leader() and self._configs.units() != self._view.units
        if due:
            self._rejoin("connectors or tasks were created or deleted")

    # Callbacks of the client, on its thread

    def callbacks(self) -> GroupCallbacks:
        return GroupCallbacks(self._protocols, self._assign, self._lease.renew, self._lost, self._lease.now)

    def _protocols(self) -> Sequence[tuple[str, bytes]]:
        with self._lock:
            held = holding(self._last, self._held) if self._last is not None else None
            traits = WorkerTraits(leaving=self._leaving)
        state = WorkerState(self._url, self._configs.offset(), held, traits)
        return [item for item in offered(state, self._settings.protocol) if item[0] != "default"]

    def _assign(
        self, generation: int, leader: str, protocol: str, metadata: Mapping[str, bytes]
    ) -> Mapping[str, bytes]:
        view, answers = self._leadership.decide(generation, self._generation, leader, protocol, metadata)
        with self._lock:
            self._view = view
        return answers

    def _lost(self) -> None:
        self._lease.end()
        with self._lock:
            had, self._held, self._revoked, self._last = self._held, frozenset(), frozenset(), None
            self._barred, self._generation, self._rejoining = True, -1, False
        self._leadership.forget()
        if not self._stopping.is_set():
            self._problem = "the coordinator has removed the worker from its group"
            log.warning("removed from the group", units=len(had), next="joins again")
        self._wake.set()

    # The thread of the group

    def _run(self) -> None:
        failed: str | None = None
        try:
            while not self._stopping.is_set():
                try:
                    self._step()
                except RetriableError as error:
                    self._problem = str(error)
                    if failed is None:
                        log.warning("waiting for the group", code=error.code, reason=str(error))
                    failed = str(error)
                    self._stopping.wait(_BACKOFF)
                except HeadraceError as error:
                    self._problem, self._refusal = str(error), True
                    self._refused(error)
                    return
                else:
                    if failed is not None:
                        log.info("the group responds again")
                    failed = None
                self._wake.wait(_TICK)
                self._wake.clear()
        finally:
            self._leave()

    def _step(self) -> None:
        if self._member is None:
            self._prepare(self._stopping)
            self._member = self._open_member(self.callbacks())
        joined = self._member.join()
        if joined is not None:
            self._apply(joined)
        self._member.poll()
        self._problem = None
        with self._lock:
            due = self._due is not None and self._lease.now() >= self._due
            if due:
                self._due = None
        if due:
            self._rejoin("the delay for lost workers has ended")

    def _apply(self, joined: JoinedGeneration) -> None:
        change = decode_assignment(joined.assignment)
        self._look_for_foreign(change, leads=change.leader == joined.member)
        with self._lock:
            self._generation, self._member_id = joined.generation, joined.member
            self._rejoining = False
            if change.error == CONFIG_MISMATCH:
                self._last = holding(change, self._held)
        if change.error == CONFIG_MISMATCH:
            self._rejoin("the leader had not read the config topic to its end")
            return
        # Work starts with the configurations that the leader knew; until then nothing of the old work stops either.
        if not self._configs.wait_for_offset(change.config_offset, self._settings.sync_timeout):
            log.warning("waiting for the config topic", offset=change.config_offset, read=self._configs.offset())
            while not self._configs.wait_for_offset(change.config_offset, _TICK):
                if self._stopping.is_set():
                    return
                if self._member is not None:
                    self._member.poll()
        with self._lock:
            self._revoked = self._held & frozenset(change.revoked)
            self._held |= frozenset(change.assigned)
            self._last = change
            self._barred = self._lease.left() <= _MARGIN
            self._due = self._lease.now() + change.delay / 1000 if change.delay else None
            leader = self._is_leader()
        self._has_joined.set()
        if not leader:
            self._leadership.forget()
        log.info(
            "joined the group",
            generation=joined.generation,
            leader=change.leader_url,
            assigned=len(change.assigned),
            revoked=len(change.revoked),
            units=len(self._held),
        )
        text = f"generation {joined.generation} of the group: this worker runs {len(self._held)} connectors and tasks"
        self.events.add(
            rebalance(
                "group rebalanced",
                f"{text}, {len(change.assigned)} of them new; {len(change.revoked)} were revoked",
                group={"generation": joined.generation, "leader": change.leader_url},
            )
        )
        self._changed()
        self.configs_changed()

    def _look_for_foreign(self, change: GroupAssignment, *, leads: bool) -> None:
        """Raise InfrastructureError when this worker would enter a group of workers of Kafka Connect. One that joins
        a group of this worker gets no work while a worker of headrace leads, and is reported."""
        with self._lock:
            foreign = self._view.foreign if leads else frozenset()
        if not leads and change.traits is None:
            foreign = frozenset({change.leader_url or "an unknown address"})
        if self._settings.mixed or foreign == self._foreign:
            return
        self._foreign = foreign
        if not foreign:
            log.info("the group has no workers of Kafka Connect any more")
            return
        named = ", ".join(sorted(foreign))
        if not self._has_joined.is_set():
            raise InfrastructureError(
                f"the worker group has workers of Kafka Connect ({named}), and this worker does not join them: each "
                "kind would be assigned connectors that it has no plugin for",
                code="group.mixed",
                hint="stop them and start this worker again (docs/take-over.md), or give it a group.id and topics of "
                "its own; group.mixed: true allows both kinds in one group, for a trial",
            )
        log.error(
            "a worker of Kafka Connect has joined the group",
            code="group.mixed",
            workers=named,
            reason="it gets no work while a worker of headrace leads the group"
            if leads
            else "it leads the group, and may assign connectors to itself that it has no plugin for",
            next="stop it, or give it a group.id and topics of its own",
        )

    def _leave(self) -> None:
        if self._member is None:
            return
        with self._lock:
            self._leaving, self._held, self._revoked = True, frozenset(), frozenset()
            member_of_one = self._last is not None
        try:
            if member_of_one and self._lease.left() > 0:
                # Reporting no work as a worker that leaves lets the leader give it to others without a delay.
                self._member.request_rejoin()
                self._member.join()
        except HeadraceError as error:
            log.warning("the work is not handed over", code=error.code, reason=str(error))
        self._member.leave()
        log.info("left the group")

    def _rejoin(self, reason: str) -> None:
        with self._lock:
            if self._rejoining:
                return
            self._rejoining = True
        log.debug("rejoin", reason=reason)
        if self._member is not None:
            self._member.request_rejoin()
        self._wake.set()

    def _is_leader(self) -> bool:
        return self._last is not None and self._last.leader == self._member_id

    # The thread of the lease

    def _watch_lease(self) -> None:
        told = True
        while not self._stopped.is_set():
            left = self._lease.left()
            if left <= _MARGIN:
                with self._lock:
                    self._barred = True
                self._bar()
                if not told:
                    log.error(
                        "cut off from the group: all tasks are stopped",
                        reason="the coordinator does not answer; other workers may take over",
                    )
                    self._changed()
                told = True
            elif self._barred and self._last is not None:
                with self._lock:
                    self._barred = False
                told = False
                self._changed()
            else:
                told = False
            self._stopped.wait(min(max(left - _MARGIN, 0.05), 0.5) if left > _MARGIN else 0.2)


def worker_id_of(url: str) -> str:
    """Return the id of the worker with this REST URL: ``host:port``."""
    return urlsplit(url).netloc
