"""What a worker of a group has instead of files: three topics, its membership, and requests to the leader."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import structlog

from headrace.broker.group_member import GroupCallbacks, GroupTimeouts, WorkerGroupMember
from headrace.broker.interfaces import KafkaClients
from headrace.errors import HeadraceError, RetriableError
from headrace.groups.lease import Lease
from headrace.groups.protocol import CONNECTOR, Unit
from headrace.groups.worker_group import GroupSettings, WorkerGroup
from headrace.groups.worker_requests import send_fencing, send_tasks
from headrace.redaction import Secrets
from headrace.runtime.group_api import GroupView
from headrace.runtime.worker_presence import WorkerPresence
from headrace.settings import WorkerSettings
from headrace.states import State
from headrace.stores import ConditionStore, ConfigStore, DesiredState, OffsetStore, StatusStore
from headrace.stores.config_fold import SessionKey
from headrace.stores.group_topics import access_findings, ensure_topics, group_topics, required
from headrace.stores.kafka_log import BackgroundLog, KafkaLog
from headrace.stores.log_writers import ProducerWriter, TransactionalWriter
from headrace.stores.statuses import outdated
from headrace.stores.worker_records import WorkerRecords

log = structlog.stdlib.get_logger("headrace.group")
OpenMember = Callable[[GroupCallbacks, GroupTimeouts], WorkerGroupMember]


class GroupRuntime:
    """The stores and the membership of a worker. Call ``start`` once and ``stop`` once."""

    def __init__(
        self,
        settings: WorkerSettings,
        kafka: KafkaClients,
        url: str,
        open_member: OpenMember,
        secrets: Secrets,
        *,
        refused: Callable[[HeadraceError], None],
        plugins: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
        lease: Lease | None = None,
    ) -> None:
        """``url``: of this worker's REST API, for other workers. ``tls``: for requests to them. ``plugins``: names of
        the installed connector plugins."""
        group, topics = settings.group_id or "", group_topics(settings)
        timeouts = GroupTimeouts(
            settings.session_timeout / 1000, settings.heartbeat_interval / 1000, settings.rebalance_timeout / 1000
        )
        self.membership = WorkerGroup(
            url,
            self,
            lambda callbacks: open_member(callbacks, timeouts),
            GroupSettings(
                settings.connect_protocol,
                timeouts,
                settings.rebalance_delay,
                settings.sync_timeout / 1000,
                settings.group_mixed,
            ),
            prepare=self._prepare,
            changed=self._ownership_changed,
            bar=self._bar,
            refused=refused,
            lease=lease,
        )
        self._kafka = kafka
        self._admin_settings = settings.admin
        self._topics = topics
        self.tls = tls
        configs, offsets, statuses = (topic.name for topic in topics)
        # Loggers are set by any worker, also where only the leader may write configurations.
        self._any_writer = ProducerWriter(kafka, {"client.id": f"{group}-configs"}, self.may_write)
        self._leader_writer: TransactionalWriter | None = None
        if settings.exactly_once != "disabled":
            client = {"client.id": f"{group}-configs-leader"}
            self._leader_writer = TransactionalWriter(kafka, f"connect-cluster-{group}", client, self._may_lead)
        self._config_log = KafkaLog(kafka, configs, f"{group}-configs", writer=self._leader_writer or self._any_writer)
        writer = ProducerWriter(kafka, {"client.id": f"{group}-offsets"}, self.may_write)
        self._offset_log = KafkaLog(kafka, offsets, f"{group}-offsets", read_back=False, writer=writer)
        self._kafka_statuses = KafkaLog(kafka, statuses, f"{group}-statuses")
        self.status_log = BackgroundLog(self._kafka_statuses, outdated)
        self.configs = ConfigStore(
            self._config_log,
            shared=True,
            replaying=lambda: self._config_log.replaying,
            append_by_any=lambda entries: self._config_log.append_by(self._any_writer, entries),
        )
        self.offsets = OffsetStore(self._offset_log)
        self.statuses = StatusStore(self.status_log, secrets, self.membership.generation)
        self.conditions = ConditionStore(self.status_log, secrets=secrets)
        self._group = group
        self.records = WorkerRecords(
            self.status_log, group, self.membership.me, replaying=lambda: self._kafka_statuses.replaying
        )
        self._presence = WorkerPresence(self.records, plugins, self.membership.leads)
        self._wake: Callable[[], None] = lambda: None
        self._bar_tasks: Callable[[], None] = lambda: None
        self._units: tuple[DesiredState | None, frozenset[Unit]] = None, frozenset()

    def start(self, wake: Callable[[], None], bar_tasks: Callable[[], None]) -> None:
        """Read the topics and join the group, on threads of the group. ``wake``: what this worker owns has changed."""
        self._wake, self._bar_tasks = wake, bar_tasks
        self.membership.start()
        self._presence.start()

    def stop(self) -> None:
        """Hand over the work and leave the group; the tasks have ended."""
        self._presence.stop()
        self.membership.stop()

    def close(self) -> None:
        """Write the last statuses and close the topics."""
        self._config_log.stop_reading()
        self._offset_log.stop_reading()
        self.conditions.close()
        self.offsets.close()
        self.configs.close()
        self._any_writer.close()

    def may_write(self) -> bool:
        """Return whether no other worker can have been given the work of this one."""
        return self.membership.may_write()

    def _may_lead(self) -> bool:
        return self.membership.leads() and self.may_write()

    def claim_configs(self) -> None:
        """Fence the config writers of earlier leaders, if this worker leads and sources are exactly once. Otherwise
        forget an earlier claim. Raise HeadraceError."""
        if self._leader_writer is not None and self._leader_writer.follow_leadership(self._config_log.topic):
            self._config_log.refresh()  # what an earlier leader has written until now

    def forward_tasks(self, connector: str, tasks: Sequence[Mapping[str, str]]) -> None:
        """Send the tasks of a connector to the leader. Raise HeadraceError."""
        send_tasks(*self._leader(), connector, tasks, self.tls)

    def _leader(self) -> tuple[str, SessionKey]:
        leader, key = self.membership.leader_url(), self.configs.session_key()
        if leader is None or key is None:
            what = "a leader" if leader is None else "a key for signatures"
            raise RetriableError(f"the group has not got {what} yet", code="group.no_leader")
        return leader, key

    def forward_fencing(self, connector: str) -> None:
        """Ask the leader to fence the producers of earlier tasks of a connector. Raise HeadraceError."""
        send_fencing(*self._leader(), connector, self.tls)

    # For the REST API, see :class:`headrace.runtime.group_api.WorkerGroupApi`

    def not_ready(self) -> str | None:
        return None if self.membership.has_joined() else self.membership.problem()

    def view(self) -> GroupView:
        records = self.records
        return GroupView(
            self._group, self.leader_url(), records.present(), records.clock_offsets(), list(records.problems())
        )

    def leads(self) -> bool:
        return self.membership.leads()

    def leader_url(self) -> str | None:
        return self.membership.leader_url()

    def owns(self, unit: Unit) -> bool:
        return self.membership.owns(unit)

    def owner_url(self, unit: Unit) -> str | None:
        return self.membership.owner_url(unit)

    @property
    def me(self) -> str:
        return self.membership.me

    def workers_of(self, connector: str) -> dict[str, str]:
        return self._workers(lambda name: name == connector)

    def others_with_tasks(self) -> frozenset[str]:
        return frozenset(url for worker, url in self._workers(lambda _: True).items() if worker != self.me)

    def _workers(self, wanted: Callable[[str], bool]) -> dict[str, str]:
        scheme = "https" if self.tls is not None else "http"
        found = {
            status.worker_id
            for task, status in self.statuses.tasks().items()
            if wanted(task.connector) and status.worker_id and status.state in (State.RUNNING, State.PAUSED)
        }
        return {worker: f"{scheme}://{worker}/" for worker in sorted(found)}

    def put_logger_level(self, logger: str, level: str) -> None:
        self.configs.put_logger_level(logger, level)

    def session_key(self) -> SessionKey | None:
        return self.configs.session_key()

    # What the membership knows of the config topic

    def offset(self) -> int:
        return self._config_log.offset()

    def wait_for_offset(self, offset: int, timeout: float) -> bool:
        return self._config_log.wait_for_offset(offset, timeout)

    def units(self) -> frozenset[Unit]:
        desired = self.configs.desired()
        known, units = self._units
        if known is not desired:
            units = units_of(desired)
            self._units = desired, units
        return units

    def _prepare(self, stop: threading.Event) -> None:
        with closing(self._kafka.admin(self._admin_settings)) as admin:
            required(access_findings(admin, self._group, self._topics))
            for warning in ensure_topics(admin, self._topics):
                log.warning("a topic of the group is not checked", reason=warning.message, next=warning.hint)
        for topic in (self._config_log, self._offset_log, self._kafka_statuses):
            if not topic.started:
                topic.start(stop)
        if (other := self.records.other_group()) is not None:
            raise RetriableError(other.message, code=other.code, hint=other.hint)

    def _ownership_changed(self) -> None:
        self._presence.joined()
        self._wake()

    def _bar(self) -> None:
        self._bar_tasks()
        self._offset_log.discard_unsent()
        self._config_log.discard_unsent()


def units_of(desired: DesiredState) -> frozenset[Unit]:
    """Return everything that the group has to run: all connectors, and the tasks that they have."""
    found = {Unit(name, CONNECTOR) for name in desired.configs}
    found |= {Unit(name, number) for name, tasks in desired.tasks.items() for number in range(len(tasks))}
    return frozenset(found)
