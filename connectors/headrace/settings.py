"""Configuration keys of the framework: of workers and of all connectors. Names and defaults are Kafka Connect's,
except where the documentation of a key says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from headrace.config import LOWER, CommaList, ConfigModel, Duration, FixedKey, LocalUse, Size, key, prefix_key
from headrace.converter_settings import WorkerConverterSettings
from headrace.errors import Finding
from headrace.exactly_once_settings import ExactlyOnceSettings
from headrace.group_settings import WorkerGroupSettings
from headrace.metrics_settings import MetricsSettings
from headrace.rest_settings import RestSettings

Tolerance = Annotated[Literal["none", "all"], LOWER]
KafkaClient = Literal["auto", "kafka-python", "confluent"]
_POLICY_CLASS = re.compile(
    r"(?:org\.apache\.kafka\.connect\.connector\.policy\.)?(\w+)ConnectorClientConfigOverridePolicy"
)
_OVERRIDES = ("producer.override.", "consumer.override.", "admin.override.")
_FILE_SETTINGS = ("location", "file", "keytab")
"""Ends of the names of Kafka client settings that name a file, in the spellings of all client libraries."""
OverridePolicyName = Annotated[
    Literal["All", "None", "Principal", "Allowlist"],
    BeforeValidator(lambda text: _POLICY_CLASS.sub(r"\1", text.strip()) if isinstance(text, str) else text),
]


class ConnectorSettings(ConfigModel):
    """Keys of every connector."""

    name: str = key(
        "name", doc="Name of this connector; unique on the worker.", importance="high", group="Common", min_length=1
    )
    connector_class: str = key(
        "connector.class",
        doc="Name or class of the connector plugin; class names of the JVM's connectors are accepted.",
        importance="high",
        group="Common",
    )
    tasks_max: int = key(
        "tasks.max",
        default=1,
        ge=1,
        doc="Maximum number of tasks of this connector.",
        importance="high",
        group="Common",
    )
    plugin_version: str | None = key(
        "connector.plugin.version",
        default=None,
        doc="Version of the plugin; if set, it must be the installed version (KIP-891).",
        group="Common",
    )
    custom: dict[str, str] = prefix_key(
        "custom.",
        doc="Keys for your own tools, for example an owner or a ticket. headrace ignores them (headrace's own key).",
        group="Common",
    )
    key_converter: str | None = key(
        "key.converter", default=None, doc="Converter of keys; the worker's when not given.", group="Common"
    )
    value_converter: str | None = key(
        "value.converter", default=None, doc="Converter of values; the worker's when not given.", group="Common"
    )
    key_converter_settings: dict[str, str] = prefix_key(
        "key.converter.", doc="Settings of the key converter named in `key.converter`.", group="Common"
    )
    value_converter_settings: dict[str, str] = prefix_key(
        "value.converter.", doc="Settings of the value converter named in `value.converter`.", group="Common"
    )
    header_converter: str | None = key(
        "header.converter", default=None, doc="Converter of header values; the worker's when not given.", group="Common"
    )
    header_converter_settings: dict[str, str] = prefix_key(
        "header.converter.", doc="Settings of the header converter named in `header.converter`.", group="Common"
    )
    transforms: CommaList = key(
        "transforms", default="", doc="Aliases of the transforms to apply, in order.", group="Transforms"
    )
    transform_settings: dict[str, str] = prefix_key(
        "transforms.", doc="`transforms.<alias>.type` and the settings of each transform.", group="Transforms"
    )
    predicates: CommaList = key("predicates", default="", doc="Aliases of the predicates.", group="Predicates")
    predicate_settings: dict[str, str] = prefix_key(
        "predicates.", doc="`predicates.<alias>.type` and the settings of each predicate.", group="Predicates"
    )
    errors_tolerance: Tolerance = key(
        "errors.tolerance",
        default="none",
        doc="`none`: a bad record fails the task. `all`: it is skipped. The dead letter queue gets it in both cases.",
        group="Error Handling",
    )
    errors_log_enable: bool = key(
        "errors.log.enable",
        default=False,
        doc="Log topic, partition, offset and reason of every bad record.",
        group="Error Handling",
    )
    errors_retry_timeout: int = key(
        "errors.retry.timeout",
        default=-1,
        ge=-1,
        doc="How long (ms) the task waits for a transform or converter whose system is unavailable, before it fails; "
        "0: it fails at once, -1: it waits without limit. The records are never skipped.",
        group="Error Handling",
    )
    errors_retry_delay_max: Duration = key(
        "errors.retry.delay.max.ms",
        default=60_000,
        ge=1,
        doc="Longest wait between two attempts.",
        group="Error Handling",
    )
    dead_letter_topic: str | None = key(
        "errors.deadletterqueue.topic.name",
        default=None,
        doc="Topic for records that could not be processed; not set = no dead letter queue. A source (headrace only) "
        "writes rows to it that cannot be converted or that Kafka refuses.",
        group="Error Handling",
    )
    dead_letter_replication: int = key(
        "errors.deadletterqueue.topic.replication.factor",
        default=-1,
        doc="Replication factor when the topic is created; -1 = the broker's default (Kafka Connect: 3).",
        group="Error Handling",
    )
    dead_letter_headers: bool = key(
        "errors.deadletterqueue.context.headers.enable",
        default=True,
        doc="Add `__connect.errors.*` headers that say where and why (Kafka Connect's default: false).",
        group="Error Handling",
    )
    producer_override: dict[str, str] = prefix_key(
        "producer.override.", doc="Settings of this connector's Kafka producer, as in Kafka's documentation."
    )
    consumer_override: dict[str, str] = prefix_key(
        "consumer.override.",
        doc="Settings of this connector's Kafka consumer, as in Kafka's documentation. "
        "Default: isolation.level=read_committed.",
    )
    admin_override: dict[str, str] = prefix_key(
        "admin.override.", doc="Settings of this connector's Kafka admin client, as in Kafka's documentation."
    )

    @classmethod
    def local_uses(cls, properties: Mapping[str, str]) -> Iterable[LocalUse]:
        yield from super().local_uses(properties)
        for name, value in properties.items():
            if name.startswith(_OVERRIDES) and name.strip().lower().endswith(_FILE_SETTINGS) and value.strip():
                yield LocalUse(name, "file", value.strip())

    ignored_keys: ClassVar[dict[str, str]] = {
        "tasks.max.enforce": "tasks.max is always enforced",
        "errors.log.include.messages": "contents of records are never logged",
        "config.action.reload": "placeholders are resolved when a task starts",
    }


class SourceSettings(ExactlyOnceSettings, ConnectorSettings):
    """Keys of every source connector."""

    topic_creation: dict[str, str] = prefix_key(
        "topic.creation.default.",
        doc="Settings of topics that the source creates: `partitions`, `replication.factor` and any topic setting "
        "(`cleanup.policy`). If none is set, topics are created by the broker, if its settings allow it.",
        group="Topic Creation",
    )

    fixed_keys: ClassVar[dict[str, FixedKey]] = {
        "topic.creation.groups": FixedKey(("",), "only topic.creation.default.* is supported"),
    }


class SinkSettings(ConnectorSettings):
    """Keys of every sink connector."""

    topics: CommaList = key("topics", default="", doc="Topics to read.", importance="high", group="Common")
    topics_regex: str | None = key(
        "topics.regex", default=None, doc="Read all topics whose whole name matches.", importance="high", group="Common"
    )
    freshness_slo: Duration | None = key(
        "freshness.slo",
        default=None,
        ge=1,
        doc="Age that data may have when searches find it (`30s`), counted from the change of the row where the row "
        "says when that was. Older data is a condition and a metric, and the status names the hop that held it back "
        "(headrace's own).",
        group="Freshness",
    )

    def problems(self) -> Iterable[Finding]:
        if self.topics and self.topics_regex:
            text = "topics and topics.regex are mutually exclusive options, but both are set."
            yield Finding("config.conflict", text, "topics", "keep one of the two")
        if not self.topics and not self.topics_regex:
            text = "Must configure one of topics or topics.regex"
            yield Finding("config.missing_key", text, "topics", "name the topics to read, separated by commas")
        if self.dead_letter_topic and self.dead_letter_topic in self.topics:
            text = f"the dead letter queue topic '{self.dead_letter_topic}' must not be one of the topics that are read"
            yield Finding("config.conflict", text, "errors.deadletterqueue.topic.name", "choose another topic")


class StreamSettings(ConnectorSettings):
    """Keys of every stream application."""

    commit_interval: Duration = key(
        "commit.interval.ms",
        default=500,
        ge=1,
        doc="How often outputs, state and offsets are committed, in one transaction. Readers with "
        "isolation.level=read_committed see outputs after the commit (as in Kafka Streams).",
        group="Application",
    )
    max_task_idle: Duration = key(
        "max.task.idle.ms",
        default=0,
        ge=0,
        doc="Partitions that belong together (those of a join, of a stream and its table, or that feed one repartition "
        "topic) are processed in the order of event time. How long they wait for new records of one that has none; "
        "they always wait a moment for records that are known to be unread (as in Kafka Streams).",
        group="Application",
    )
    idle_after: Duration | None = key(
        "idle.after",
        default=None,
        ge=1,
        doc="Advance the stream time of a partition with the clock when it has had no record for this time, so that "
        "its windows and joins close. By default it only advances with records.",
        group="Application",
    )
    repartition_purge_interval: Duration = key(
        "repartition.purge.interval.ms",
        default=30_000,
        ge=1,
        doc="How often the processed records of repartition topics are deleted (as in Kafka Streams).",
        group="Application",
    )
    decide: bool = key(
        "decide.enabled",
        default=False,
        doc="Decide on single requests over HTTP (`POST /v1/streams/{name}/decide`) by the step `pick`. Each task "
        "that decides holds the tables and models twice.",
        group="Application",
    )
    decide_timeout: Duration = key(
        "decide.timeout.ms",
        default=1000,
        ge=1,
        le=60_000,
        doc="The longest time until a decision is acknowledged by Kafka; after it the answer is 503.",
        group="Application",
    )
    state_max_entries: int | None = key(
        "state.max.entries",
        default=None,
        ge=1,
        doc="The most entries of a task's state: a group in a window, a record of a join, a row of a partitioned "
        "table. The status warns from 80 % on, and the task fails above it instead of using all memory.",
        group="Application",
    )

    def problems(self) -> Iterable[Finding]:
        for name, given in (("transforms", self.transforms), ("predicates", self.predicates)):
            if given:
                text = f"'{name}' is not supported in stream applications"
                yield Finding("config.unsupported_key", text, name, "write steps instead")


SETTINGS_MODELS: dict[str, type[ConnectorSettings]] = {
    "source": SourceSettings,
    "sink": SinkSettings,
    "stream": StreamSettings,
}
"""The framework's keys of a connector, by its type."""


