"""Known cases of lost records and misleading messages; names carry the number of the case."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace import HeadraceError, InfrastructureError, RetriableError, SinkBatch, TopicPartition, schema
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.timings import SinkTimings

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
STREAM = {"data_stream_type": "LOGS", "data_stream_dataset": "web"}
SHARED = {"topics": "orders,returns", "index_name": "shop"}


def warnings(**keys: str) -> list[str]:
    """The codes of all warnings about a configuration."""
    properties = {"connection.url": "http://localhost:9200", **{k.replace("_", "."): v for k, v in keys.items()}}
    _, findings = ElasticsearchSinkConfig.validate_properties(properties)
    return [finding.code for finding in findings if finding.severity == "warning"]


def test_f3_a_data_stream_with_record_keys_is_warned_about() -> None:
    assert warnings(**STREAM) == ["elasticsearch.stream_keeps_first"]
    assert warnings(**STREAM, key_ignore="true") == []


def test_f3_a_record_that_a_data_stream_does_not_take_is_counted_and_reported(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink(**STREAM)
    exists = "[k1]: version conflict, document already exists (current version [1])"
    server.script = [
        lambda actions: scripted.items(
            [server.write(actions[0])]
            + [scripted.item(action, 409, "version_conflict_engine_exception", exists) for action in actions[1:]]
        )
    ]
    sink.put(batch({"n": 1}, {"n": 2}, {"n": 3}, keys=["k1", "k1", "k1"]))

    assert "2 records were not written" in sink.status_reasons.current
    assert "key.ignore" in sink.status_reasons.current


def test_f3_a_repeated_record_without_key_is_expected(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink(**STREAM, key_ignore="true")
    server.script = [
        lambda actions: scripted.items(
            [scripted.item(action, 409, "version_conflict_engine_exception", "exists") for action in actions]
        )
    ]
    sink.put(batch({"n": 1}))

    assert sink.status_reasons.current is None


@pytest.mark.parametrize(
    "keys",
    [SHARED, {"topics": "Orders,orders"}, {"topics": "a,b", "external_resource_usage": "INDEX",
     "topic_to_external_resource_mapping": "a:shop,b:shop"}],
)  # fmt: skip
def test_f4_two_topics_of_one_index_are_warned_about(keys: dict[str, str]) -> None:
    assert warnings(**keys) == ["elasticsearch.shared_index"]


@pytest.mark.parametrize(
    "keys",
    [{"key_ignore": "true"}, {"topic_key_ignore": "orders"}, {"external_version_header": "version"},
     {"write_method": "upsert"}],
)  # fmt: skip
def test_f4_topics_whose_offsets_are_not_compared_may_share_an_index(keys: dict[str, str]) -> None:
    assert warnings(**SHARED, **keys) == []


def ahead(server: Any, scripted: Any, version: int) -> None:
    """Make the next request's documents exist in this version."""
    reason = f"[k0]: version conflict, current version [{version}] is higher or equal to the one provided [0]"
    server.script = [
        lambda actions: scripted.items(
            [scripted.item(action, 409, "version_conflict_engine_exception", reason) for action in actions]
        )
    ]


