"""The Elasticsearch sink with a time limit that a test cannot wait for."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import ClassVar

from headrace.registry import Plugin, PluginKind
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask
from headrace_sinks.elasticsearch.timings import SinkTimings


class TaskThatRepeatsDeletes(ElasticsearchSinkTask):
    """Sends all deletes a second time, as after a put of half a minute."""

    def __init__(self) -> None:
        super().__init__(SinkTimings(repeat_deletes_after=0.0))


class SinkThatRepeatsDeletesConnector(ElasticsearchSinkConnector):
    """The connector of these tasks."""

    aliases = ()
    task_class: ClassVar[type[ElasticsearchSinkTask]] = TaskThatRepeatsDeletes


def plugin() -> Plugin:
    """Return the connector as a plugin: ``SinkThatRepeatsDeletes``."""
    name, kind = "SinkThatRepeatsDeletes", PluginKind.CONNECTOR
    return Plugin(kind, name, EntryPoint(name, f"{__name__}:{SinkThatRepeatsDeletesConnector.__name__}", kind.group))
