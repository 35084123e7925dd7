"""The task with a scripted server: no record is lost or doubled, and every problem has a reported reason."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import DataError, InfrastructureError, SinkBatch, TaskError, schema
from headrace.testing.waiting import eventually

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
MALFORMED = "elasticsearch.document_rejected"


def test_a_put_of_no_records_sends_no_request(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink()

    assert sink.put() == []
    assert sink.put(batch()) == []
    assert server.bulks == []


def test_records_become_documents(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink()

    assert sink.put(batch({"a": 1}, {"a": 2}), batch({"a": 3}, topic="Others")) == []
    assert server.found("orders") == {"k0": {"a": 1}, "k1": {"a": 2}}
    assert server.found("others") == {"k0": {"a": 3}}
    assert set(server.indices) == {"orders", "others"}


def test_repeated_batches_change_nothing_and_are_no_errors(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(behavior_on_null_values="delete")
    batches = [batch({"a": 1}, {"a": 2}, {"a": 3}, None, keys=["x", "y", "x", "y"])]
    assert sink.put(*batches) == []
    before = dict(server.documents)

    assert sink.put(*batches) == []
    assert server.documents == before
    assert server.found("orders") == {"x": {"a": 3}}


def test_an_older_record_never_replaces_a_newer_one(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink()

    assert sink.put(batch({"a": "new"}, first=18)) == []
    assert sink.put(batch({"a": "old"}, first=17)) == []
    assert server.found("orders") == {"k0": {"a": "new"}}


def test_requests_are_split_by_count_and_run_concurrently(make_sink: Make, batch: Batch, server: Any) -> None:
    gate = threading.Barrier(3, timeout=60)

    def together(actions: list[Any]) -> Any:
        gate.wait()
        return server.accept(actions)

    server.script = [together] * 3
    sink = make_sink(batch_size="2", max_in_flight_requests="3")

    assert sink.put(batch(*({"a": number} for number in range(6)))) == []
    assert sorted(len(bulk) for bulk in server.bulks) == [2, 2, 2]
    assert server.most_at_once == 3
    assert len(server.found("orders")) == 6


def test_no_more_requests_run_at_once_than_allowed(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(batch_size="1", max_in_flight_requests="2")

    assert sink.put(batch(*({"a": number} for number in range(20)))) == []
    assert server.most_at_once <= 2
    assert len(server.found("orders")) == 20


def test_requests_are_split_by_bytes(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(bulk_size_bytes="300")

    assert sink.put(batch(*({"a": "x" * size} for size in (10, 10, 1000, 10)))) == []
    assert all(len(body) <= 300 or body.count(b"\n") == 2 for body in server.bodies)
    assert len(server.found("orders")) == 4


def test_records_of_several_batches_share_a_request(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(batch_size="4")

    assert sink.put(*(batch({"a": 1}, partition=partition, keys=[partition]) for partition in range(6))) == []
    assert sorted(len(bulk) for bulk in server.bulks) == [2, 4]


def test_a_refused_document_is_reported_with_its_offset_and_without_its_contents(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    reason = (
        "[1:6] failed to parse field [a] of type [long] in document with id 'k1'. Preview of field's value: 'secret'"
    )
    server.script = [
        lambda actions: scripted.items(
            [server.write(action) for action in actions[:1]]
            + [scripted.item(actions[1], 400, "document_parsing_exception", reason)]
            + [server.write(action) for action in actions[2:]]
        )
    ]
    sink = make_sink()
    (rejection,) = sink.task.put([batch({"a": 1}, {"a": "secret"}, first=5), batch({"a": 2}, partition=1)])

    assert (rejection.topic_partition, rejection.offset) == (("orders", 0), 6)
    assert rejection.error.code == MALFORMED
    assert "failed to parse field [a] of type [long]" in rejection.error.message
    assert "secret" not in str(rejection.error)
    assert "k1" not in str(rejection.error)
    assert len(server.found("orders")) == 1  # k0 of partition 1 is the same document
    assert server.documents["orders", "k0"][1] in ({"a": 1}, {"a": 2})


@pytest.mark.parametrize("behavior", ["ignore", "warn"])
def test_refused_documents_are_dropped_if_configured_and_without_a_dead_letter_queue(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, behavior: str
) -> None:
    refuse = [lambda actions: scripted.items([scripted.item(actions[0], 400, "mapper_parsing_exception", "no")])]
    server.script = refuse * 2

    assert make_sink(behavior_on_malformed_documents=behavior).put(batch({"a": 1})) == []
    sink = make_sink(behavior_on_malformed_documents=behavior, errors_tolerance="all")
    assert sink.put(batch({"a": 1})) == [("orders-0", 0, MALFORMED)]


def test_records_without_a_document_are_refused_with_the_reason(make_sink: Make, batch: Batch, server: Any) -> None:
    bad = batch({"a": 1}, "text", {"a": float("nan")}, {"a": 1}, None, keys=["x", "y", "z", None, "t"], first=10)

    assert make_sink().put(bad) == [
        ("orders-0", 11, "elasticsearch.not_an_object"),
        ("orders-0", 12, "elasticsearch.not_json"),
        ("orders-0", 13, "elasticsearch.unusable_key"),
        ("orders-0", 14, "elasticsearch.null_value"),
    ]
    assert server.found("orders") == {"x": {"a": 1}}
    assert make_sink(drop_invalid_message="true").put(bad) == []


def test_an_invalid_index_name_refuses_only_its_records(make_sink: Make, batch: Batch, server: Any) -> None:
    moved = batch({"a": 1}, first=3)
    moved.topic = "no such/name"

    assert make_sink().put(moved, batch({"a": 2})) == [("orders-0", 3, "elasticsearch.invalid_index_name")]
    assert server.found("orders") == {"k0": {"a": 2}}


class TestMapping:
    of = schema.struct({"id": schema.INT32, "name": schema.STRING})

    def test_a_new_index_has_the_mapping_of_the_schema(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(schema_ignore="false")

        assert sink.put(batch({"id": 1, "name": "x"}, schema=self.of)) == []
        assert server.indices["orders"]["properties"]["id"] == {"type": "integer"}

    def test_an_index_without_mapping_gets_that_of_the_schema(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["orders"] = {}
        make_sink(schema_ignore="false").put(batch({"id": 1, "name": "x"}, schema=self.of))

        assert server.indices["orders"]["properties"]["id"] == {"type": "integer"}

    def test_an_existing_mapping_is_kept_and_completed(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["orders"] = {"properties": {"id": {"type": "keyword"}}}
        make_sink(schema_ignore="false", mapping_strings="keyword").put(batch({"id": 1, "name": "x"}, schema=self.of))

        assert server.indices["orders"]["properties"] == {
            "id": {"type": "keyword"},
            "name": {"type": "keyword", "ignore_above": 256},
        }

    def test_a_tombstone_as_first_record_needs_no_schema(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(schema_ignore="false", behavior_on_null_values="delete")

        assert sink.put(batch(None)) == []
        assert sink.put(batch({"id": 1, "name": "x"}, schema=self.of, first=1)) == []
        assert server.indices["orders"]["properties"]["id"] == {"type": "integer"}

    def test_values_without_schema_are_mapped_by_elasticsearch(
        self, make_sink: Make, batch: Batch, server: Any
    ) -> None:
        assert make_sink(schema_ignore="false").put(batch({"a": 1})) == []

        assert server.indices["orders"] == {}

    def test_the_schema_is_ignored_for_configured_topics(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(schema_ignore="false", topic_schema_ignore="orders")

        assert sink.put(batch({"a": 1})) == []
        assert server.indices["orders"] == {}


RESOURCES = {"external_resource_usage": "INDEX", "topic_to_external_resource_mapping": "orders:shop"}


class TestResources:
    def test_records_are_written_to_the_configured_resource(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["shop"] = {}

        assert make_sink(**RESOURCES).put(batch({"a": 1})) == []
        assert server.found("shop") == {"k0": {"a": 1}}

    def test_a_missing_resource_is_an_error(self, make_sink: Make, batch: Batch, server: Any) -> None:
        with pytest.raises(InfrastructureError, match="'shop' does not exist"):
            make_sink(**RESOURCES).put(batch({"a": 1}))

        assert server.indices == {}

    def test_a_topic_without_a_resource_is_an_error(self, make_sink: Make, batch: Batch, server: Any) -> None:
        with pytest.raises(TaskError, match="names no index for topic 'others'"):
            make_sink(**RESOURCES).put(batch({"a": 1}, topic="others"))


def test_an_unexpected_error_is_raised(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink()
    server.script = [scripted.items([{"index": {"error": {}}}])]  # an item without status, which no version sends

    with pytest.raises(KeyError):
        sink.put(batch({"a": 1}))


def test_stop_leaves_no_thread(make_sink: Make, batch: Batch) -> None:
    before = set(threading.enumerate())
    sink = make_sink(batch_size="1")
    sink.put(batch(*({"a": number} for number in range(10))))
    sink.task.stop()

    eventually(lambda: {thread for thread in threading.enumerate() if "-bulk" in thread.name} <= before)


def test_rejections_carry_data_errors(make_sink: Make, batch: Batch) -> None:
    (rejection,) = make_sink().task.put([batch("text")])

    assert isinstance(rejection.error, DataError)


@pytest.mark.parametrize("comparison", ["higher or equal to", "higher than"])  # external, external_gte
@pytest.mark.parametrize(("end", "told"), [(6, True), (7, False), (None, False)])
def test_the_status_shows_an_index_with_newer_versions_than_its_topic(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, end: int | None, told: bool, comparison: str
) -> None:
    reason = f"[k0]: version conflict, current version [6] is {comparison} the one provided [0]"
    kind = "version_conflict_engine_exception"
    server.script = [lambda actions: scripted.items([scripted.item(actions[0], 409, kind, reason)])]
    sink = make_sink()
    records = batch({"a": 1})
    records.end_offset = end

    assert sink.put(records) == []
    assert any("not written" in (said or "") for said in sink.status_reasons.said) == told
    assert sink.put(batch({"a": 2}, first=9)) == []
    assert sink.status_reasons.current is None
