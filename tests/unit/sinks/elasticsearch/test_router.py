"""Index names come from topics, fields, headers and time, within the configured names."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import DataError, SinkBatch, schema
from headrace_sinks.elasticsearch.naming.name_templates import NameTemplate
from headrace_sinks.elasticsearch.timings import SinkTimings

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
INVALID = "elasticsearch.invalid_index_name"


@pytest.mark.parametrize(
    ("name", "regex", "topic", "index"),
    [
        ("orders", "", "any", "orders"),
        ("{topic}", "", "Shop.Orders", "shop.orders"),
        ("all-{topic}", "", "orders", "all-orders"),
        ("{1}-{2}", r"(\w+)\.(\w+)", "shop.Orders", "shop-orders"),
        ("{table}_v2", r".*\.(?P<table>\w+)", "db.public.users", "users_v2"),
    ],
)
def test_index_names_contain_parts_of_the_topic(name: str, regex: str, topic: str, index: str) -> None:
    assert NameTemplate(name, regex, ()).of_topic(topic) == index


def test_a_topic_that_does_not_match_the_expression_is_refused(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(index_name="{1}", index_name_regex=r"shop\.(\w+)")

    assert sink.put(batch({"a": 1}, topic="shop.orders"), batch({"a": 2}, topic="other")) == [("other-0", 0, INVALID)]
    assert server.found("orders") == {"k0": {"a": 1}}


def test_a_field_chooses_the_index_and_each_index_gets_its_records_in_order(
    make_sink: Make, batch: Batch, server: Any
) -> None:
    sink = make_sink(index_name="orders-{value:region.code}")
    values = [{"n": number, "region": {"code": ["EU", "us"][number % 2]}} for number in range(6)]

    assert sink.put(batch(*values, keys=["x"] * 6)) == []
    assert {index: server.found(index)["x"]["n"] for index in ("orders-eu", "orders-us")} == {
        "orders-eu": 4,
        "orders-us": 5,
    }
    assert set(server.indices) == {"orders-eu", "orders-us"}


@pytest.mark.parametrize(
    "region",
    [
        "", ".", "..", "../x", "a/b", "a,b", "*", "a b", "a\nb", "a#b", "<x>", "a:b", None, 1.5, ["a"], {"a": 1},
        "x" * 300, "a..b", '"', "a\\b",
    ],
)  # fmt: skip
def test_a_record_cannot_choose_an_index_outside_the_configured_names(
    make_sink: Make, batch: Batch, server: Any, region: Any
) -> None:
    sink = make_sink(index_name="orders-{value:region}")

    assert sink.put(batch({"region": region}, {"region": "eu"})) == [("orders-0", 0, INVALID)]
    assert set(server.indices) == {"orders-eu"}


def test_a_record_without_the_field_is_refused(make_sink: Make, batch: Batch) -> None:
    sink = make_sink(index_name="orders-{value:region}")

    assert sink.put(batch({"a": 1}, "text", {"region": {"x": 1}})) == [("orders-0", row, INVALID) for row in range(3)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.integers() | st.none())
def test_an_index_name_always_begins_with_the_configured_text(batch: Batch, text: Any) -> None:
    namer = NameTemplate("orders-{value:region}", "", ()).namer("t")
    values = [{"region": text}]
    try:
        name = namer(batch(*values), values, 0)
    except DataError:
        return
    assert name.startswith("orders-")
    assert not set(name) & set('\\/*?"<>| ,#:')
    assert name == name.lower()
    assert len(name.encode()) <= 255


def test_only_allowed_index_names_are_used(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(index_name="{value:region}", index_name_allowed="shop-*, audit")
    values = [{"region": name} for name in ("shop-1", "audit", "secret", "audit2")]

    assert sink.put(batch(*values)) == [("orders-0", 2, INVALID), ("orders-0", 3, INVALID)]
    assert set(server.indices) == {"shop-1", "audit"}


def test_the_number_of_chosen_indices_is_limited(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(index_name="orders-{key}", index_name_limit="2")

    refused = sink.put(batch({}, {}, {}, {}, keys=["a", "b", "c", "a"]))
    assert refused == [("orders-0", 2, "elasticsearch.too_many_indices")]
    assert set(server.indices) == {"orders-a", "orders-b"}


def test_indices_of_the_day_before_are_not_counted(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(SinkTimings(index_limit_period=0.0), index_name="orders-{key}", index_name_limit="2")
    assert sink.put(batch({}, {}, keys=["a", "b"])) == []

    assert sink.put(batch({}, {}, {}, keys=["c", "d", "e"])) == [("orders-0", 2, "elasticsearch.too_many_indices")]
    assert set(server.indices) == {"orders-a", "orders-b", "orders-c", "orders-d"}


def test_the_index_name_has_the_date_of_the_record(make_sink: Make, batch: Batch, server: Any) -> None:
    records = batch({"n": 1}, {"n": 2})
    records.timestamps = [1_767_225_599_999, 1_767_225_600_000]  # the last millisecond of 2025, the first of 2026
    assert make_sink(index_name="orders-{time:%Y.%m.%d}").put(records) == []
    assert set(server.indices) == {"orders-2025.12.31", "orders-2026.01.01"}


@pytest.mark.parametrize(
    ("placed_at", "index"),
    [
        (1_767_225_600_000, "orders-2026.01"),
        ("2026-01-31T23:59:59+00:00", "orders-2026.01"),
        ("2026-02-01T00:30:00+01:00", "orders-2026.01"),
        ("2026-02-01", "orders-2026.02"),
        ("soon", None),
        (True, None),
        (10**18, None),
        (None, None),
    ],
)
def test_the_index_name_has_the_date_of_a_field(
    make_sink: Make, batch: Batch, server: Any, placed_at: Any, index: str | None
) -> None:
    sink = make_sink(index_name="orders-{time(placed_at):%Y.%m}")

    assert sink.put(batch({"placed_at": placed_at})) == ([] if index else [("orders-0", 0, INVALID)])
    assert set(server.indices) == ({index} if index else set())


def test_the_index_name_has_the_value_of_a_header(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(index_name="orders-{header:tenant}")

    assert sink.put(batch({"a": 1}, {"a": 2}, headers=[[("tenant", b"Acme")], []])) == [("orders-0", 1, INVALID)]
    assert set(server.indices) == {"orders-acme"}


class TestDataStreams:
    def test_a_topic_gives_the_data_stream_name_row_75(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["logs-web-app"] = {}
        sink = make_sink(data_stream_type="LOGS", data_stream_dataset="web")

        assert sink.put(batch({"a": 1}, topic="App")) == []
        assert {action.target["_index"] for bulk in server.bulks for action in bulk} == {"logs-web-app"}
        assert {action.name for bulk in server.bulks for action in bulk} == {"create"}

    def test_a_topic_with_dashes_is_named_as_in_kafka_connect(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["logs-web-my-app"] = {}
        sink = make_sink(data_stream_type="LOGS", data_stream_dataset="web")

        assert sink.put(batch({"a": 1}, topic="my-app")) == []
        assert {action.target["_index"] for bulk in server.bulks for action in bulk} == {"logs-web-my-app"}

    def test_a_new_data_stream_has_the_mapping_of_the_schema(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(data_stream_type="LOGS", data_stream_dataset="web", schema_ignore="false")
        records = batch({"id": 1}, schema=schema.struct({"id": schema.INT32}))

        assert sink.put(records) == []
        assert server.indices["logs-web-orders"] == {"properties": {"id": {"type": "integer"}}}

    def test_a_namespace_longer_than_100_is_truncated_row_76(self, make_sink: Make, batch: Batch, server: Any) -> None:
        name = "metrics-web-" + "n" * 100
        server.indices[name] = {}
        sink = make_sink(data_stream_type="METRICS", data_stream_dataset="web")

        assert sink.put(batch({"a": 1}, topic="n" * 120)) == []
        assert {action.target["_index"] for bulk in server.bulks for action in bulk} == {name}

    @pytest.mark.parametrize(
        ("fields", "value", "stamp"),
        [
            ("", {"a": 1}, 1_000),
            ("", {}, 1_000),
            ("", {"@timestamp": "2026-01-01"}, "2026-01-01"),
            ("at", {"at": "2026-01-01"}, "2026-01-01"),
            ("at,b", {"b": 5}, 5),
            ("at,b", {"at": None, "b": 5}, 5),
            ("at", {"a": 1}, 1_000),
        ],
    )
    def test_documents_have_the_timestamp_of_the_configured_field_row_99(
        self, make_sink: Make, batch: Batch, server: Any, fields: str, value: Any, stamp: Any
    ) -> None:
        server.indices["logs-web-orders"] = {}
        sink = make_sink(data_stream_type="LOGS", data_stream_dataset="web", data_stream_timestamp_field=fields)
        records = batch(value)
        records.timestamps = [1_000]

        assert sink.put(records) == []
        ((action,),) = server.bulks
        assert action.document == {**value, "@timestamp": stamp}

    def test_an_existing_document_is_no_error(self, make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
        server.indices["logs-web-orders"] = {}
        server.script = [
            lambda actions: scripted.items([scripted.item(actions[0], 409, "version_conflict_engine_exception", "")])
        ]
        sink = make_sink(data_stream_type="LOGS", data_stream_dataset="web")

        assert sink.put(batch({"a": 1})) == []

    def test_a_value_that_is_not_an_object_has_no_timestamp(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["logs-web-orders"] = {}
        sink = make_sink(data_stream_type="LOGS", data_stream_dataset="web")

        assert sink.put(batch("text")) == [("orders-0", 0, "elasticsearch.not_an_object")]


class TestRouting:
    def routings(self, server: Any) -> list[Any]:
        return [action.target.get("routing") for bulk in server.bulks for action in bulk]

    def test_the_routing_is_the_record_key(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(routing_type="key", behavior_on_null_values="delete")

        assert sink.put(batch({"a": 1}, None, keys=[7, "x"])) == []
        assert self.routings(server) == ["7", "x"]

    def test_the_routing_is_the_value_of_a_field(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(routing_type="value", routing_type_record_value_path="/customer/id")
        values = [{"customer": {"id": 5}}, {"customer": {"id": "x"}}, {"customer": None}, {}, {"customer": {"id": 1.5}}]

        assert sink.put(batch(*values)) == [("orders-0", 4, "elasticsearch.no_routing")]
        assert self.routings(server) == ["5", "x", None, None]


class TestUpdate:
    def test_a_missing_document_is_refused(self, make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
        server.script = [
            lambda actions: scripted.items(
                [server.write(actions[0]), scripted.item(actions[1], 404, "document_missing_exception", "missing")]
            )
        ]
        sink = make_sink(write_method="update", max_in_flight_requests="1")

        assert sink.put(batch({"a": 1}, {"a": 2})) == [("orders-0", 1, "elasticsearch.document_missing")]
        assert [action.document for bulk in server.bulks for action in bulk] == [{"doc": {"a": 1}}, {"doc": {"a": 2}}]
