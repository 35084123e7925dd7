"""Names, fields and searches of the sink's indices: the sink's part of ``headrace kibana``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog

from headrace import DashboardData, DataTarget, IndexedField
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.index_catalog import IndexCatalog, LookupDeniedError, path
from headrace_sinks.elasticsearch.cluster.responses import denied
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.router import IndexRouter

log = structlog.stdlib.get_logger("headrace.kibana")
_CONTAINERS = ("object", "nested", "passthrough", "flattened")
_WITHOUT_VALUES = frozenset(
    ["text", "match_only_text", "search_as_you_type", "binary", "completion", "annotated_text", "semantic_text"]
)
"""Types that Elasticsearch does not aggregate by default."""
_STREAM_TIME = "@timestamp"


class ElasticsearchDashboardData(DashboardData):
    """Opens no connection before a request is sent."""

    def __init__(self, config: ElasticsearchSinkConfig) -> None:
        """Raise ConfigError when a certificate file cannot be used."""
        self._config = config
        self._client = ElasticsearchClient(config)
        self._catalog = IndexCatalog(self._client)

    def targets(self, topics: Sequence[str]) -> Sequence[DataTarget]:
        router = IndexRouter(self._config, log)
        fields = tuple(declared_leaves(self._config.declared()))
        time_field = _STREAM_TIME if self._config.streams() else ""
        if time_field and not any(field.path == time_field for field in fields):
            fields = (IndexedField(time_field, "date"), *fields)
        return [DataTarget(topic, router.pattern(topic), fields, time_field) for topic in topics]

    def fields(self, name: str) -> Sequence[IndexedField] | None:
        try:
            found = self._catalog.get(f"{path(name)}/_field_caps?fields=*")
        except LookupDeniedError as error:
            raise denied(403, f"the fields of '{name}' cannot be read: {error}") from error
        if found is None or not found.get("indices"):
            return None
        return list(field_capabilities(found.get("fields", {})))

    def search(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        what = f"'{name}' cannot be searched"
        answer: Mapping[str, Any] = self._catalog.request("POST", f"{path(name)}/_search", what, request)
        return answer

    def close(self) -> None:
        self._client.close()


def declared_leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[IndexedField]:
    """Yield the fields of a mapping body, also subfields. Fields in nested objects are left out: only nested
    aggregations reach them."""
    for name, definition in mapping.get("properties", {}).items():
        full = f"{prefix}{name}"
        kind = definition.get("type", "object")
        if kind in ("object", "passthrough") and definition.get("enabled", True):
            yield from declared_leaves(definition, f"{full}.")
        if kind in _CONTAINERS:
            continue
        yield IndexedField(full, kind, _has_values(definition))
        for subfield, inner in definition.get("fields", {}).items():
            yield IndexedField(f"{full}.{subfield}", inner.get("type", ""), _has_values(inner))


def field_capabilities(fields: Mapping[str, Mapping[str, Any]]) -> Iterator[IndexedField]:
    """Yield the fields of a field capabilities response.

    A field that is mapped differently in several indices has all types in its name, so it is of no known type.
    """
    nested = tuple(f"{name}." for name, types in fields.items() if "nested" in types)
    for name, types in sorted(fields.items()):
        internal = any(each.get("metadata_field") for each in types.values())
        if internal or name.startswith(nested) or any(kind in _CONTAINERS for kind in types):
            continue
        aggregatable = all(each.get("aggregatable", False) for each in types.values())
        yield IndexedField(name, "/".join(sorted(types)), aggregatable)


def _has_values(definition: Mapping[str, Any]) -> bool:
    kind = definition.get("type")
    return kind not in _WITHOUT_VALUES and bool(definition.get("doc_values", True))
