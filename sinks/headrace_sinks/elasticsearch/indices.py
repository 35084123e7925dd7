"""Which index a batch goes to, and that it exists, with the mapping that the user wants."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
import structlog

from headrace import EnvironmentFault, JsonValues, SinkBatch, TaskError
from headrace_sinks.elasticsearch.answers import denied, error_of, judge_request
from headrace_sinks.elasticsearch.client import Answer, Client
from headrace_sinks.elasticsearch.config import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.mappings import mapping
from headrace_sinks.elasticsearch.names import index_name


class Indices:
    """Remembers what it has seen, so that a batch costs a look into a dictionary."""

    def __init__(self, client: Client, config: ElasticsearchSinkConfig, log: structlog.stdlib.BoundLogger) -> None:
        self._client = client
        self._config = config
        self._log = log
        self._resources = config.resources()
        self._names: dict[str, str] = {}
        self._there: set[str] = set()
        self._mapped: set[str] = set()

    def ensure(self, batch: SinkBatch) -> str:
        """The index of the batch's topic; created when it is missing.

        Raises DataError when the topic gives no index name, TaskError when a schema is needed and missing,
        EnvironmentFault and RetriableError.
        """
        name = self._name(batch.topic)
        maps = self._maps(batch)
        if name not in self._there:
            self._create(name, self._mapping(batch) if maps else None)
            self._there.add(name)
        if maps and name not in self._mapped:
            self._map(name, self._mapping(batch))
            self._mapped.add(name)
        return name

    def forget(self) -> None:
        """An index has vanished: look again."""
        self._there.clear()
        self._mapped.clear()

    def _name(self, topic: str) -> str:
        if (name := self._names.get(topic)) is not None:
            return name
        if self._resources:
            if topic not in self._resources:
                raise TaskError(
                    f"'topic.to.external.resource.mapping' names no index for topic '{topic}'",
                    code="elasticsearch.unmapped_topic",
                    hint=f"add {topic}:<index>",
                )
            name = self._resources[topic]
        else:
            name = index_name(topic)
        for other, taken in self._names.items():
            if taken == name and not self._resources:
                self._log.warning(
                    "two topics write to one index",
                    index=name,
                    topics=[other, topic],
                    next="equal keys are one document",
                )
        self._names[topic] = name
        return name

    def _maps(self, batch: SinkBatch) -> bool:
        """Whether the batch says how to map its index. Tombstones say nothing."""
        if self._resources or self._config.ignores_schema(batch.topic):
            return False
        if batch.value_schema is not None:
            return bool(batch.value_schema.fields)
        values = batch.values.texts if isinstance(batch.values, JsonValues) else batch.values
        if all(value is None for value in values):
            return False
        raise TaskError(
            f"records of topic '{batch.topic}' have no schema, and schema.ignore is false",
            code="elasticsearch.schema_missing",
            hint="schema.ignore: true lets Elasticsearch choose the mapping; or use a converter with schemas",
        )

    def _mapping(self, batch: SinkBatch) -> dict[str, Any]:
        assert batch.value_schema is not None
        return mapping(batch.value_schema, compact_maps=self._config.compact_map_entries)

    def _create(self, name: str, wanted: dict[str, Any] | None) -> None:
        path = f"/{quote(name, safe='')}"
        answer = self._client.request("HEAD", path)
        if answer.status in (200, 403):
            return  # 403: not allowed to look; writing may be allowed
        if answer.status != 404:
            _require(answer, name)
        if self._resources:
            raise EnvironmentFault(
                f"index or alias '{name}' does not exist",
                code="elasticsearch.index_missing",
                hint="create it; 'external.resource.usage' means existing ones",
            )
        answer = self._client.request("PUT", path, orjson.dumps({"mappings": wanted} if wanted else {}))
        kind, reason = error_of(answer)
        if kind == "resource_already_exists_exception":
            return  # another task was faster
        if answer.status in (401, 403):
            raise denied(answer.status, f"index '{name}' cannot be created: {reason}")
        _require(answer, name)
        self._log.info("index created", index=name, mapping="from the schema" if wanted else "dynamic")
        if wanted:
            self._mapped.add(name)

    def _map(self, name: str, wanted: dict[str, Any]) -> None:
        """Only an index without any mapping gets ours, as in Kafka Connect; later fields are mapped dynamically."""
        path = f"/{quote(name, safe='')}/_mapping"
        answer = self._client.request("GET", path)
        if answer.status == 403:
            self._log.warning("mapping not checked", index=name, reason=error_of(answer)[1])
            return
        _require(answer, name)
        content = answer.json()
        if any(item.get("mappings", {}).get("properties") for item in content.values()):
            return
        answer = self._client.request("PUT", path, orjson.dumps(wanted))
        _require(answer, name)
        self._log.info("index mapped", index=name)


def _require(answer: Answer, name: str) -> None:
    """Raises RetriableError, EnvironmentFault unless it was done."""
    judge_request(answer)
    if answer.status >= 400:
        kind, reason = error_of(answer)
        raise EnvironmentFault(
            f"index '{name}' cannot be prepared: {kind}: {reason}", code="elasticsearch.index_not_prepared"
        )