class WorkerSettings(WorkerGroupSettings, MetricsSettings, RestSettings, WorkerConverterSettings):
    """Keys of a worker."""

    bootstrap_servers: str = key(
        "bootstrap.servers",
        doc="Kafka brokers for the first connection: host:port, separated by commas.",
        importance="high",
    )
    offsets_file: str = key(
        "offset.storage.file.filename",
        default="headrace-offsets.jsonl",
        doc="File in which a standalone worker stores the offsets of its sources.",
        importance="high",
    )
    configs_file: str | None = key(
        "config.storage.file.filename",
        default=None,
        doc="File in which a standalone worker stores connectors created over REST and target states (paused, "
        "stopped); not set = they are lost when it stops, as in Kafka Connect.",
    )
    offset_flush_interval: Duration = key(
        "offset.flush.interval.ms",
        default=5_000,
        ge=1,
        doc="How often offsets are stored (Kafka Connect's default: 60000). After a crash, the records since the last "
        "stored offsets are sent again.",
    )
    offset_flush_timeout: Duration = key(
        "offset.flush.timeout.ms", default=5_000, ge=1, doc="How long a task that stops waits for the broker."
    )
    shutdown_timeout: Duration = key(
        "task.shutdown.graceful.timeout.ms", default=5_000, ge=0, doc="How long all tasks together may take to stop."
    )
    source_buffer: Size = key(
        "source.buffer.bytes",
        default=16_000_000,
        ge=1,
        doc="Maximum of unacknowledged data of a source task: keys, values, and 250 bytes per record. Above this limit "
        "the task does not poll (headrace's own).",
    )
    state_dir: str | None = key(
        "state.dir",
        default=None,
        doc="Directory for copies of the state of stream applications, so that a restart reads only what their "
        "changelogs have since. Not set: it reads them completely. Each worker needs its own.",
    )
    kafka_client: Annotated[KafkaClient, LOWER] = key(
        "kafka.client",
        default="auto",
        doc="`confluent` (librdkafka, the extra `fast`: faster), `kafka-python` (no C library), or `auto`: "
        "confluent when it is installed (headrace's own).",
    )
    client: dict[str, str] = prefix_key("client.", doc="Settings of every Kafka client: `client.security.protocol` …")
    security_protocol: str | None = key(
        "security.protocol", default=None, doc="Security protocol of every Kafka client, e.g. SASL_SSL."
    )
    sasl: dict[str, str] = prefix_key("sasl.", doc="Settings of every Kafka client, as in Kafka's documentation.")
    ssl: dict[str, str] = prefix_key("ssl.", doc="Settings of every Kafka client, as in Kafka's documentation.")
    producer: dict[str, str] = prefix_key("producer.", doc="Settings of every producer, as in Kafka's documentation.")
    consumer: dict[str, str] = prefix_key(
        "consumer.",
        doc="Settings of every consumer, as in Kafka's documentation. Default: isolation.level=read_committed.",
    )
    admin: dict[str, str] = prefix_key("admin.", doc="Settings of every admin client, as in Kafka's documentation.")
    override_policy: OverridePolicyName = key(
        "connector.client.config.override.policy",
        default="All",
        doc="Which Kafka client settings connectors may override: `All`, `None`, `Principal` (security.protocol, "
        "sasl.jaas.config, sasl.mechanism) or `Allowlist`. A connector that overrides an address or a security setting "
        "inherits no credentials of the worker.",
    )
    override_allowlist: CommaList = key(
        "connector.client.config.override.allowlist",
        default="",
        doc="The settings that the policy `Allowlist` allows, without prefix: `acks, linger.ms`.",
    )
    topic_tracking: bool = key(
        "topic.tracking.enable",
        default=True,
        doc="Track the topics that connectors use, for `GET /connectors/{name}/topics`.",
    )
    topic_tracking_reset: bool = key(
        "topic.tracking.allow.reset", default=True, doc="Allow `PUT /connectors/{name}/topics/reset`."
    )
    config_providers: CommaList = key(
        "config.providers", default="env,file", doc="Providers of `${name:path:key}` placeholders."
    )
    config_provider_settings: dict[str, str] = prefix_key(
        "config.providers.",
        doc="`config.providers.<name>.class`, and the providers' parameters, as in Kafka Connect: "
        "`config.providers.file.param.allowed.paths` (files, and folders with all their contents) and "
        "`config.providers.env.param.allowlist.pattern` (a regular expression of names). A list applies to every "
        "connector. Without one, connectors from files on the worker's command line may use any value, and connectors "
        "that are created or changed over REST may use none.",
    )

    allowed_files: CommaList | None = key(
        "connector.files.allowed.paths",
        default=None,
        doc="Files, and folders with all their contents, that keys of connectors may name, such as `mapping.file`: "
        "absolute paths between commas. The list applies to every connector. Without it, connectors from files on the "
        "worker's command line may name any file, and connectors that are created or changed over REST none "
        "(headrace's own).",
    )
    allowed_functions: CommaList | None = key(
        "connector.functions.allowed",
        default=None,
        doc="Python functions that keys of connectors may name, such as `call` of stream applications: "
        "`module:function`, or modules and packages with all that they contain, imported names included. The list "
        "applies as `connector.files.allowed.paths` does (headrace's own).",
    )

    ignored_keys: ClassVar[dict[str, str]] = {
        "plugin.path": "plugins are Python packages, installed with pip",
        "plugin.discovery": "plugins are found by their entry points",
    }

    def problems(self) -> Iterable[Finding]:
        yield from self.metrics_problems()
        yield from self.group_problems()
        yield from self.rest_problems()

    def client_settings(self) -> dict[str, str]:
        """Settings of every Kafka client, dotted names."""
        settings = {"bootstrap.servers": self.bootstrap_servers, **self.client}
        settings |= {f"sasl.{name}": value for name, value in self.sasl.items()}
        settings |= {f"ssl.{name}": value for name, value in self.ssl.items()}
        if self.security_protocol:
            settings["security.protocol"] = self.security_protocol
        return settings