def test_f4_a_version_conflict_names_the_other_topic_of_the_index(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink(index_name="shop")
    sink.put(batch({"a": 1}, first=45))
    ahead(server, scripted, 45)
    records = batch({"a": 2}, topic="returns")
    records.end_offset = 1
    sink.put(records)

    assert "topic orders writes to the same index" in sink.status_reasons.current
    assert "reindex" not in sink.status_reasons.current


def test_f4_a_version_conflict_names_keys_that_moved_between_partitions(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()
    ahead(server, scripted, 45)
    records = batch({"a": 2}, partition=3)
    records.end_offset = 1
    sink.put(records)

    assert "orders-3" in sink.status_reasons.current
    assert "partitions were added" in sink.status_reasons.current
    assert "external.version.header" in sink.status_reasons.current


def test_a_record_that_is_read_again_after_a_newer_one_was_written_is_no_conflict(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    """After a broker has failed, the new leader returns a lower end offset for a short time."""
    sink = make_sink()
    sink.ends = {TopicPartition("orders", 0): 46}.get
    ahead(server, scripted, 45)
    records = batch({"a": 2})
    records.end_offset = 1
    sink.put(records)

    assert sink.status_reasons.current is None


def test_a_version_that_no_record_of_the_partition_has_is_a_conflict(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()
    sink.ends = {TopicPartition("orders", 0): 45}.get
    ahead(server, scripted, 45)
    records = batch({"a": 2})
    records.end_offset = 1
    sink.put(records)

    assert "newer versions" in sink.status_reasons.current


def test_a_version_conflict_is_reported_when_kafka_responds(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()
    sink.ends = refuse
    ahead(server, scripted, 45)
    records = batch({"a": 2})
    records.end_offset = 1
    sink.put(records)
    before = sink.status_reasons.current
    sink.ends = {TopicPartition("orders", 0): 3}.get
    sink.put(batch({"a": 3}, first=2))

    assert before is None
    assert "newer versions" in sink.status_reasons.current


def refuse(topic_partition: TopicPartition) -> int:
    raise RetriableError("Kafka does not answer", code="kafka.unreachable")


def test_f8_records_wait_for_a_write_index_of_their_alias(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink(max_retries="0")
    reason = "no write index is defined for alias [orders]. The write index may be explicitly disabled"
    server.script = [
        lambda actions: scripted.items(
            [scripted.item(action, 400, "illegal_argument_exception", reason) for action in actions]
        )
    ]
    with pytest.raises(RetriableError) as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == "elasticsearch.no_write_index"
    assert "is_write_index" in raised.value.hint


def test_f20_an_index_name_that_a_data_stream_template_matches_names_the_keys_that_help(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    reason = "cannot create index with name [orders], because it matches with template [t] that creates data streams "
    reason += "only, use create data stream api instead"
    sink = make_sink()
    server.on_path["/orders"] = scripted.Answer(404)
    refused = scripted.Answer(400, {"error": {"type": "illegal_argument_exception", "reason": reason}})
    answer = server.answer
    server.answer = lambda method, path, body: refused if method == "PUT" else answer(method, path, body)
    with pytest.raises(InfrastructureError) as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == "elasticsearch.data_stream"
    assert "data.stream.type" in raised.value.hint


def test_f20_no_hint_names_a_transform_that_headrace_lacks(make_sink: Make, batch: Batch) -> None:
    sink = make_sink()
    texts = [str(item.error) for item in sink.task.put([batch({"a": 1}, topic="a b"), batch("text")])]

    assert len(texts) == 2
    assert not any("RegexRouter" in text or "HoistField" in text for text in texts)


@pytest.mark.parametrize("meanwhile", [True, False])
def test_operations_18_a_deleted_index_is_named_and_created_with_the_governed_mapping(
    make_sink: Make, batch: Batch, server: Any, meanwhile: bool
) -> None:
    sink = make_sink(SinkTimings(index_check_interval=0.0), schema_ignore="false")
    of = schema.struct({"id": schema.INT64})
    sink.put(batch({"id": 1}, schema=of))
    before = server.indices.pop("orders")
    if meanwhile:
        server.indices["orders"] = {}
    sink.put(batch({"id": 2}, first=1, schema=of))

    assert server.indices["orders"]["properties"] == before["properties"]
    assert "index 'orders' was deleted" in sink.conditions["elasticsearch.index_deleted"]
    assert "--repair" in sink.conditions["elasticsearch.index_deleted"]


def test_operations_18_an_idle_sink_names_an_index_that_was_deleted_after_its_last_check(
    make_sink: Make, batch: Batch, server: Any
) -> None:
    """The record after the deletion comes within the check interval and is the last one."""
    sink = make_sink(schema_ignore="false")
    of = schema.struct({"id": schema.INT64})
    sink.put(batch({"id": 1}, schema=of))
    sink.task.idle()
    before = server.indices.pop("orders")
    server.indices["orders"] = {}  # by the bulk request
    sink.put(batch({"id": 2}, first=1, schema=of))
    assert "elasticsearch.index_deleted" not in sink.conditions
    sink.task.idle()

    assert "index 'orders' was deleted" in sink.conditions["elasticsearch.index_deleted"]
    assert server.indices["orders"] == {}, "an idle task changes nothing"
    sink.put(batch({"id": 3}, first=2, schema=of))
    assert server.indices["orders"]["properties"] == before["properties"]


def test_operations_18_an_idle_sink_never_creates_an_index(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink()
    sink.put(batch({"id": 1}))
    del server.indices["orders"]
    sink.task.idle()

    assert "was deleted" in sink.conditions["elasticsearch.index_deleted"]
    assert "orders" not in server.indices


def test_an_idle_sink_checks_an_index_once_after_each_write(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink()
    sink.put(batch({"id": 1}))
    before = len(server.requests)
    sink.task.idle()
    sink.task.idle()

    assert server.requests[before:] == ["GET /orders"]


def test_an_idle_sink_repeats_a_check_that_failed(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink()
    sink.put(batch({"id": 1}))
    del server.indices["orders"]
    server.on_path["/orders"] = scripted.Answer(503)
    with pytest.raises(RetriableError):
        sink.task.idle()
    del server.on_path["/orders"]
    sink.task.idle()

    assert "was deleted" in sink.conditions["elasticsearch.index_deleted"]


def test_operations_18_a_deleted_index_is_not_created_with_index_management_check(
    make_sink: Make, batch: Batch, server: Any
) -> None:
    server.indices["orders"] = {}
    sink = make_sink(SinkTimings(index_check_interval=0.0), index_management="check")
    sink.put(batch({"id": 1}))
    del server.indices["orders"]
    before = len(server.bulks)
    with pytest.raises(HeadraceError) as raised:
        sink.put(batch({"id": 2}, first=1))

    assert raised.value.code == "elasticsearch.index_missing"
    assert len(server.bulks) == before
    assert "was deleted" in sink.conditions["elasticsearch.index_deleted"]


@pytest.mark.parametrize(
    ("keys", "way"),
    [
        ({}, "`headrace reindex NAME FILE…`"),
        ({"index_name": "shop-{topic}"}, "`headrace reindex NAME FILE…`"),
        ({"index_name": "shop-{value:n}", "write_method": "insert"}, "write to a new index ('index.name')"),
        ({"write_method": "upsert"}, "write to a new index ('index.name')"),
        ({"ingest_pipeline": "clean"}, "write to a new index ('index.name')"),
        ({**STREAM, "key_ignore": "true"}, "_rollover"),
    ],
)
def test_operations_17_a_mapping_conflict_names_a_fix_that_the_configuration_supports(
    make_sink: Make, batch: Batch, server: Any, keys: dict[str, str], way: str
) -> None:
    sink = make_sink(**keys, schema_ignore="false")
    index = {"shop-{topic}": "shop-orders", "shop-{value:n}": "shop-7"}.get(keys.get("index_name", ""), "orders")
    server.indices[f"logs-web-{index}" if "data_stream_type" in keys else index] = {
        "properties": {"n": {"type": "integer"}}
    }
    with pytest.raises(RetriableError) as raised:
        sink.put(batch({"n": 7}, schema=schema.struct({"n": schema.INT64})))

    assert raised.value.code == "elasticsearch.mapping_conflict"
    assert raised.value.hint.startswith(way) or way in raised.value.hint.partition(";")[0]


@pytest.mark.parametrize("earlier", [False, True])
def test_c5_tombstones_alone_create_no_index(make_sink: Make, batch: Batch, server: Any, earlier: bool) -> None:
    sink = make_sink(behavior_on_null_values="delete")
    if earlier:
        sink.put(batch({"a": 1}))
    bulks = len(server.bulks)
    assert sink.put(batch(None, None, first=1)) == []

    assert ("orders" in server.indices) == earlier
    assert (len(server.bulks) > bulks) == earlier
    assert sink.put(batch(None, keys=[None], first=3)) == [("orders-0", 3, "elasticsearch.unusable_key")]
    assert sink.put(batch({"a": 1}, None, first=4)) == []
    assert "orders" in server.indices
