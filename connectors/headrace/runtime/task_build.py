"""Creates the pipeline of a task from its configuration: plugins, converters and Kafka clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from headrace.batch_spans import Tracing
from headrace.broker.connector_clients import ConnectorClients
from headrace.broker.interfaces import KafkaClients, NewTopic, Producer, TransactionalProducer
from headrace.conditions import RaiseCondition
from headrace.errors import InfrastructureError
from headrace.pipeline.control import TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue, queue_unusable
from headrace.pipeline.delivery import OpenDelivery
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.freshness_objective import FreshnessObjective
from headrace.pipeline.offset_gaps import OffsetGaps
from headrace.pipeline.partition_share import PartitionShare
from headrace.pipeline.refused_rows import SourceDeadLetters
from headrace.pipeline.sink import ConsumerFactory, SinkPipeline
from headrace.pipeline.source import SourcePipeline
from headrace.pipeline.source_delivery import AcknowledgedDelivery, ProducerFactory
from headrace.pipeline.source_transactions import Boundary, RestartingSource, TransactionalDelivery, TransactionFactory
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream.clients import StreamClients, StreamLimits
from headrace.pipeline.stream.decisions import DecisionClients, DecisionService, DecisionServices
from headrace.pipeline.stream.pipeline import StreamPipeline
from headrace.pipeline.topic_creation import TopicCreator, create_topic
from headrace.plugin import SinkContext, SourceContext, StreamContext, TaskContext
from headrace.registry import Registry
from headrace.runtime.config_origins import ConfigOrigins
from headrace.runtime.schedule import schedule
from headrace.runtime.source_fencing import SourceFencing
from headrace.runtime.stage_build import group_of, make_stages
from headrace.runtime.topic_tracking import TopicTracker
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings, StreamSettings, WorkerSettings
from headrace.states import TaskId
from headrace.stores import ConditionStore, ConnectorOffsets, MemoryLog, OffsetStore
from headrace.stores.conditions import condition_of
from headrace.validation import ConnectorConfig, Validator
from headrace.validation.exactly_once_rules import exactly_once_problem

Pipeline = SourcePipeline | RestartingSource | SinkPipeline | StreamPipeline
C = TypeVar("C", bound=TaskContext)
_STREAM_READS = {"max.partition.fetch.bytes": "1048576", "fetch.max.bytes": "4194304"}
"""Of the consumers of a stream task, which polls many times a second: 4 MB are enough ahead of it. The 16 MB of sinks
take 70 MB more memory in librdkafka."""
_STREAM_WRITES = {"linger.ms": "100"}
"""Of the producer of a stream task, as in Kafka Streams. A commit sends what waits, and readers see nothing before it:
larger batches cost no time and fewer requests."""


@dataclass(frozen=True)
class TaskBuilder:
    """Creates the pipelines of a worker's tasks."""

    registry: Registry
    validator: Validator
    kafka_clients: KafkaClients
    offsets: OffsetStore
    settings: WorkerSettings
    config_origins: ConfigOrigins
    tracker: TopicTracker = field(default_factory=TopicTracker)
    conditions: ConditionStore = field(default_factory=lambda: ConditionStore(MemoryLog()))
    decisions: DecisionServices = field(default_factory=DecisionServices)
    fencing: SourceFencing | None = None
    """None: sources deliver at least once."""
    instance: str = "headrace"
    """Distinguishes workers that run tasks of one stream application; does not change when the worker restarts."""
    tracing: Tracing | None = None

    def build(
        self,
        task: TaskId,
        config: Mapping[str, str],
        control: TaskControl,
        set_status_reason: Callable[[str | None], None],
        *,
        trusted: bool = False,
    ) -> Pipeline:
        """Create the pipeline. ``config`` has placeholders, which are resolved here. Raise ConfigError."""
        control = replace(
            control,
            raise_condition=self._raiser(task.connector),
            hop_headers=self.settings.hop_headers,
            spans=self.tracing.of(task.connector, str(task)) if self.tracing is not None else None,
        )
        config_origin = self.config_origins.of(task.connector, config)

        def one_task(parsed: ConnectorConfig) -> _OneTask:
            policy = FaultPolicy(parsed.settings, config_origin, control.stop_event, control.log, control.metrics)
            stages = make_stages(self.registry, self.settings, parsed.settings, policy, control.tap)
            return _OneTask(self, task, config, parsed, control, config_origin, set_status_reason, stages)

        parsed = self.validator.require_connector(config, trusted=trusted)
        if (fencing := self.fencing) is None or not isinstance(parsed.settings, SourceSettings):
            return one_task(parsed).pipeline()

        def start_over(committed: Callable[[], None]) -> SourcePipeline:
            resolved = self.validator.require_connector(config, trusted=trusted)  # a password may have changed
            return one_task(resolved).exactly_once(fencing, committed)

        return RestartingSource(start_over, control)

    def open_fencing_producer(self, config: Mapping[str, str], transactional_id: str) -> TransactionalProducer:
        """Create a producer with the settings of a connector's producers, to fence them. Raise ConfigError."""
        settings = self.validator.require_connector(config).settings
        return ConnectorClients(self.kafka_clients, self.settings, settings).transactional_producer(transactional_id)

    def _raiser(self, connector: str) -> RaiseCondition:
        def raise_condition(code: str, text: str, hint: str = "", *, count: int = 0, example: str = "") -> None:
            self.conditions.add(connector, condition_of(code, text, hint, count, example))

        return raise_condition


