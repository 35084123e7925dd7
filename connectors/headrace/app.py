"""Creates a worker with all its parts from its settings."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import structlog

from headrace.batch_spans import open_tracing
from headrace.broker.bounded_read import read_between
from headrace.broker.client_choice import choose, open_group_member
from headrace.broker.client_traffic import TrafficRegistry
from headrace.broker.group_member import GroupCallbacks, GroupTimeouts, WorkerGroupMember
from headrace.broker.interfaces import Admin, KafkaClients, TransactionalProducer
from headrace.dead_letters.service import DeadLetterService
from headrace.errors import Finding, HeadraceError
from headrace.files import ConfigFile
from headrace.groups.protocol import PROTOCOL_TYPE
from headrace.groups.worker_group import worker_id_of
from headrace.pair_checks import KafkaTopic
from headrace.pipeline.stream.decisions import DecisionServices
from headrace.records import ConsumedBatch
from headrace.registry import PluginKind, Registry
from headrace.reporter import MetricsReporter, reporter_access
from headrace.rest.access_settings import rest_access
from headrace.rest.listeners import parse_listeners
from headrace.rest.log_levels import LogLevels
from headrace.rest.metrics_routes import Exposition
from headrace.rest.options import RestOptions, parse_header_rules
from headrace.rest.server import RestServer
from headrace.rest.tls import client_context
from headrace.runtime.config_origins import ConfigOrigin, ConfigOrigins
from headrace.runtime.connector_reasons import ConnectorReasons
from headrace.runtime.file_watch import FileWatch
from headrace.runtime.group_runtime import GroupRuntime, OpenMember
from headrace.runtime.leader_duties import LeaderDuties
from headrace.runtime.membership import Membership, SoloMembership
from headrace.runtime.reconciler import Reconciler
from headrace.runtime.source_fencing import SourceFencing
from headrace.runtime.supervisor import TaskSupervisor, Timing
from headrace.runtime.task_build import TaskBuilder
from headrace.runtime.task_configurator import TaskConfigs, TaskConfigurator
from headrace.runtime.topic_tracking import TopicTracker
from headrace.runtime.worker import Worker
from headrace.settings import KafkaClient, WorkerSettings
from headrace.stores import CompactedLog, ConditionStore, ConfigStore, FileLog, MemoryLog, OffsetStore, StatusStore
from headrace.stores.group_topics import access_findings, group_topics, topic_findings
from headrace.validation import Validator

log = structlog.stdlib.get_logger("headrace.worker")

_SAMPLED = 500
"""Records of a topic that are read as its newest ones."""
_ALL_ADDRESSES = ("0.0.0.0", "::")
_REST_OF_STOP = 5.0  # seconds that a worker may need to stop after its tasks
_ADMIN = {"request.timeout.ms": "5000"}
"""Of the worker's own client, which finds out that Kafka is silent. kafka-python's default is 30 s."""


class _Stores(NamedTuple):
    """What a worker stores, in files or in the topics of its group."""

    configs: ConfigStore
    offsets: OffsetStore
    statuses: StatusStore
    conditions: ConditionStore
    tracker: TopicTracker


class WorkerApplication:
    """A worker, standalone or of a group, by its settings.

    Call ``start`` once and ``stop`` once, also after a failed ``start``.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        validator: Validator,
        registry: Registry,
        *,
        refused: Callable[[HeadraceError], None],
        kafka_clients: KafkaClients | None = None,
        open_member: OpenMember | None = None,
    ) -> None:
        """``refused`` is called on a thread of the worker when Kafka refuses it permanently. Raise ConfigError.

        ``kafka_clients`` and ``open_member`` (of the worker group) are those of the settings by default.
        """
        self._settings = settings
        self._validator = validator
        self._registry = registry
        self._refused = refused
        traffic = TrafficRegistry()
        self._kafka_clients, kafka_client = (
            (kafka_clients, "") if kafka_clients is not None else _open_kafka_clients(settings, traffic)
        )
        self._open_member = open_member or _member_of(settings)
        headers = parse_header_rules(settings.response_headers)
        hosts = (*settings.allowed_hosts, *((settings.advertised_host,) if settings.advertised_host else ()))
        options = RestOptions(settings.allow_origin, settings.allow_methods, headers, hosts)
        exposition = Exposition(settings.metrics_names, kafka_client, traffic.snapshot)
        self._rest = RestServer(
            settings.listeners,
            options,
            access=rest_access(settings),
            exposition=exposition,
            admin_listeners=settings.admin_listeners,
        )
        self._reasons = ConnectorReasons(validator.secrets)
        self._levels = LogLevels()
        self._tracing = open_tracing() if settings.traces else None
        self._worker: Worker | None = None
        self._cleanup = ExitStack()

    @property
    def url(self) -> str:
        """The URL of the REST API, known after :meth:`start`."""
        return self._rest.url

    @property
    def worker(self) -> Worker:
        """The worker behind the REST API. Raise RuntimeError before :meth:`start`."""
        if self._worker is None:
            raise RuntimeError("the worker has not been started")
        return self._worker

    def start(self, files: Sequence[ConfigFile] = ()) -> None:
        """Bind the ports, lock the files, and start. ``files`` are valid connectors.

        Raises InfrastructureError (``rest.port_in_use``, ``store.locked`` …) before any task starts. If Kafka is
        unavailable, the worker waits for it and reports this.
        """
        if self._tracing is not None:
            self._cleanup.callback(self._tracing.close)
        self._rest.bind()
        self._cleanup.callback(self._rest.stop)
        group = self._open_group() if self._settings.group_id else None
        stores = self._group_stores(group) if group is not None else self._own_stores()
        worker = self._worker = self._wire(stores, files, group)
        worker.start()
        for file in files:
            worker.put_file(file.properties["name"], file.properties)
        dead_letters = DeadLetterService(
            self._registry, self._validator.secrets, self._kafka_clients, self._settings, worker.parsed_config
        )
        self._cleanup.callback(dead_letters.close)
        self._rest.start(worker, self._registry, dead_letters, group, self._levels)
        # Stopped before the worker's threads, so that requests to a stopping worker are answered.
        self._cleanup.callback(self._rest.stop)
        self._start_reporter(worker, group)
        watch = FileWatch(files, lambda name: worker.info(name).config, self._reasons)
        self._cleanup.callback(watch.stop)
        watch.start()
        log.info("worker started", url=self.url, connectors=worker.connectors())

    def _start_reporter(self, worker: Worker, group: GroupRuntime | None) -> None:
        settings = self._settings
        if settings.reporter_url is None:
            return
        reporter = MetricsReporter(
            worker,
            worker_id_of(_advertised_url(settings, self._rest.url)),
            reporter_access(settings),
            interval=settings.reporter_interval / 1000,
            namespace=settings.reporter_namespace,
            retention=settings.reporter_retention,
            group_events=group.membership.events if group is not None else None,
        )
        self._cleanup.callback(reporter.stop)
        reporter.start()

    def stop(self) -> None:
        """Stop everything in order. Takes at most a few seconds more than ``task.shutdown.graceful.timeout.ms``."""
        self._cleanup.close()

    def _own_stores(self) -> _Stores:
        """Return the stores of a standalone worker: files, and memory."""
        settings, secrets = self._settings, self._validator.secrets
        offsets = OffsetStore(self._log(settings.offsets_file))
        self._cleanup.callback(offsets.close)
        configs = ConfigStore(self._log(settings.configs_file))
        self._cleanup.callback(configs.close)
        conditions = ConditionStore(self._log(_beside(settings.offsets_file)), secrets=secrets)
        self._cleanup.callback(conditions.close)
        return _Stores(configs, offsets, StatusStore(MemoryLog(), secrets), conditions, self._tracker(MemoryLog()))

    def _open_group(self) -> GroupRuntime:
        group = GroupRuntime(
            self._settings,
            self._kafka_clients,
            _advertised_url(self._settings, self._rest.url),
            self._open_member,
            self._validator.secrets,
            refused=self._refused,
            plugins=frozenset(plugin.name for plugin in self._registry.plugins(PluginKind.CONNECTOR)),
            tls=client_context(self._settings) if self._rest.url.startswith("https:") else None,
        )
        self._registry.share(group.me, group.records.with_plugin)
        self._cleanup.callback(group.close)
        return group

    def _group_stores(self, group: GroupRuntime) -> _Stores:
        return _Stores(group.configs, group.offsets, group.statuses, group.conditions, self._tracker(group.status_log))

    def _tracker(self, topics: CompactedLog) -> TopicTracker:
        return TopicTracker(
            topics, enabled=self._settings.topic_tracking, reset_allowed=self._settings.topic_tracking_reset
        )

    def _wire(self, stores: _Stores, files: Sequence[ConfigFile], group: GroupRuntime | None) -> Worker:
        settings = self._settings
        worker_id = worker_id_of(_advertised_url(settings, self._rest.url))
        origins = {file.properties["name"]: ConfigOrigin(file.path, file.properties, file.positions) for file in files}
        decisions = DecisionServices()

        def on_control_thread(call: Callable[[], None]) -> None:
            reconciler.call(call)

        fencing = None if group is None else self._fencing(group, lambda: builder, on_control_thread)
        enabled = settings.exactly_once == "enabled"
        builder = TaskBuilder(
            self._registry,
            self._validator,
            self._kafka_clients,
            stores.offsets,
            settings,
            ConfigOrigins(origins),
            stores.tracker,
            stores.conditions,
            decisions,
            fencing if enabled else None,
            f"{socket.gethostname()}-{worker_id}",
            self._tracing,
        )
        timing = Timing(
            settings.offset_flush_interval / 1000,
            settings.offset_flush_timeout / 1000,
            settings.shutdown_timeout / 1000,
        )

        def wake() -> None:
            reconciler.wake()

        def deliver(planned: TaskConfigs) -> None:
            reconciler.post(planned)

        supervisor = TaskSupervisor(worker_id, builder.build, stores.statuses.put_task, timing, wake)
        configurator = TaskConfigurator(self._validator, deliver, self._reasons)
        membership: Membership = SoloMembership(worker_id) if group is None else group.membership
        duties = None
        if group is not None:
            duties = LeaderDuties(stores.configs, stores.statuses, membership, claim_configs=group.claim_configs)
        forward = None if group is None else group.forward_tasks
        reconciler = Reconciler(
            stores.configs,
            stores.statuses,
            membership,
            supervisor,
            configurator,
            set_level=self._levels.set_level,
            forward_tasks=forward,
            duties=duties,
        )
        worker = Worker(
            reconciler,
            supervisor,
            stores.statuses,
            stores.offsets,
            self._validator,
            self._registry,
            lambda: self._kafka_clients.admin({**_ADMIN, **settings.admin}),
            self._refused,
            settings.consumer.get("group.id"),
            stores.tracker,
            stores.conditions,
            self._reasons,
            lambda: self._kafka_clients.reader(settings.consumer),
            decisions,
            group.not_ready if group is not None else lambda: None,
            settings.group_id,
            group.membership.ended if group is not None else lambda: None,
            fencing.fence if fencing is not None else None,
            self._validator.delivery,
        )
        if group is not None:
            self._cleanup.callback(group.stop)  # after its tasks have ended
            group.start(wake, supervisor.bar)
        # The control thread and every task must have ended before the files they write to are closed.
        self._cleanup.callback(lambda: worker.stop(settings.shutdown_timeout / 1000 + _REST_OF_STOP))
        return worker

    def _fencing(
        self,
        group: GroupRuntime,
        builder: Callable[[], TaskBuilder],
        call: Callable[[Callable[[], None]], None],
    ) -> SourceFencing | None:
        """Return the fencing of exactly-once sources; None when the worker does not take part in it."""
        settings = self._settings
        if settings.exactly_once == "disabled":
            return None

        def open_producer(config: Mapping[str, str], name: str) -> TransactionalProducer:
            return builder().open_fencing_producer(config, name)

        return SourceFencing(settings.group_id or "", settings.offset_topic or "", group, open_producer, call)

    @staticmethod
    def _log(path: str | None) -> CompactedLog:
        return FileLog(Path(path).expanduser()) if path else MemoryLog()


