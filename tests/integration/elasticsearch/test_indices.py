"""Index management on a real Elasticsearch: resources are created and checked before records are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from headrace import (
    HeadraceError,
    InfrastructureError,
    RetriableError,
    Schema,
    SinkBatch,
    TaskError,
    TopicPartition,
    schema,
)
from headrace.testing.contexts import make_sink_context
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask
from tests.engines.http import HTTP

OF = schema.struct({"id": schema.INT32, "name": schema.STRING})
StartSink = Callable[..., ElasticsearchSinkTask]


class Cluster:
    """Requests of a test to the server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        return HTTP.get(f"{self.url}/{path}").raise_for_status().json()

    def put(self, path: str, body: Any) -> None:
        HTTP.put(f"{self.url}/{path}", json=body).raise_for_status()

    def exists(self, path: str) -> bool:
        return HTTP.head(f"{self.url}/{path}").status_code == 200

    def properties(self, index: str) -> dict[str, Any]:
        ((_, body),) = self.get(index).items()
        found: dict[str, Any] = body["mappings"].get("properties", {})
        return found

    def count(self, index: str) -> int:
        HTTP.post(f"{self.url}/{index}/_refresh").raise_for_status()
        found: int = self.get(f"{index}/_count")["count"]
        return found


@pytest.fixture
def cluster(elasticsearch: Any, unique_name: str) -> Iterator[Cluster]:
    yield Cluster(elasticsearch.url)
    for path in (f"{unique_name}*", f"_index_template/{unique_name}*", f"_component_template/{unique_name}*"):
        HTTP.delete(f"{elasticsearch.url}/{path}")


@pytest.fixture
def start_sink(elasticsearch: Any, unique_name: str) -> Iterator[StartSink]:
    """``start_sink(index_generations="true")`` reads the topic ``unique_name``."""
    tasks: list[ElasticsearchSinkTask] = []

    def start(**keys: str) -> ElasticsearchSinkTask:
        properties = {
            "connection.url": elasticsearch.url,
            "topics": unique_name,
            **{name if "." in name else name.replace("_", "."): value for name, value in keys.items()},
        }
        tasks.append(ElasticsearchSinkTask())
        tasks[-1].start(make_sink_context(properties))
        return tasks[-1]

    yield start
    for task in tasks:
        task.stop()


@pytest.fixture
def batch(unique_name: str) -> Callable[..., SinkBatch]:
    def make(*values: Any, of: Schema | None = OF, first: int = 0) -> SinkBatch:
        rows = range(first, first + len(values))
        place = TopicPartition(unique_name, 0)
        keys = [f"k{row}" for row in rows]
        count = len(values)
        return SinkBatch(place, unique_name, list(rows), keys, list(values), [0] * count, [()] * count, value_schema=of)

    return make


Batch = Callable[..., SinkBatch]


