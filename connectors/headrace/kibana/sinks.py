"""Sinks whose data can be shown, and what is known of their indices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from headrace.errors import Finding, HeadraceError, InfrastructureError
from headrace.kibana.field_kinds import TERMS, FieldFacts
from headrace.kibana.panel_choice import Panel
from headrace.plugin import DashboardData, DataTarget, IndexedField
from headrace.settings import SinkSettings
from headrace.validation import ConnectorConfig

_CARDINALITIES_AT_ONCE = 50


class DesignedDashboard(NamedTuple):
    """A dashboard whose panels do not depend on the fields. ``columns``: of its saved search."""

    name: str
    panels: Sequence[Panel]
    columns: Sequence[str]


class SearchableSink(NamedTuple):
    """A sink connector with its data. ``dead_letters``: topics that are dead letter queues of other connectors."""

    name: str
    data: DashboardData
    targets: Sequence[DataTarget]
    dead_letters: frozenset[str]
    dashboards: Mapping[str, Sequence[DesignedDashboard]] = {}
    """Target → its dashboards, where they are designed and not chosen from the fields."""


@contextmanager
def open_sinks(configs: Iterable[ConnectorConfig], findings: list[Finding]) -> Iterator[list[SearchableSink]]:
    """Open the data of all sinks that dashboards can show. Append findings about what is left out."""
    configs = list(configs)
    queues = {config.settings.dead_letter_topic for config in configs if isinstance(config.settings, SinkSettings)}
    with ExitStack() as stop:
        opened = []
        for config in configs:
            if (sink := _open(config, stop, findings)) is not None:
                read = {target.topic for target in sink.targets}
                opened.append(sink._replace(dead_letters=frozenset(read & queues)))
        yield opened


def _open(config: ConnectorConfig, stop: ExitStack, findings: list[Finding]) -> SearchableSink | None:
    if not isinstance(config.settings, SinkSettings):
        return None
    data = config.plugin.cls().dashboard_data(config.own)
    if data is None:
        return None
    stop.callback(data.close)
    if not config.settings.topics:
        text = f"connector '{config.name}' reads the topics that match topics.regex, which only Kafka knows"
        hint = "list the topics in 'topics' to get dashboards over their indices"
        findings.append(Finding("kibana.unknown_topics", text, "topics.regex", hint, severity="warning"))
        return None
    targets: dict[str, DataTarget] = {}
    for topic in config.settings.topics:
        try:
            for target in data.targets([topic]):
                targets.setdefault(target.name, target)  # several topics may write to one index
        except HeadraceError as error:
            findings.append(error.finding("topics"))
    return SearchableSink(config.name, data, list(targets.values()), frozenset())


def declared_facts(target: DataTarget) -> list[FieldFacts]:
    """Return the fields that the sink's configuration declares."""
    return [FieldFacts(field) for field in target.fields]


def live_facts(data: DashboardData, target: DataTarget) -> list[FieldFacts]:
    """Return the fields as Elasticsearch maps them now, with the number of their values.

    Raise InfrastructureError when the index does not exist, and the errors of :class:`DashboardData`.
    """
    fields = data.fields(target.name)
    if fields is None:
        raise InfrastructureError(
            f"there is no index '{target.name}' for the topic {target.topic}",
            code="kibana.no_index",
            hint="start the connector, so that it creates the index; or leave out --live",
        )
    counted = [field for field in fields if field.aggregatable and field.type in TERMS]
    distinct: dict[str, int] = {}
    documents = 0
    for start in range(0, max(len(counted), 1), _CARDINALITIES_AT_ONCE):
        answer = data.search(target.name, _cardinalities(counted[start : start + _CARDINALITIES_AT_ONCE]))
        documents = answer["hits"]["total"]["value"]
        distinct |= {path: found["value"] for path, found in answer.get("aggregations", {}).items()}
    return [FieldFacts(field, distinct.get(field.path), documents) for field in fields]


def _cardinalities(fields: Sequence[IndexedField]) -> Mapping[str, Any]:
    # Paths are legal names of aggregations, unless they have brackets.
    aggregations = {field.path: {"cardinality": {"field": field.path}} for field in fields}
    return {"size": 0, "track_total_hits": True, **({"aggs": aggregations} if aggregations else {})}
