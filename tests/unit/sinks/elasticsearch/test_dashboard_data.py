"""Names and fields of the sink's indices, for dashboards."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import DataError, IndexedField, InfrastructureError, TaskError
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.dashboard_data import (
    ElasticsearchDashboardData,
    declared_leaves,
    field_capabilities,
)
from tests.unit.sinks.elasticsearch.conftest import Answer, Server


def data_of(server_url: str = "http://127.0.0.1:9", **properties: str) -> ElasticsearchDashboardData:
    given = {"connection.url": server_url, "topics": "shop.Orders", **properties}
    return ElasticsearchDashboardData(ElasticsearchSinkConfig.parse(given))


@pytest.mark.parametrize(
    ("properties", "name", "time_field"),
    [
        ({}, "shop.orders", ""),
        ({"index.name": "all-{time:%Y.%m}"}, "all-*", ""),
        ({"data.stream.type": "LOGS", "data.stream.dataset": "shop"}, "logs-shop-shop.orders", "@timestamp"),
    ],
)
def test_a_topic_has_the_name_that_its_records_are_written_to(
    properties: dict[str, str], name: str, time_field: str
) -> None:
    data = data_of(**properties)
    (target,) = data.targets(["shop.Orders"])
    data.close()

    assert (target.topic, target.name, target.time_field) == ("shop.Orders", name, time_field)
    assert [field.path for field in target.fields] == ([time_field] if time_field else [])


def test_a_topic_without_an_index_is_an_error() -> None:
    data = data_of(**{"index.name": "x-{1}", "index.name.regex": "other(.*)"})
    with pytest.raises(DataError, match="does not match topic"):
        data.targets(["shop.Orders"])
    data.close()


def test_declared_fields_are_leaves_with_subfields_and_without_nested_ones() -> None:
    mapping: dict[str, Any] = {
        "properties": {
            "status": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "customer": {"properties": {"country": {"type": "keyword", "doc_values": False}}},
            "lines": {"type": "nested", "properties": {"sku": {"type": "keyword"}}},
            "raw": {"type": "object", "enabled": False, "properties": {"x": {"type": "long"}}},
            "extra": {"type": "flattened"},
        }
    }
    assert list(declared_leaves(mapping)) == [
        IndexedField("status", "text", aggregatable=False),
        IndexedField("status.keyword", "keyword"),
        IndexedField("customer.country", "keyword", aggregatable=False),
    ]


def test_mapped_fields_leave_out_internal_and_nested_ones_and_name_conflicting_types() -> None:
    def of(kind: str, *, aggregatable: bool = True, internal: bool = False) -> dict[str, Any]:
        return {kind: {"aggregatable": aggregatable, "metadata_field": internal}}

    fields = {
        "_id": of("_id", internal=True),
        "status": of("text", aggregatable=False),
        "status.keyword": of("keyword"),
        "total": {**of("long"), **of("double")},
        "lines": of("nested", aggregatable=False),
        "lines.sku": of("keyword"),
        "customer": of("object", aggregatable=False),
    }
    assert list(field_capabilities(fields)) == [
        IndexedField("status", "text", aggregatable=False),
        IndexedField("status.keyword", "keyword"),
        IndexedField("total", "double/long"),
    ]


def test_fields_and_searches_are_asked_of_the_cluster(server: Server) -> None:
    caps = {"indices": ["shop.orders"], "fields": {"total": {"double": {"aggregatable": True}}}}
    server.on_path["/shop.orders/_field_caps"] = Answer(body=caps)
    server.on_path["/shop.orders/_search"] = Answer(body={"hits": {"total": {"value": 1}}})
    data = data_of(server.url)

    assert data.fields("shop.orders") == [IndexedField("total", "double")]
    assert data.search("shop.orders", {"size": 0}) == {"hits": {"total": {"value": 1}}}
    data.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(Answer(404, {"error": {"type": "index_not_found_exception"}}), None), (Answer(body={"indices": []}), None)],
)
def test_a_missing_index_has_no_fields(answer: Answer, expected: None, server: Server) -> None:
    server.on_path["/shop.orders/_field_caps"] = answer
    data = data_of(server.url)

    assert data.fields("shop.orders") is expected
    data.close()


def test_what_the_cluster_refuses_is_an_error(server: Server) -> None:
    server.on_path["/shop.orders/_field_caps"] = Answer(403, {"error": {"type": "security_exception", "reason": "no"}})
    server.on_path["/shop.orders/_search"] = Answer(400, {"error": {"type": "x", "reason": "no such aggregation"}})
    data = data_of(server.url)

    with pytest.raises(InfrastructureError, match=r"fields of 'shop\.orders' cannot be read"):
        data.fields("shop.orders")
    with pytest.raises(TaskError, match="no such aggregation"):
        data.search("shop.orders", {})
    data.close()