def test_an_index_is_created_with_settings_policy_and_declared_fields(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    task = start_sink(
        **{
            "index.settings.number_of_replicas": "0",
            "index.settings.mapping.total_fields.limit": "50",
            "index.aliases": f"{unique_name}-readers",
            "mapping.strings": "keyword",
            "mapping.fields.lines": "nested",
            "mapping.fields.lines.sku": "keyword ignore_above=32",
            "mapping.fields.seen": "date format=yyyy-MM-dd",
            "mapping.dynamic": "strict",
        }
    )

    assert list(task.put([batch({"id": 1, "name": "x"})])) == []
    ((index, body),) = cluster.get(f"{unique_name}?flat_settings=true").items()
    assert index == unique_name
    assert body["mappings"] == {
        "dynamic": "strict",
        "properties": {
            "id": {"type": "integer"},
            "name": {"type": "keyword", "ignore_above": 256},
            "lines": {"type": "nested", "properties": {"sku": {"type": "keyword", "ignore_above": 32}}},
            "seen": {"type": "date", "format": "yyyy-MM-dd"},
        },
    }
    assert body["settings"]["index.mapping.total_fields.limit"] == "50"
    assert body["settings"]["index.number_of_replicas"] == "0"
    assert list(body["aliases"]) == [f"{unique_name}-readers"]


def test_an_index_generation_has_an_alias(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    start_sink(index_generations="true").put([batch({"id": 1, "name": "x"})])

    ((index, body),) = cluster.get(unique_name).items()
    assert index == f"{unique_name}-000001"
    assert body["aliases"] == {unique_name: {"is_write_index": True}}
    assert cluster.count(unique_name) == 1


def test_evolution_adds_fields_and_keeps_documents(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    task = start_sink()
    task.put([batch({"id": 1, "name": "x"})])
    wider = schema.struct({**OF.by_name, "at": schema.TIMESTAMP_SCHEMA, "o": schema.struct({"n": schema.INT64})})

    assert list(task.put([batch({"id": 2, "name": "y", "at": None, "o": None}, of=wider, first=1)])) == []
    assert cluster.properties(unique_name)["at"] == {"type": "date"}
    assert cluster.properties(unique_name)["o"] == {"properties": {"n": {"type": "long"}}}
    assert cluster.count(unique_name) == 2


def test_a_conflict_is_found_before_a_write_and_the_wait_ends_when_it_is_solved(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    cluster.put(unique_name, {"mappings": {"properties": {"id": {"type": "integer"}, "o": {"type": "keyword"}}}})
    task = start_sink()
    changed = schema.struct({"id": schema.STRING, "o": schema.struct({"n": schema.INT64})})
    records = batch({"id": "one", "o": {"n": 1}}, of=changed)
    with pytest.raises(RetriableError) as raised:
        task.put([records])

    assert raised.value.code == "elasticsearch.mapping_conflict"
    assert "'id' is integer in the index and should be text" in raised.value.message
    assert "'o' is keyword in the index and should be object" in raised.value.message
    for way_out in ("headrace reindex", "mapping.fields.id: integer", "mapping.conflicts: ignore"):
        assert way_out in raised.value.hint
    assert cluster.count(unique_name) == 0

    HTTP.delete(f"{cluster.url}/{unique_name}").raise_for_status()
    assert list(task.put([records])) == []
    assert cluster.count(unique_name) == 1


def test_a_conflict_with_declared_fields_is_found_at_start(
    start_sink: StartSink, cluster: Cluster, unique_name: str
) -> None:
    cluster.put(unique_name, {"mappings": {"properties": {"name": {"type": "text"}}}})
    with pytest.raises(RetriableError, match="'name' is text in the index and should be keyword"):
        start_sink(**{"mapping.fields.name": "keyword"})


@pytest.mark.parametrize("way", [{"mapping.conflicts": "ignore"}, {"mapping.fields.id": "integer"}])
def test_a_mapping_conflict_is_avoided_by_two_suggested_settings(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str, way: dict[str, str]
) -> None:
    cluster.put(unique_name, {"mappings": {"properties": {"id": {"type": "integer"}}}})
    task = start_sink(**way)
    of = schema.struct({"id": schema.STRING})
    rejections = task.put([batch({"id": "12"}, {"id": "one"}, of=of)])

    assert [(item.offset, item.error.code) for item in rejections] == [(1, "elasticsearch.document_rejected")]
    assert cluster.count(unique_name) == 1


def test_the_field_limit_is_reported_before_it_is_exceeded(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    wide = schema.struct({f"f{number}": schema.STRING for number in range(10)})
    task = start_sink(**{"index.settings.mapping.total_fields.limit": "19"})
    with pytest.raises(RetriableError) as raised:
        task.put([batch({"f1": "x"}, of=wide)])

    assert raised.value.code == "elasticsearch.field_limit"
    assert "may have 19 fields; it has 0, and 20 more are needed" in raised.value.message
    assert not cluster.exists(unique_name)

    narrow = schema.struct({"f0": schema.STRING})
    assert list(task.put([batch({"f0": "x"}, of=narrow)])) == []
    with pytest.raises(RetriableError, match="it has 2, and 18 more are needed"):
        task.put([batch({"f1": "x"}, of=wide, first=1)])
    cluster.put(f"{unique_name}/_settings", {"index.mapping.total_fields.limit": 20})
    assert list(task.put([batch({"f1": "x"}, of=wide, first=1)])) == []


def test_fields_are_counted_as_by_elasticsearch(cluster: Cluster, unique_name: str) -> None:
    body = {
        "properties": {
            "a": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "b": {"properties": {"c": {"type": "long"}}},
        },
        "runtime": {"d": {"type": "long"}},
    }
    limit = {"settings": {"index.mapping.total_fields.limit": 5}, "mappings": body}
    cluster.put(unique_name, limit)
    with pytest.raises(httpx.HTTPStatusError):
        cluster.put(f"{unique_name}x", {**limit, "settings": {"index.mapping.total_fields.limit": 4}})


TEMPLATE = {
    "index.settings.number_of_replicas": "0",
    "index.settings.analysis.analyzer.mine.tokenizer": "standard",
    "mapping.fields.sku": "keyword",
}


def test_templates_are_created_and_kept(start_sink: StartSink, cluster: Cluster, unique_name: str) -> None:
    start_sink(**TEMPLATE, **{"index.template": unique_name, "index.aliases": f"{unique_name}-all"})

    (found,) = cluster.get(f"_index_template/{unique_name}")["index_templates"]
    assert found["index_template"]["index_patterns"] == [unique_name, f"{unique_name}-*"]
    cluster.put(f"{unique_name}-later", {})
    ((_, body),) = cluster.get(f"{unique_name}-later?flat_settings=true").items()
    assert body["mappings"]["properties"] == {"sku": {"type": "keyword"}}
    assert body["settings"]["index.number_of_replicas"] == "0"
    assert body["settings"]["index.analysis.analyzer.mine.tokenizer"] == "standard"
    assert list(body["aliases"]) == [f"{unique_name}-all"]

    start_sink(**TEMPLATE, **{"index.template": unique_name, "mapping.fields.ean": "keyword"})
    (changed,) = cluster.get(f"_component_template/{unique_name}@mappings")["component_templates"]
    assert set(changed["component_template"]["template"]["mappings"]["properties"]) == {"sku", "ean"}


def test_a_custom_component_template_of_the_user_is_included(
    start_sink: StartSink, cluster: Cluster, unique_name: str
) -> None:
    cluster.put(f"_component_template/{unique_name}@custom", {"template": {"settings": {"index.codec": "default"}}})
    start_sink(**{"index.template": unique_name})

    (found,) = cluster.get(f"_index_template/{unique_name}")["index_templates"]
    assert found["index_template"]["composed_of"][-1] == f"{unique_name}@custom"


def test_a_template_of_another_owner_is_not_changed(start_sink: StartSink, cluster: Cluster, unique_name: str) -> None:
    cluster.put(f"_index_template/{unique_name}", {"index_patterns": ["other-*"], "priority": 7})
    with pytest.raises(InfrastructureError, match="was not created by headrace") as raised:
        start_sink(**{"index.template": unique_name})

    assert raised.value.code == "elasticsearch.template_taken"
    (found,) = cluster.get(f"_index_template/{unique_name}")["index_templates"]
    assert found["index_template"]["priority"] == 7


def test_a_data_stream_lifecycle_is_created(start_sink: StartSink, cluster: Cluster, unique_name: str) -> None:
    keys = {"data.stream.type": "LOGS", "data.stream.dataset": "web", "index.template.patterns": f"{unique_name}-*"}
    start_sink(**keys, **{"index.template": unique_name, "data.stream.retention": "30d"})

    (found,) = cluster.get(f"_index_template/{unique_name}")["index_templates"]
    assert found["index_template"]["template"]["lifecycle"]["data_retention"] == "30d"
    record = {"@timestamp": "2024-01-01T00:00:00Z"}
    HTTP.post(f"{cluster.url}/{unique_name}-a/_doc", json=record).raise_for_status()
    ((index, body),) = cluster.get(f"{unique_name}-a").items()
    assert index.startswith(".ds-")
    assert body["data_stream"] == f"{unique_name}-a"


def test_check_changes_nothing_and_names_missing_resources(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    def refusal(**keys: str) -> HeadraceError:
        with pytest.raises(InfrastructureError) as raised:
            start_sink(**{"index.management": "check", **keys})
        return raised.value

    assert refusal().code == "elasticsearch.index_missing"
    cluster.put(unique_name, {"mappings": {"properties": {"id": {"type": "integer"}}}})
    assert "lacks 'sku'" in refusal(**{"mapping.fields.sku": "keyword"}).message
    assert "lacks the aliases 'readers'" in refusal(**{"index.aliases": "readers"}).message
    assert refusal(**{"index.template": unique_name}).code == "elasticsearch.template_missing"
    task = start_sink(**{"index.management": "check"})
    with pytest.raises(InfrastructureError, match="its mapping lacks 'name'"):
        task.put([batch({"id": 1, "name": "x"})])
    assert list(cluster.properties(unique_name)) == ["id"]
    assert not cluster.exists(f"_index_template/{unique_name}")
    assert cluster.count(unique_name) == 0


def test_index_management_none_creates_and_checks_nothing(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    task = start_sink(**{"index.management": "none", "mapping.fields.id": "keyword"})

    assert list(task.put([batch({"id": 1, "name": "x"})])) == []
    assert cluster.properties(unique_name)["id"] == {"type": "long"}  # the type that Elasticsearch chooses


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"index.settings.number_of_replica": "0"}, "unknown setting"),
        ({"index.settings.number_of_shards": "many"}, "number_of_shards"),
        ({"mapping.fields.a": "keyword widht=1"}, "widht"),
        ({"mapping.fields.a": "text analyzer=klingon"}, "klingon"),
    ],
)
def test_settings_that_elasticsearch_refuses_stop_the_task_with_the_reason(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str, keys: dict[str, str], why: str
) -> None:
    task = start_sink(**keys)
    with pytest.raises(TaskError, match=why) as raised:
        task.put([batch({"id": 1, "name": "x"})])

    assert raised.value.code == "elasticsearch.index_refused"
    assert not cluster.exists(unique_name)


def test_missing_lifecycle_support_of_the_server_is_reported(start_sink: StartSink) -> None:
    keys = {"index.lifecycle.policy": "mine", "index.lifecycle.delete.after": "30d"}
    with pytest.raises(InfrastructureError) as raised:
        start_sink(**keys)

    assert raised.value.code == "elasticsearch.missing_feature"


def test_check_finds_the_conflicts_that_the_task_finds(cluster: Cluster, elasticsearch: Any, unique_name: str) -> None:
    cluster.put(unique_name, {"mappings": {"properties": {"name": {"type": "text"}}}})
    properties = {"connection.url": elasticsearch.url, "topics": unique_name, "mapping.fields.name": "keyword"}

    (finding,) = ElasticsearchSinkConnector().check(properties)
    assert (finding.code, finding.severity) == ("elasticsearch.mapping_conflict", "error")
    properties = {"connection.url": elasticsearch.url, "topics": unique_name, "index.template": unique_name}
    assert list(ElasticsearchSinkConnector().check(properties)) == []
    assert not cluster.exists(f"_index_template/{unique_name}")


def test_check_finds_a_missing_pipeline(elasticsearch: Any, unique_name: str) -> None:
    properties = {"connection.url": elasticsearch.url, "topics": unique_name, "ingest.pipeline": unique_name}

    (finding,) = ElasticsearchSinkConnector().check(properties)
    assert (finding.code, finding.key, finding.severity) == (
        "elasticsearch.pipeline_missing", "ingest.pipeline", "error",
    )  # fmt: skip


def test_dates_of_a_schema_are_searchable_as_dates(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    of = schema.struct({"on": schema.DATE_SCHEMA, "at": schema.TIMESTAMP_SCHEMA, "price": schema.decimal(2)})
    value = {"on": date(2024, 1, 1), "at": datetime(2024, 1, 1, 12, tzinfo=UTC), "price": Decimal("1.50")}
    assert list(start_sink().put([batch(value, of=of)])) == []

    properties = cluster.properties(unique_name)
    assert {name: field["type"] for name, field in properties.items()} == {
        "on": "date",
        "at": "date",
        "price": "double",
    }
    assert cluster.count(unique_name) == 1
    for name in ("on", "at"):
        query = f"{unique_name}/_count?q={name}:[2024-01-01 TO 2024-01-02]"
        assert cluster.get(query)["count"] == 1


def test_a_tombstone_as_first_record_does_not_prevent_the_mapping(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    task = start_sink(behavior_on_null_values="delete")

    assert list(task.put([batch(None, of=None)])) == []
    assert not cluster.exists(unique_name)  # deletes alone create no index
    assert list(task.put([batch({"id": 1, "name": "x"}, first=1)])) == []
    assert cluster.properties(unique_name)["id"] == {"type": "integer"}


def test_a_field_and_an_object_of_one_name_are_an_error(start_sink: StartSink, batch: Batch, unique_name: str) -> None:
    of = schema.struct({"a": schema.INT32, "a.b": schema.INT32})
    with pytest.raises(TaskError) as raised:
        start_sink().put([batch({"a": 1, "a.b": 2}, of=of)])

    assert raised.value.code == "elasticsearch.dotted_names"


def test_json_texts_are_searchable_as_objects(
    start_sink: StartSink, batch: Batch, cluster: Cluster, unique_name: str
) -> None:
    of = schema.struct({"id": schema.INT32, "payload": schema.STRING})
    task = start_sink(**{"json.fields": "payload"})
    assert list(task.put([batch({"id": 1, "payload": '{"color": "red",\n "sizes": [1, 2]}'}, of=of)])) == []
    HTTP.post(f"{cluster.url}/{unique_name}/_refresh").raise_for_status()
    query = {"query": {"bool": {"filter": [{"match": {"payload.color": "red"}}, {"term": {"payload.sizes": 2}}]}}}
    found = HTTP.post(f"{cluster.url}/{unique_name}/_search", json=query).raise_for_status().json()
    (hit,) = found["hits"]["hits"]
    assert hit["_source"] == {"id": 1, "payload": {"color": "red", "sizes": [1, 2]}}
