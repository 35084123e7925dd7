"""What the leader of a group writes without being asked: session keys, and statuses that have no other writer."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import structlog

from headrace.errors import HeadraceError
from headrace.groups.protocol import Unit
from headrace.metrics import now_ms
from headrace.runtime.membership import Membership
from headrace.states import State, Status, TaskId
from headrace.stores import ConfigStore, DesiredState, StatusStore
from headrace.stores.config_fold import SessionKey

log = structlog.stdlib.get_logger("headrace.group")
ALGORITHM = "HmacSHA256"
_KEY_BYTES = 32
KEY_TTL = 3_600_000
"""Milliseconds: Kafka Connect's default of ``inter.worker.key.ttl.ms``."""


class LeaderDuties:
    """Called on the reconciler's thread, whenever something has changed and in every tick."""

    def __init__(
        self,
        configs: ConfigStore,
        statuses: StatusStore,
        membership: Membership,
        clock: Callable[[], int] = now_ms,
        claim_configs: Callable[[], None] = lambda: None,
    ) -> None:
        """``clock`` returns epoch milliseconds. ``claim_configs`` fences earlier leaders when this worker has become
        the leader, and is called whether or not it leads."""
        self._configs = configs
        self._statuses = statuses
        self._membership = membership
        self._clock = clock
        self._claim_configs = claim_configs
        self._failed = False
        self._tidied: DesiredState | None = None

    def run(self, desired: DesiredState) -> None:
        """Do what is due, if this worker is the leader. What fails is tried again in the next tick."""
        try:
            self._claim_configs()
            if not self._membership.leads():
                return
            self._renew_session_key()
        except HeadraceError as error:  # tried again in the next tick
            if not self._failed:
                log.warning("the leader cannot write configurations", code=error.code, reason=str(error))
            self._failed = True
        else:
            self._failed = False
        for unit in self._membership.waiting():
            self._report_waiting(unit, desired)
        if desired is not self._tidied:
            self._tidied = desired
            self._forget_deleted(desired)

    def _renew_session_key(self) -> None:
        known = self._configs.session_key()
        if known is None or self._clock() - known.created >= KEY_TTL:
            self._configs.put_session_key(SessionKey(secrets.token_bytes(_KEY_BYTES), ALGORITHM, self._clock()))

    def _report_waiting(self, unit: Unit, desired: DesiredState) -> None:
        """The worker that would report this has gone."""
        if unit.connector not in desired.configs:
            return
        task = TaskId(unit.connector, unit.task)
        known = self._statuses.connector(unit.connector) if unit.is_connector else self._statuses.task(task)
        worker = known.worker_id if known is not None else ""
        if known is not None and known.state is State.UNASSIGNED:
            return
        reason = f"worker {worker} has left the group; another one takes over unless it returns in time"
        status = Status(State.UNASSIGNED, worker, reason=reason, since=self._clock())
        if unit.is_connector:
            self._statuses.put_connector(unit.connector, status)
        else:
            self._statuses.put_task(task, status)

    def _forget_deleted(self, desired: DesiredState) -> None:
        """Another leader may have ended between the deletion of a connector and that of its statuses."""
        for name in self._statuses.connectors() - desired.configs.keys():
            self._statuses.delete_connector(name)
