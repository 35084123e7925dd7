"""headrace for plugin authors: everything a connector, converter or transform may import, and nothing else."""

from headrace.backoff import RetryPolicy
from headrace.config import LOWER, UPPER, CommaList, ConfigModel, Duration, Secret, Size, family, key
from headrace.errors import (
    ConfigError,
    DataError,
    EnvironmentFault,
    Finding,
    HeadraceError,
    RetriableError,
    TaskError,
)
from headrace.plugin import (
    ConfigProvider,
    Converter,
    Decoded,
    OffsetReader,
    Predicate,
    Schedule,
    SinkConnector,
    SinkContext,
    SinkTask,
    SourceConnector,
    SourceContext,
    SourceTask,
    Transform,
    Wait,
)
from headrace.records import Headers, JsonForm, JsonValues, Record, Rejection, SinkBatch, SourceBatch, TopicPartition
from headrace.schema import Field, Schema, Type

__all__ = [
    "LOWER",
    "UPPER",
    "CommaList",
    "ConfigError",
    "ConfigModel",
    "ConfigProvider",
    "Converter",
    "DataError",
    "Decoded",
    "Duration",
    "EnvironmentFault",
    "Field",
    "Finding",
    "Headers",
    "HeadraceError",
    "JsonForm",
    "JsonValues",
    "OffsetReader",
    "Predicate",
    "Record",
    "Rejection",
    "RetriableError",
    "RetryPolicy",
    "Schedule",
    "Schema",
    "Secret",
    "SinkBatch",
    "SinkConnector",
    "SinkContext",
    "SinkTask",
    "Size",
    "SourceBatch",
    "SourceConnector",
    "SourceContext",
    "SourceTask",
    "TaskError",
    "TopicPartition",
    "Transform",
    "Type",
    "Wait",
    "family",
    "key",
    "schema",
]

from headrace import schema
