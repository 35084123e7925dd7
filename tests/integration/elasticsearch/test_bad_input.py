"""Each bad input becomes a dead letter with its reason or a clear error, and all other records are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace import InfrastructureError
from headrace.testing.contexts import make_sink_context
from headrace.testing.faults import ItemErrors, StatusFault
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask

GOOD = [{"id": 1, "text": "good"}, {"id": 2, "text": "good"}]


def one_dead(flow: Any) -> dict[str, Any]:
    flow.settle()
    (letter,) = flow.dead()
    return dict(letter)


def bad_between_good(flow: Any, bad: Any, key: Any = 9, **properties: str) -> dict[str, Any]:
    """Send one bad record between two good ones; return its dead letter."""
    flow.send([GOOD[0], bad, GOOD[1]], keys=[1, key, 2])
    flow.start(**properties)
    letter = one_dead(flow)
    assert letter["value"] == (bad if isinstance(bad, bytes) else json.dumps(bad).encode())
    return letter


def test_an_invalid_index_name_from_a_record_is_a_dead_letter(flow: Any) -> None:
    values = [{"id": 1, "region": "eu"}, {"id": 9, "region": "../_all"}, {"id": 2, "region": "eu"}]
    flow.send(values)
    flow.start(index_name=f"{flow.name}-{{value:region}}")
    letter = one_dead(flow)

    assert letter["code"] == "elasticsearch.invalid_index_name"
    assert "field 'region'" in letter["exception.message"]
    flow.check(without=[9], index=f"{flow.name}-eu")


def test_an_id_over_512_bytes_is_a_dead_letter(flow: Any) -> None:
    letter = bad_between_good(flow, {"id": 9}, key="ä" * 300)

    assert letter["code"] == "elasticsearch.unusable_key"
    assert "600 bytes" in letter["exception.message"]
    flow.check(without=["ä" * 300])


@pytest.mark.parametrize("key", ["", None, {}, 1.5, [1]])
def test_a_key_without_an_id_is_a_dead_letter(flow: Any, key: Any) -> None:
    assert bad_between_good(flow, {"id": 9}, key=key)["code"] == "elasticsearch.unusable_key"


@pytest.mark.parametrize("value", ["text", 5, [1, 2], True])
def test_a_value_that_is_not_an_object_is_a_dead_letter(flow: Any, value: Any) -> None:
    letter = bad_between_good(flow, value)

    assert letter["code"] == "elasticsearch.not_an_object"
    flow.check(without=[9])


@pytest.mark.parametrize(
    "text",
    [
        b'{"id":9,"a":NaN}',
        b'{"id":9,"a":Infinity}',
        b'{"id":9,"a":1}{"b":2}',
        b'{"id":9,"a":1,"a":2}',
        b'{"id":9,"a":tru}',
        b'{"id":9,"a":"\xff"}',
        b'{"id":9,"a":"\t"}',
        b'{"id":9,"a":"x"',
        b"{'id':9}",
        b'{"id":9,}',
        b'{"id":9} }',
        b'{"id":9,"a":1 /* comment */}',
        b"not JSON",
        b"\x00\x01",
    ],
)
def test_a_value_that_is_not_json_is_a_dead_letter(flow: Any, text: bytes) -> None:
    flow.send([GOOD[0], text, GOOD[1]], keys=[1, 9, 2])
    flow.start()
    letter = one_dead(flow)

    assert letter["value"] == text
    # Texts that look like an object are validated by Elasticsearch, which gives the reason.
    assert letter["stage"] in ("VALUE_CONVERTER", "TASK_PUT")
    assert letter["exception.message"]
    assert '{"id' not in letter["exception.message"]  # the trace is logged
    flow.ask("POST", f"{flow.name}/_refresh")
    found = flow.ask("GET", f"{flow.name}/_search")["hits"]["hits"]
    assert {hit["_id"]: hit["_source"] for hit in found} == {"1": GOOD[0], "2": GOOD[1]}


def test_the_trace_of_a_dead_letter_has_source_lines_and_the_cause(flow: Any) -> None:
    trace = bad_between_good(flow, b"no JSON")["exception.stacktrace"]
    assert trace.index("JSONDecodeError") < trace.index("which was the reason of") < trace.index("DataError")
    assert "json.py" in trace


def mapped(flow: Any, **properties: Any) -> None:
    flow.ask("PUT", flow.name, {"mappings": {"properties": properties}})


@pytest.mark.parametrize("date", ["+292278995-01-01", "2026-13-01", "soon", "99999999999999999999"])
def test_a_date_out_of_range_is_a_dead_letter(flow: Any, date: str) -> None:
    mapped(flow, placed={"type": "date"})
    letter = bad_between_good(flow, {"id": 9, "placed": date})

    assert letter["code"] == "elasticsearch.document_rejected"
    assert "placed" in letter["exception.message"]
    assert date not in letter["exception.message"]  # contents are in the dead letter, not in messages
    flow.check(without=[9])


def test_a_document_with_too_many_fields_is_a_dead_letter(flow: Any) -> None:
    settings = {"settings": {"index.mapping.total_fields.limit": 10}}
    flow.ask("PUT", flow.name, settings)
    letter = bad_between_good(flow, {"id": 9, **{f"f{number}": number for number in range(20)}})

    assert letter["code"] == "elasticsearch.document_rejected"
    assert "fields" in letter["exception.message"]
    flow.check(without=[9])


@pytest.mark.parametrize(("first", "second"), [({"a": 1}, {"a.b": 2}), ({"a.b": 1}, {"a": 2})])
def test_a_conflict_of_field_and_object_names_is_a_dead_letter(flow: Any, first: Any, second: Any) -> None:
    flow.send([{"id": 1, **first}])
    flow.start()
    flow.settle()
    flow.send([{"id": 9, **second}])
    letter = one_dead(flow)

    assert letter["code"] == "elasticsearch.document_rejected"
    flow.check(without=[9])


@pytest.mark.parametrize("name", ["", " ", "a..b", ".a"])
def test_an_invalid_field_name_is_a_dead_letter(flow: Any, name: str) -> None:
    assert bad_between_good(flow, {"id": 9, name: 1})["code"] == "elasticsearch.document_rejected"
    flow.check(without=[9])


def test_a_metadata_field_of_elasticsearch_is_a_dead_letter(flow: Any) -> None:
    assert bad_between_good(flow, {"id": 9, "_id": "x"})["code"] == "elasticsearch.document_rejected"


def test_a_missing_version_header_is_a_dead_letter(flow: Any) -> None:
    flow.send([GOOD[0]])
    flow.start(external_version_header="v")

    assert one_dead(flow)["code"] == "elasticsearch.no_version"


def test_a_pipeline_that_does_not_exist_stops_the_task_and_refuses_no_record(flow: Any) -> None:
    flow.send(GOOD)
    member = flow.start(ingest_pipeline="nothing")
    eventually(lambda: member.error, 60)

    assert isinstance(member.error[0], InfrastructureError)
    assert member.error[0].code == "elasticsearch.pipeline_missing"
    assert flow.dead() == []
    assert flow.committed() == 0


def test_a_missing_privilege_stops_the_task_and_refuses_no_record(flow: Any) -> None:
    flow.proxy.play(
        ItemErrors(403, "security_exception", "action [indices:data/write/bulk] is unauthorized"), path="_bulk"
    )
    flow.send(GOOD)
    member = flow.start()
    eventually(lambda: member.error, 60)

    assert isinstance(member.error[0], InfrastructureError)
    assert member.error[0].code == "elasticsearch.forbidden"
    assert "write and create_index" in str(member.error[0])
    assert flow.dead() == []


def start(flow: Any, **properties: str) -> None:
    task = ElasticsearchSinkTask()
    try:
        task.start(make_sink_context({"connection.url": flow.proxy.url, **properties}))
    finally:
        task.stop()


def root(flow: Any, number: str, **more: Any) -> StatusFault:
    return StatusFault(200, {"version": {"number": number, **more}, "tagline": "You Know, for Search"})


def test_a_newer_major_version_is_used_in_its_compatibility_mode(flow: Any) -> None:
    asked: list[str] = []

    class NewerCluster:
        def answer(self, request: Any, passage: Any) -> Any:
            asked.append(dict(request.headers).get("accept") or dict(request.headers).get("Accept") or "")
            return root(flow, "10.0.0").answer(request, passage)

    flow.proxy.always(NewerCluster(), path="/$")
    start(flow)
    assert asked == ["application/json", "application/vnd.elasticsearch+json; compatible-with=9"]


def test_a_cluster_that_is_too_new_is_refused(flow: Any) -> None:
    flow.proxy.play(
        root(flow, "11.0.0"), StatusFault(400, {"error": {"type": "media_type_header_exception", "reason": "no"}})
    )
    with pytest.raises(InfrastructureError) as raised:
        start(flow)
    assert raised.value.code == "elasticsearch.too_new"
    assert "install a newer headrace" in str(raised.value)


def test_opensearch_is_refused_by_name(flow: Any) -> None:
    flow.proxy.play(root(flow, "2.19.0", distribution="opensearch"))
    with pytest.raises(InfrastructureError, match=r"Opensearch 2\.19\.0"):
        start(flow)


@pytest.mark.parametrize(("setting", "value"), [("number_of_shards", "many"), ("no_such_setting", "1")])
def test_an_unknown_index_setting_stops_the_task(flow: Any, setting: str, value: str) -> None:
    flow.send(GOOD)
    member = flow.start({f"index.settings.{setting}": value})
    eventually(lambda: member.error, 60)

    assert setting in str(member.error[0])
    assert flow.committed() == 0
    assert flow.dead() == []


def test_an_unknown_key_is_reported_before_the_start() -> None:
    _, findings = ElasticsearchSinkConnector.config_model.validate_properties(
        {"connection.url": "http://h:1", "indx.name": "x"}
    )
    (finding,) = findings
    assert (finding.code, finding.key) == ("config.unknown_key", "indx.name")
    assert "index.name" in finding.hint