@dataclass(frozen=True)
class _OneTask:
    """Creates the pipeline of one task, its context and the factory of its Kafka clients."""

    worker: TaskBuilder
    task: TaskId
    written: Mapping[str, str]
    """The configuration with its placeholders."""
    config: ConnectorConfig
    control: TaskControl
    config_origin: Callable[[str], str]
    set_status_reason: Callable[[str | None], None]
    stages: Stages

    def pipeline(self) -> Pipeline:
        settings = self.config.settings
        if isinstance(settings, SinkSettings):
            return self._sink(settings)
        if isinstance(settings, StreamSettings):
            return self._stream(settings)
        return self._source(settings)

    def _sink(self, settings: SinkSettings) -> SinkPipeline:
        group, gaps = self._group, self._offset_gaps()
        clients, control = self._clients, self.control
        share = PartitionShare(
            clients.admin, group, settings.topics, settings.topics_regex, settings.tasks_max, control.log
        )
        consumers = ConsumerFactory(
            lambda: control.fence.watch(clients.consumer(f"connector-consumer-{self.task}", group)),
            settings.topics,
            settings.topics_regex,
            self._open_dead_letters if settings.dead_letter_topic else None,
            self._topic_used,
            gaps,
            share,
        )
        context = self._context(SinkContext, end_offset=gaps.end_offset)
        objective = None
        if settings.freshness_slo is not None:
            objective = FreshnessObjective(settings.freshness_slo / 1000, control.metrics.freshness, control)
        return SinkPipeline(self._new_task(), context, self.stages, consumers, control, objective=objective)

    def _stream(self, settings: StreamSettings) -> StreamPipeline:
        group, clients, control = self._group, self._clients, self.control
        transactional_id = f"{self.task}-{self.worker.instance}"
        directory = self.worker.settings.state_dir
        reads = {name: size for name, size in _STREAM_READS.items() if name not in self._consumer_settings}
        factory = StreamClients(
            lambda: control.fence.watch(clients.consumer(f"connector-consumer-{self.task}", group, **reads)),
            lambda: clients.transactional_producer(transactional_id, **_STREAM_WRITES),
            transactional_id,
            lambda: clients.reader(f"connector-reader-{self.task}", **reads),
            clients.admin,
            group,
            Path(directory, quote(self.task.connector, safe="")) if directory else None,
            self._open_dead_letters if settings.dead_letter_topic else None,
            self._topic_used,
            self._offset_gaps(),
            (lambda: self._deciding(settings.decide_timeout / 1000)) if settings.decide else nullcontext,
            self.worker.instance,
        )
        limits = StreamLimits(
            settings.commit_interval / 1000,
            settings.max_task_idle / 1000,
            settings.idle_after / 1000 if settings.idle_after is not None else None,
            settings.state_max_entries,
            settings.repartition_purge_interval / 1000,
        )
        return StreamPipeline(self._new_task(), self._context(StreamContext), self.stages, factory, control, limits)

    @contextmanager
    def _deciding(self, timeout: float) -> Iterator[None]:
        """Decide over HTTP by an instance of the task that has clients and converters of its own."""
        clients, control, worker = self._clients, self.control, self.worker
        context = replace(self._context(StreamContext), set_status_reason=lambda reason: None)
        made = DecisionClients(
            lambda: clients.reader(f"connector-decide-{self.task}", **{"isolation.level": "read_committed"}),
            # A caller waits for each record; those that wait at once are one batch anyway.
            lambda: clients.producer(f"connector-decide-{self.task}", **{"linger.ms": "0"}),
            clients.admin,
        )
        stages = make_stages(worker.registry, worker.settings, self.config.settings, self.stages.policy)
        service = DecisionService(self._new_task(), context, stages, made, control, timeout)
        try:
            service.start()
            worker.decisions.add(self.task.connector, service)
            try:
                yield
            finally:
                worker.decisions.remove(self.task.connector, service)
        finally:
            service.close()

    def _source(self, settings: ConnectorSettings) -> SourcePipeline:
        clients, control = self._clients, self.control
        producers = ProducerFactory(
            lambda: control.fence.watch(clients.producer(f"connector-producer-{self.task}")),
            self._topic_creation(settings),
            self.worker.settings.source_buffer,
            (lambda: SourceDeadLetters(self._open_dead_letters(), self.task)) if settings.dead_letter_topic else None,
        )
        return self._source_pipeline(partial(AcknowledgedDelivery, producers, self._positions), exactly_once=False)

    def exactly_once(self, fencing: SourceFencing, committed: Callable[[], None]) -> SourcePipeline:
        """Return the pipeline of a source that writes in transactions."""
        settings, clients = self.config.settings, self._clients
        assert isinstance(settings, SourceSettings)
        transactional_id = fencing.transactional_id(self.task)
        interval = settings.boundary_interval
        factory = TransactionFactory(
            lambda: clients.transactional_producer(transactional_id),
            transactional_id,
            fencing.permit(self.task, self.written),
            partial(fencing.position_records, self.task.connector),
            self._topic_creation(settings),
            self.worker.settings.source_buffer,
            Boundary(settings.boundary),
            self.control.flush_interval if interval is None else interval / 1000,
            (lambda sender: SourceDeadLetters(self._open_dead_letters(sender), self.task))
            if settings.dead_letter_topic
            else None,
        )
        supported = exactly_once_problem(self.config.plugin, self.config.own) is None
        return self._source_pipeline(partial(TransactionalDelivery, factory, committed), exactly_once=supported)

    def _topic_creation(self, settings: ConnectorSettings) -> Callable[[str], None]:
        wanted = settings.topic_creation if isinstance(settings, SourceSettings) else {}
        creator = TopicCreator(self._clients.admin, wanted)

        def ensure_topic(topic: str) -> None:
            creator.ensure(topic)
            self._topic_used(topic)

        return ensure_topic

    @property
    def _positions(self) -> ConnectorOffsets:
        return ConnectorOffsets(self.worker.offsets, self.task.connector)

    def _source_pipeline(self, open_delivery: OpenDelivery, *, exactly_once: bool) -> SourcePipeline:
        control = self.control
        context = self._context(
            SourceContext,
            offset_reader=self._positions,
            exactly_once=exactly_once,
            schedule=schedule,
            json_form=None if self.stages.read_values else self.stages.value_converter.json_form(),
            remaining=lambda records: control.metrics.set("source_record_remaining", records),
            lag=control.metrics.set_lag,
        )
        return SourcePipeline(self._new_task(), context, self.stages, open_delivery, control)

    def _new_task(self) -> Any:
        return self.config.plugin.cls.task_class()

    def _context(self, kind: type[C], **more: Any) -> C:
        """Return the context of the task: what every kind has, and ``more``."""
        control = self.control
        return kind(
            self.task,
            self.config.own,
            control.stop_event,
            control.log,
            self.config_origin,
            self.set_status_reason,
            raise_condition=control.raise_condition,
            **more,
        )

    @property
    def _clients(self) -> ConnectorClients:
        return ConnectorClients(self.worker.kafka_clients, self.worker.settings, self.config.settings)

    @property
    def _consumer_settings(self) -> Mapping[str, str]:
        return {**self.worker.settings.consumer, **self.config.settings.consumer_override}

    @property
    def _group(self) -> str:
        return self._consumer_settings.get("group.id", group_of(self.task.connector))

    def _topic_used(self, topic: str) -> None:
        self.worker.tracker.add(self.task, topic)

    def _offset_gaps(self) -> OffsetGaps:
        control = self.control
        return OffsetGaps(
            self._clients.admin,
            self._group,
            control.raise_condition,
            control.log,
            self._consumer_settings.get("auto.offset.reset", "earliest"),
            accounts=control.metrics.partitions,
        )

    def _open_dead_letters(self, sender: Producer | None = None) -> DeadLetterQueue:
        """Create the topic if it is missing. ``sender``: the producer to use instead of a new one."""
        settings, clients, control = self.config.settings, self._clients, self.control
        topic, place = settings.dead_letter_topic or "", self.config_origin("errors.deadletterqueue.topic.name")
        try:
            create_topic(clients.admin, NewTopic(topic, 1, settings.dead_letter_replication))
        except InfrastructureError as error:
            named = f"the dead letter queue {topic} (errors.deadletterqueue.topic.name, {place})"
            raise queue_unusable(error, named, topic, "created") from error
        producer = sender or control.fence.watch(clients.producer(f"connector-dlq-producer-{self.task}"))
        headers = settings.dead_letter_headers
        redact = self.worker.validator.secrets.of(self.task.connector)
        return DeadLetterQueue(
            producer, topic, self.task, control.metrics, context_headers=headers, config_origin=place, redact=redact
        )
