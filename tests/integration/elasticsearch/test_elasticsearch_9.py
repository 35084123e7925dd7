"""The sink on a real Elasticsearch 9: behaviour that could differ in another major version."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.testing.contexts import make_sink_context
from headrace.testing.data_comparison import index_entries
from headrace.testing.faults import ItemErrors
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask
from tests.engines.http import HTTP

PATH = "/_bulk"


@pytest.fixture
def flow(elasticsearch_9: Any, make_flow: Callable[..., Any]) -> Any:
    """A flow to Elasticsearch 9."""
    return make_flow(elasticsearch_9.url)


def rows(count: int, keys: int = 50) -> list[dict[str, Any]]:
    return [{"id": number % keys, "n": number, "text": f"text {number}"} for number in range(count)]


def test_the_engine_is_elasticsearch_9(elasticsearch_9: Any) -> None:
    assert elasticsearch_9.version.startswith("9.")


@pytest.mark.parametrize("compatibility", ["none", "8", "9"])
def test_newer_records_replace_older_ones_and_deletes_delete(flow: Any, compatibility: str) -> None:
    flow.send(rows(300))
    flow.start(elasticsearch_compatibility=compatibility, behavior_on_null_values="delete")
    flow.send([None, None], keys=[1, 2])
    flow.settle()
    assert flow.dead() == []
    flow.check()


@pytest.mark.parametrize("method", ["upsert", "update"])
def test_upserts_and_updates_merge_fields(flow: Any, method: str) -> None:
    flow.send([{"id": 1, "a": 1}, {"id": 2, "a": 2}])
    first = flow.start(write_method="upsert")
    flow.settle()
    flow.stop(first)
    flow.send([{"id": 1, "b": 1}, {"id": 3, "b": 3}])
    flow.start(write_method=method)
    flow.settle()
    found = {entry.key: entry.value for entry in index_entries(flow.url, flow.name)}
    assert found["1"] == {"id": 1, "a": 1, "b": 1}
    assert ("3" in found) == (method == "upsert")
    assert [letter["code"] for letter in flow.dead()] == ([] if "3" in found else ["elasticsearch.document_missing"])


def test_a_bad_document_is_the_only_dead_letter(flow: Any) -> None:
    mapping = {"mappings": {"properties": {"amount": {"type": "integer"}}}}
    flow.ask("PUT", flow.name, mapping)
    values = [{"id": number, "amount": "none" if number == 30 else number} for number in range(60)]
    flow.send(values)
    flow.start()
    flow.settle()
    (letter,) = flow.dead()
    assert json.loads(letter["value"]) == values[30]
    assert (letter["code"], letter["id"]) == ("elasticsearch.document_rejected", "30")
    flow.check(without=[30])


def test_a_rejected_item_is_sent_again(flow: Any) -> None:
    flow.proxy.play(ItemErrors(429, "es_rejected_execution_exception", "busy"), path=PATH)
    flow.send(rows(100))
    flow.start()
    flow.settle()
    assert flow.dead() == []
    flow.check()


def test_records_wait_until_the_disk_has_free_space(flow: Any) -> None:
    flow.ask("PUT", flow.name)
    block = "index.blocks.read_only_allow_delete"
    flow.ask("PUT", f"{flow.name}/_settings", {block: True})
    flow.send(rows(60))
    member = flow.start()
    eventually(lambda: any("disks are full" in reason for reason in member.reasons), 60)
    assert flow.committed() == 0
    flow.ask("PUT", f"{flow.name}/_settings", {block: None})
    flow.settle()
    flow.check()


@pytest.fixture
def template(elasticsearch_9: Any, unique_name: str) -> Iterator[str]:
    """The name of a template that is removed after the test with its indices and data streams."""
    topic = unique_name.replace("_", "")
    yield f"{topic}-template"
    for path in (f"_index_template/{topic}*", f"_component_template/{topic}*"):
        HTTP.delete(f"{elasticsearch_9.url}/{path}", timeout=30)


def test_templates_and_a_data_stream_lifecycle_are_created(elasticsearch_9: Any, template: str) -> None:
    topic = template.removesuffix("-template")
    task = ElasticsearchSinkTask()
    keys = {
        "connection.url": elasticsearch_9.url,
        "topics": topic,
        "data.stream.type": "LOGS",
        "data.stream.dataset": topic,
        "data.stream.retention": "90d",
        "index.template": template,
    }
    task.start(make_sink_context(keys))
    task.stop()
    answer = HTTP.get(f"{elasticsearch_9.url}/_index_template/{template}").raise_for_status().json()
    (found,) = answer["index_templates"]
    assert found["index_template"]["template"]["lifecycle"]["data_retention"] == "90d"
