"""Creates the pipeline of a task from its configuration: plugins, converters and Kafka clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from headrace.broker.connector_clients import ConnectorClients
from headrace.broker.interfaces import KafkaClients, NewTopic, Producer
from headrace.conditions import RaiseCondition
from headrace.errors import InfrastructureError
from headrace.pipeline.control import TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue, queue_unusable
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.offset_gaps import OffsetGaps
from headrace.pipeline.partition_share import PartitionShare
from headrace.pipeline.refused_rows import SourceDeadLetters
from headrace.pipeline.sink import ConsumerFactory, SinkPipeline
from headrace.pipeline.source import ProducerFactory, SourcePipeline
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream import StreamClients, StreamPipeline, StreamTiming
from headrace.pipeline.topic_creation import TopicCreator, create_topic
from headrace.plugin import SinkContext, SourceContext, StreamContext
from headrace.registry import Registry
from headrace.runtime.config_origins import ConfigOrigins
from headrace.runtime.schedule import schedule
from headrace.runtime.stage_build import group_of, make_stages
from headrace.runtime.topic_tracking import TopicTracker
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings, StreamSettings, WorkerSettings
from headrace.states import TaskId
from headrace.stores import ConditionStore, ConnectorOffsets, MemoryLog, OffsetStore
from headrace.stores.conditions import condition_of
from headrace.validation import ConnectorConfig, Validator

Pipeline = SourcePipeline | SinkPipeline | StreamPipeline


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
    instance: str = "headrace"
    """Distinguishes workers that run tasks of one stream application; does not change when the worker restarts."""

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
        parsed = self.validator.require_connector(config, trusted=trusted)
        control = replace(control, raise_condition=self._raiser(task.connector))
        config_origin = self.config_origins.of(task.connector, config)
        policy = FaultPolicy(parsed.settings, config_origin, control.stop_event, control.log, control.metrics)
        stages = make_stages(self.registry, self.settings, parsed.settings, policy)
        if isinstance(parsed.settings, SinkSettings):
            overrides = {**self.settings.consumer, **parsed.settings.consumer_override}
            group = overrides.get("group.id", group_of(task.connector))
            reset = overrides.get("auto.offset.reset", "earliest")
            gaps = self._offset_gaps(self._clients(parsed.settings), control, group, reset)
            sink = SinkContext(
                task,
                parsed.own,
                control.stop_event,
                control.log,
                config_origin,
                set_status_reason,
                raise_condition=control.raise_condition,
                end_offset=gaps.end_offset,
            )
            consumers = self._consumer_factory(task, parsed.settings, control, config_origin, group, gaps)
            return SinkPipeline(parsed.plugin.cls.task_class(), sink, stages, consumers, control)
        if isinstance(parsed.settings, StreamSettings):
            return self._stream(task, parsed, parsed.settings, stages, control, config_origin, set_status_reason)
        positions = ConnectorOffsets(self.offsets, task.connector)
        # A transform reads the values.
        form = None if stages.steps else stages.value_converter.json_form()
        source = SourceContext(
            task,
            parsed.own,
            control.stop_event,
            control.log,
            config_origin,
            set_status_reason,
            positions,
            schedule,
            form,
            lambda records: control.metrics.set("source_record_remaining", records),
            control.metrics.set_lag,
            raise_condition=control.raise_condition,
        )
        producers = self._producer_factory(task, parsed.settings, control, config_origin)
        return SourcePipeline(parsed.plugin.cls.task_class(), source, stages, producers, positions, control)

    def _stream(
        self,
        task: TaskId,
        parsed: ConnectorConfig,
        settings: StreamSettings,
        stages: Stages,
        control: TaskControl,
        config_origin: Callable[[str], str],
        set_status_reason: Callable[[str | None], None],
    ) -> StreamPipeline:
        context = StreamContext(
            task,
            parsed.own,
            control.stop_event,
            control.log,
            config_origin,
            set_status_reason,
            raise_condition=control.raise_condition,
        )
        clients = self._clients(settings)
        overrides = {**self.settings.consumer, **settings.consumer_override}
        group = overrides.get("group.id", group_of(task.connector))
        reset = overrides.get("auto.offset.reset", "earliest")

        def open_dead_letters(sender: Producer) -> DeadLetterQueue:
            return self._open_dead_letters(task, settings, control, config_origin, sender)

        factory = StreamClients(
            lambda: control.fence.watch(clients.consumer(f"connector-consumer-{task}", group)),
            lambda: clients.transactional_producer(f"{task}-{self.instance}"),
            lambda: clients.reader(f"connector-reader-{task}"),
            clients.admin,
            group,
            open_dead_letters if settings.dead_letter_topic else None,
            lambda topic: self.tracker.add(task.connector, topic),
            self._offset_gaps(clients, control, group, reset),
        )
        timing = StreamTiming(
            settings.commit_interval / 1000,
            settings.max_task_idle / 1000,
            settings.idle_after / 1000 if settings.idle_after is not None else None,
        )
        return StreamPipeline(parsed.plugin.cls.task_class(), context, stages, factory, control, timing)

    def _raiser(self, connector: str) -> RaiseCondition:
        def raise_condition(code: str, text: str, hint: str = "", *, count: int = 0, example: str = "") -> None:
            self.conditions.add(connector, condition_of(code, text, hint, count, example))

        return raise_condition

    def _producer_factory(
        self,
        task: TaskId,
        settings: SourceSettings | ConnectorSettings,
        control: TaskControl,
        config_origin: Callable[[str], str],
    ) -> ProducerFactory:
        clients = self._clients(settings)
        creation = settings.topic_creation if isinstance(settings, SourceSettings) else {}

        creator = TopicCreator(clients.admin, creation)

        def ensure_topic(topic: str) -> None:
            creator.ensure(topic)
            self.tracker.add(task.connector, topic)

        return ProducerFactory(
            lambda: control.fence.watch(clients.producer(f"connector-producer-{task}")),
            ensure_topic,
            self.settings.source_buffer,
            (lambda: SourceDeadLetters(self._open_dead_letters(task, settings, control, config_origin), task))
            if settings.dead_letter_topic
            else None,
            settings.dead_letter_topic or "",
        )

    def _open_dead_letters(
        self,
        task: TaskId,
        settings: ConnectorSettings,
        control: TaskControl,
        config_origin: Callable[[str], str],
        sender: Producer | None = None,
    ) -> DeadLetterQueue:
        """Create the topic if it is missing. ``sender``: the producer to use instead of a new one."""
        topic, place = settings.dead_letter_topic or "", config_origin("errors.deadletterqueue.topic.name")
        clients = self._clients(settings)
        try:
            create_topic(clients.admin, NewTopic(topic, 1, settings.dead_letter_replication))
        except InfrastructureError as error:
            named = f"the dead letter queue {topic} (errors.deadletterqueue.topic.name, {place})"
            raise queue_unusable(error, named, topic, "created") from error
        producer = sender or control.fence.watch(clients.producer(f"connector-dlq-producer-{task}"))
        headers = settings.dead_letter_headers
        redact = self.validator.secrets.of(task.connector)
        return DeadLetterQueue(
            producer, topic, task, control.metrics, context_headers=headers, config_origin=place, redact=redact
        )

    def _clients(self, settings: ConnectorSettings) -> ConnectorClients:
        return ConnectorClients(self.kafka_clients, self.settings, settings)

    @staticmethod
    def _offset_gaps(clients: ConnectorClients, control: TaskControl, group: str, reset: str) -> OffsetGaps:
        accounts = control.metrics.partitions
        return OffsetGaps(clients.admin, group, control.raise_condition, control.log, reset, accounts=accounts)

    def _consumer_factory(
        self,
        task: TaskId,
        settings: SinkSettings,
        control: TaskControl,
        config_origin: Callable[[str], str],
        group: str,
        gaps: OffsetGaps,
    ) -> ConsumerFactory:
        clients = self._clients(settings)
        return ConsumerFactory(
            lambda: control.fence.watch(clients.consumer(f"connector-consumer-{task}", group)),
            settings.topics,
            settings.topics_regex,
            (lambda: self._open_dead_letters(task, settings, control, config_origin))
            if settings.dead_letter_topic
            else None,
            lambda topic: self.tracker.add(task.connector, topic),
            gaps,
            PartitionShare(
                clients.admin, group, settings.topics, settings.topics_regex, settings.tasks_max, control.log
            ),
        )