def _beside(offsets_file: str | None) -> str | None:
    """Conditions are kept where offsets are: ``offsets.jsonl``, ``offsets.conditions.jsonl``."""
    if not offsets_file:
        return None
    path = Path(offsets_file)
    return str(path.with_name(f"{path.stem}.conditions{path.suffix}"))


def _open_kafka_clients(settings: WorkerSettings, traffic: TrafficRegistry | None) -> tuple[KafkaClients, str]:
    """Return the client factory, and the name and version of the library."""
    client = choose(settings.kafka_client)
    log.info("kafka client", client=client.name, version=client.title, reason=client.reason)
    reported = traffic if "kafka-connect" in settings.metrics_names else None
    return client.open(settings.client_settings(), reported), client.title


def kafka_admin_check(settings: Mapping[str, str], client: KafkaClient = "auto") -> str:
    """Return the Kafka cluster's id: it responds and accepts the credentials. Raise as ``broker.interfaces`` says."""
    admin = choose(client).open(settings).admin({})
    try:
        return admin.cluster_id()
    finally:
        admin.close()


def look_up_topics(
    settings: Mapping[str, str], client: KafkaClient, named: Set[str], wanted: Callable[[str], bool]
) -> dict[str, KafkaTopic]:
    """Return the ``named`` topics that exist or are forbidden, and the ``wanted`` ones that exist.

    Raise the errors of ``broker.interfaces``.
    """
    admin = choose(client).open(settings).admin({})
    try:
        return kafka_topics(admin, named, wanted)
    finally:
        admin.close()


