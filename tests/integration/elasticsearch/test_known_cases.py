"""Known cases of faults on a real Elasticsearch; names carry the number of the case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
from headrace.testing.contexts import RecordedConditions, RecordedStatusReasons, make_sink_context
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask
from headrace_sinks.elasticsearch.timings import SinkTimings
from tests.engines.http import HTTP

ROW = schema.struct({"id": schema.INT64, "sold": schema.DATE_SCHEMA})


class Sink:
    """A task that writes records of one topic, with its reports."""

    def __init__(self, url: str, topic: str, keys: dict[str, str]) -> None:
        self.topic, self.url = topic, url
        self.properties = {"connection.url": url, "topics": topic, "retry.backoff.ms": "1", **keys}
        self.reasons = RecordedStatusReasons()
        self.conditions = RecordedConditions()
        self.task = ElasticsearchSinkTask(SinkTimings(index_check_interval=0.0))
        self.offset = 0

    def start(self) -> None:
        self.task.start(
            make_sink_context(self.properties, set_status_reason=self.reasons, raise_condition=self.conditions)
        )

    def put(self, *values: Any, of: Schema | None = None, keys: list[Any] | None = None) -> list[str]:
        """The codes of rejected records."""
        count = len(values)
        batch = SinkBatch(
            TopicPartition(self.topic, 0),
            self.topic,
            list(range(self.offset, self.offset + count)),
            keys or [f"k{self.offset + row}" for row in range(count)],
            list(values),
            [0] * count,
            [()] * count,
            value_schema=of,
        )
        rejections = self.task.put([batch])
        self.offset += count
        return [rejection.error.code for rejection in rejections]

    def findings(self) -> list[tuple[str, str]]:
        """Return the findings of ``check``: severity and code."""
        return [(each.severity, each.code) for each in ElasticsearchSinkConnector().check(self.properties)]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return HTTP.request(method, f"{self.url}/{path}", json=body).raise_for_status().json()

    def ids(self, index: str) -> list[str]:
        self.ask("POST", f"{index}/_refresh")
        return sorted(hit["_id"] for hit in self.ask("GET", f"{index}/_search?size=100")["hits"]["hits"])


@contextmanager
def suppress_code(code: str) -> Iterator[None]:
    """Suppress a HeadraceError with this code."""
    try:
        yield
    except HeadraceError as error:
        if error.code != code:
            raise


Make = Callable[..., Sink]


@pytest.fixture
def make_sink(elasticsearch: Any, unique_name: str) -> Iterator[Make]:
    """``make_sink(index_management="check")``: not started; the topic is ``unique_name``."""
    sinks: list[Sink] = []

    def make(**keys: str) -> Sink:
        dotted = {name.replace("_", "."): value for name, value in keys.items()}
        sinks.append(Sink(elasticsearch.url, dotted.pop("topic", unique_name), dotted))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.task.stop()
    HTTP.delete(f"{elasticsearch.url}/{unique_name}*")


@pytest.mark.parametrize("management", ["create", "none"])
def test_f8_an_alias_without_write_index_waits_with_the_reason(make_sink: Make, management: str) -> None:
    sink = make_sink(index_management=management)
    name = sink.topic
    for number in (1, 2):
        sink.ask("PUT", f"{name}-{number}", {"aliases": {name: {}}})

    assert ("error", "elasticsearch.no_write_index") in sink.findings()
    sink.start()
    with pytest.raises(RetriableError) as raised:
        sink.put({"id": 1})
    assert raised.value.code == "elasticsearch.no_write_index"
    actions = [{"add": {"index": f"{name}-2", "alias": name, "is_write_index": True}}]
    sink.ask("POST", "_aliases", {"actions": actions})
    assert sink.findings() == []
    assert sink.put({"id": 1}) == []
    assert sink.ids(f"{name}-2") == ["k0"]


def test_f8_a_data_stream_without_template_is_an_error(make_sink: Make, unique_name: str) -> None:
    topic = unique_name.replace("_", "")
    sink = make_sink(topic=topic, data_stream_type="METRICS", data_stream_dataset="nope", key_ignore="true")

    assert ("error", "elasticsearch.no_data_stream_template") in sink.findings()
    sink.start()
    with pytest.raises(InfrastructureError) as raised:
        sink.put({"id": 1})
    assert raised.value.code == "elasticsearch.no_data_stream_template"
    assert HTTP.head(f"{sink.url}/metrics-nope-{topic}").status_code == 404


def test_f13_an_existing_index_with_types_that_no_schema_has_is_written(make_sink: Make) -> None:
    numbers = schema.array(schema.FLOAT64)
    point = schema.struct({"lat": schema.FLOAT64, "lon": schema.FLOAT64})
    between = schema.struct({"gte": schema.INT32, "lte": schema.INT32})
    of = schema.struct({"loc": point, "pair": numbers, "vector": schema.array(schema.FLOAT32), "between": between})
    sink = make_sink()
    types: dict[str, dict[str, Any]] = {
        "loc": {"type": "geo_point"},
        "pair": {"type": "geo_point"},
        "vector": {"type": "dense_vector", "dims": 3},
        "between": {"type": "integer_range"},
    }
    found = HTTP.put(f"{sink.url}/{sink.topic}", json={"mappings": {"properties": types}})
    if found.status_code == 400:  # an Elasticsearch without vectors
        del types["vector"]
        sink.ask("PUT", sink.topic, {"mappings": {"properties": types}})
        types["vector"] = {"type": "float"}
    sink.start()
    value = {
        "loc": {"lat": 52.5, "lon": 13.4},
        "pair": [13.4, 52.5],
        "vector": [0.5, 0.25, 1.0],
        "between": {"gte": 1, "lte": 5},
    }

    assert sink.put(value, of=of) == []
    assert sink.ids(sink.topic) == ["k0"]
    kept = sink.ask("GET", sink.topic)[sink.topic]["mappings"]["properties"]
    assert {name: definition["type"] for name, definition in kept.items()} == {
        name: definition["type"] for name, definition in types.items()
    }


@pytest.mark.parametrize("meanwhile", [False, True])
def test_operations_18_a_deleted_index_is_named_and_created_with_the_governed_mapping(
    make_sink: Make, meanwhile: bool
) -> None:
    """``meanwhile``: something else has created an index of that name before the sink checks."""
    sink = make_sink()
    sink.start()
    sink.put({"id": 1, "sold": None}, of=ROW)
    sink.ask("DELETE", sink.topic)
    if meanwhile:
        sink.ask("PUT", sink.topic, {})

    def reported() -> bool:
        assert sink.put({"id": 2, "sold": None}, of=ROW) == []
        return "was deleted" in sink.conditions.get("elasticsearch.index_deleted", "")

    eventually(reported, 30)
    mapping = sink.ask("GET", sink.topic)[sink.topic]["mappings"]["properties"]
    assert mapping == {"id": {"type": "long"}, "sold": {"type": "date"}}
    assert "--repair" in sink.conditions["elasticsearch.index_deleted"]


def test_operations_18_a_deleted_index_is_not_created_with_index_management_check(make_sink: Make) -> None:
    sink = make_sink(index_management="check")
    sink.ask("PUT", sink.topic, {"mappings": {"dynamic": "false"}})
    sink.start()
    sink.put({"id": 1})
    sink.ask("DELETE", sink.topic)

    def waits() -> bool:
        with suppress_code("elasticsearch.index_missing"):
            sink.put({"id": 2})
            return False
        return True

    eventually(waits, 30)
    assert "was deleted" in sink.conditions.get("elasticsearch.index_deleted", "")


@pytest.mark.parametrize("text", [b'{"s":"\xc0\x80"}', b'{"s":"\xed\xa0\xbd\xed\xb8\x80"}', b'{"s":"cut \\ud83d"}'])
def test_f5_f6_a_document_that_another_writer_damaged_does_not_stop_verify(make_sink: Make, text: bytes) -> None:
    sink = make_sink()
    sink.start()
    sink.put({"s": "good"})
    write_raw(sink, text)
    verifier = ElasticsearchSinkConnector().verifier(sink.properties)
    try:
        names = [entry.name.decode() for page in verifier.stored_entries() for entry in page]
    finally:
        verifier.close()

    assert sorted(names) == [f"{sink.topic}/damaged", f"{sink.topic}/k0"]


def test_f5_a_document_that_is_not_json_is_named_by_verify(make_sink: Make) -> None:
    sink = make_sink()
    write_raw(sink, b'{"s":1/* one */}')
    verifier = ElasticsearchSinkConnector().verifier(sink.properties)
    try:
        with pytest.raises(TaskError) as raised:
            list(verifier.stored_entries())
    finally:
        verifier.close()

    assert raised.value.code == "elasticsearch.unreadable_documents"


def write_raw(sink: Sink, text: bytes) -> None:
    """Write a document as other programs do."""
    place, headers = f"{sink.url}/{sink.topic}/_doc/damaged", {"content-type": "application/json"}
    HTTP.put(place, content=text, headers=headers).raise_for_status()
