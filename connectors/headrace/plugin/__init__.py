"""Interfaces that plugin authors implement. They import them from :mod:`headrace`, the facade."""

from headrace.plugin.commands import CommandContext, ConnectorAccess, TopicRecord
from headrace.plugin.connectors import Connector, SinkConnector, SourceConnector, SystemChoices
from headrace.plugin.conversion import ConfigProvider, Converter, Decoded, Predicate, Transform, TransformResult
from headrace.plugin.dashboards import DashboardData, DataTarget, IndexedField
from headrace.plugin.stream_functions import UNDECLARED, StreamFunction, declaration_of, stream
from headrace.plugin.streams import (
    Changes,
    Segments,
    StepCounts,
    StreamConnector,
    StreamContext,
    StreamOutput,
    StreamResult,
    StreamTask,
    StreamTopology,
)
from headrace.plugin.tasks import (
    Linger,
    OffsetReader,
    PendingPut,
    Schedule,
    SinkContext,
    SinkTask,
    SourceContext,
    SourceTask,
    TaskContext,
    Wait,
)
from headrace.plugin.topics import ProducedTopic, TopicRequirements
from headrace.plugin.verification import Rebuild, Rebuilder, StoredEntry, Verifier
from headrace.records import BatchHeaders, Headers, TopicPartition

__all__ = [
    "UNDECLARED",
    "BatchHeaders",
    "Changes",
    "CommandContext",
    "ConfigProvider",
    "Connector",
    "ConnectorAccess",
    "Converter",
    "DashboardData",
    "DataTarget",
    "Decoded",
    "Headers",
    "IndexedField",
    "Linger",
    "OffsetReader",
    "PendingPut",
    "Predicate",
    "ProducedTopic",
    "Rebuild",
    "Rebuilder",
    "Schedule",
    "Segments",
    "SinkConnector",
    "SinkContext",
    "SinkTask",
    "SourceConnector",
    "SourceContext",
    "SourceTask",
    "StepCounts",
    "StoredEntry",
    "StreamConnector",
    "StreamContext",
    "StreamFunction",
    "StreamOutput",
    "StreamResult",
    "StreamTask",
    "StreamTopology",
    "SystemChoices",
    "TaskContext",
    "TopicPartition",
    "TopicRecord",
    "TopicRequirements",
    "Transform",
    "TransformResult",
    "Verifier",
    "Wait",
    "declaration_of",
    "stream",
]