def sample_topics(settings: WorkerSettings, topics: Sequence[str]) -> dict[str, list[ConsumedBatch]]:
    """Return the newest records of each topic that exists and has any. Raise the errors of ``broker.interfaces``."""
    clients, _ = _open_kafka_clients(settings, None)
    return newest_records(clients, settings, topics)


def newest_records(
    clients: KafkaClients, settings: WorkerSettings, topics: Sequence[str]
) -> dict[str, list[ConsumedBatch]]:
    """As :func:`sample_topics`, with a factory of clients."""
    admin = clients.admin(settings.admin)
    try:
        begins, ends = admin.begin_offsets(topics), admin.end_offsets(topics)
    finally:
        admin.close()
    partitions = Counter(place.topic for place in ends)
    start = {
        place: max(begins.get(place, 0), end - max(1, _SAMPLED // partitions[place.topic]))
        for place, end in ends.items()
    }
    found: dict[str, list[ConsumedBatch]] = {}
    reader = clients.reader(settings.consumer)
    try:
        for poll in read_between(reader, start, ends):
            for batch in poll.batches:
                found.setdefault(batch.topic_partition.topic, []).append(batch)
    finally:
        reader.close()
    return found


def look_up_groups(settings: Mapping[str, str], client: KafkaClient, groups: Sequence[str]) -> dict[str, bool]:
    """Return whether the user may read as a member of each group. Raise the errors of ``broker.interfaces``."""
    admin = choose(client).open(settings).admin({})
    try:
        return {group: admin.may_read_as(group) for group in groups}
    finally:
        admin.close()


def look_up_worker_group(settings: WorkerSettings) -> list[Finding]:
    """Return what is wrong with the topics and the ACLs of the worker's group. Raise the errors of ``broker``."""
    clients, _ = _open_kafka_clients(settings, None)
    return worker_group_findings(clients, settings)


def worker_group_findings(clients: KafkaClients, settings: WorkerSettings) -> list[Finding]:
    """As :func:`look_up_worker_group`, with a factory of clients."""
    topics = group_topics(settings)
    with closing(clients.admin(settings.admin)) as admin:
        return [*access_findings(admin, settings.group_id or "", topics), *topic_findings(admin, topics)]


def kafka_topics(admin: Admin, named: Set[str], wanted: Callable[[str], bool]) -> dict[str, KafkaTopic]:
    """As :func:`look_up_topics`, with an open client."""
    visible = [topic for topic in admin.topics() if topic in named or wanted(topic)]
    partitions = Counter(partition.topic for partition in admin.end_offsets(visible))
    settings = admin.topic_configs([topic for topic in visible if topic in named])
    operations = admin.topic_operations(sorted({*named, *visible}))
    return {
        topic: KafkaTopic(partitions[topic], settings.get(topic, {}).get("cleanup.policy"), operations.get(topic))
        for topic in partitions.keys() | operations.keys()
    }


def _member_of(settings: WorkerSettings) -> OpenMember:
    def open_member(callbacks: GroupCallbacks, timeouts: GroupTimeouts) -> WorkerGroupMember:
        return open_group_member(
            settings.client_settings(), settings.group_id or "", PROTOCOL_TYPE, callbacks, timeouts
        )

    return open_member


def _advertised_url(settings: WorkerSettings, url: str) -> str:
    """Return the URL for other workers, which contains the worker's id: that of the first listener by default."""
    scheme, _, address = url.partition("://")
    host, _, port = address.rpartition(":")
    if settings.group_id and any(
        listener.host in _ALL_ADDRESSES for listener in parse_listeners(settings.listeners)[:1]
    ):
        host = socket.gethostname()  # as Kafka Connect
    return f"{scheme}://{settings.advertised_host or host}:{settings.advertised_port or port}"
