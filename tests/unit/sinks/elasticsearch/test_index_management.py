"""Lifecycle policies and missing privileges, which the embedded server lacks, with a scripted server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from headrace import InfrastructureError, SinkBatch, schema
from headrace_sinks.elasticsearch.timings import SinkTimings

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
POLICY = {"index_lifecycle_policy": "mine", "index_lifecycle_delete_after": "30d"}
PHASES = {"delete": {"min_age": "30d", "actions": {"delete": {}}}}
DENIED = {"error": {"type": "security_exception", "reason": "action is unauthorized for user [x]"}, "status": 403}


class Policies:
    """Implements ``_ilm/policy``: stored policies, and recorded changes."""

    def __init__(self, server: Any, scripted: Any, present: dict[str, Any] | None = None) -> None:
        self.put: list[dict[str, Any]] = []
        real = server.answer

        def answer(method: str, path: str, body: bytes) -> Any:
            if not path.startswith("/_ilm/"):
                return real(method, path, body)
            if method == "PUT":
                self.put.append(json.loads(body))
                return scripted.Answer(body={"acknowledged": True})
            return scripted.Answer(404) if present is None else scripted.Answer(body={"mine": present})

        server.answer = answer


def made(phases: dict[str, Any], **meta: str) -> dict[str, Any]:
    return {"version": 1, "policy": {"_meta": meta, "phases": phases}}


def test_a_policy_is_created_with_its_phases(make_sink: Make, server: Any, scripted: Any, batch: Batch) -> None:
    policies = Policies(server, scripted)
    sink = make_sink(
        **POLICY,
        index_lifecycle_rollover_max_age="7d",
        index_lifecycle_rollover_max_primary_shard_size="50gb",
    )

    (put,) = policies.put
    assert put["policy"]["phases"] == {
        "hot": {"min_age": "0ms", "actions": {"rollover": {"max_age": "7d", "max_primary_shard_size": "50gb"}}},
        **PHASES,
    }
    real, bodies = server.answer, []

    def note(method: str, path: str, body: bytes) -> Any:
        if method == "PUT":
            bodies.append(json.loads(body))
        return real(method, path, body)

    server.answer = note
    sink.put(batch({"a": 1}))
    assert bodies == [{"settings": {"index.lifecycle.name": "mine"}}]


@pytest.mark.parametrize(
    ("present", "puts"),
    [
        (made(PHASES), 0),
        (made(PHASES, managed_by="headrace"), 0),
        (made({"delete": {"min_age": "90d", "actions": {"delete": {}}}}, managed_by="headrace"), 1),
    ],
)
def test_a_policy_is_changed_only_if_headrace_created_it_and_it_differs(
    make_sink: Make, server: Any, scripted: Any, present: dict[str, Any], puts: int
) -> None:
    policies = Policies(server, scripted, present)
    make_sink(**POLICY)

    assert len(policies.put) == puts


@pytest.mark.parametrize(
    ("present", "keys", "code"),
    [
        (made({}), POLICY, "elasticsearch.template_taken"),
        (made({}), {**POLICY, "index_management": "check"}, "elasticsearch.template_differs"),
        (None, {**POLICY, "index_management": "check"}, "elasticsearch.template_missing"),
        (None, {"index_lifecycle_policy": "mine"}, "elasticsearch.policy_missing"),
    ],
)
def test_an_unsuitable_policy_is_an_error_and_is_not_changed(
    make_sink: Make, server: Any, scripted: Any, present: dict[str, Any] | None, keys: dict[str, str], code: str
) -> None:
    policies = Policies(server, scripted, present)
    with pytest.raises(InfrastructureError) as raised:
        make_sink(**keys)

    assert raised.value.code == code
    assert "'mine'" in raised.value.message
    assert policies.put == []


def test_without_the_privilege_to_read_mappings_records_are_written(
    make_sink: Make, server: Any, scripted: Any, batch: Batch
) -> None:
    server.on_path["/orders"] = scripted.Answer(403, DENIED)
    sink = make_sink(schema_ignore="false", mapping_fields_a="keyword")

    assert sink.put(batch({"id": 1}, schema=schema.struct({"id": schema.INT32}))) == []


def test_a_missing_privilege_for_mappings_is_an_error_that_names_it(
    make_sink: Make, server: Any, scripted: Any, batch: Batch
) -> None:
    server.indices["orders"] = {}
    server.on_path["/orders/_mapping"] = scripted.Answer(403, DENIED)
    sink = make_sink(schema_ignore="false")
    with pytest.raises(InfrastructureError, match="mapping of 'orders' cannot be changed") as raised:
        sink.put(batch({"id": 1}, schema=schema.struct({"id": schema.INT32})))

    assert raised.value.code == "elasticsearch.forbidden"
    assert server.bulks == []


def test_an_index_close_to_its_field_limit_is_logged_once(
    make_sink: Make, server: Any, batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = make_sink(SinkTimings(index_check_interval=0.0))
    sink.put(batch({"a": 1}))
    server.indices["orders"] = {"properties": {f"f{number}": {"type": "long"} for number in range(799)}}
    sink.put(batch({"a": 1}, first=1))
    assert "field limit" not in capsys.readouterr().out

    server.indices["orders"]["properties"]["one_more"] = {"type": "long"}
    sink.put(batch({"a": 1}, first=2))
    sink.put(batch({"a": 1}, first=3))
    assert capsys.readouterr().out.count("an index is close to its field limit") == 1


def test_a_batch_sends_no_other_request_when_its_index_is_known(make_sink: Make, server: Any, batch: Batch) -> None:
    sink = make_sink(schema_ignore="false")
    first, second = schema.struct({"id": schema.INT32}), schema.struct({"id": schema.INT32, "n": schema.INT32})
    for of in (first, second):
        sink.put(batch({"id": 1}, schema=of))
    before = len(server.requests)
    for of in (first, second, first, schema.struct({"id": schema.INT32})):
        sink.put(batch({"id": 1}, schema=of), batch(None, first=9))

    assert len(server.requests) == before
