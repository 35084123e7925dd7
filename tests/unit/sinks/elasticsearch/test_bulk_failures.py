"""Failed bulk requests: what is retried, what stops the task, and what the status shows."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace import InfrastructureError, RetriableError, SinkBatch
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch.timings import SinkTimings

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
MALFORMED = "elasticsearch.document_rejected"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "es_rejected_execution_exception"),
        (503, "unavailable_shards_exception"),
        (500, "some_exception"),
        (403, "cluster_block_exception"),
        (400, "index_closed_exception"),
    ],
)
def test_only_failed_items_are_sent_again(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, status: int, kind: str
) -> None:
    server.script = [
        lambda actions: scripted.items(
            [scripted.item(actions[0], status, kind, "busy"), *(server.write(action) for action in actions[1:])]
        )
    ]
    sink = make_sink()

    assert sink.put(batch({"a": 1}, {"a": 2}, {"a": 3})) == []
    assert [len(bulk) for bulk in server.bulks] == [3, 1]
    assert server.found("orders") == {"k0": {"a": 1}, "k1": {"a": 2}, "k2": {"a": 3}}


def test_a_put_fails_with_the_reason_after_max_retries_on_an_overloaded_cluster(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    def busy(actions: list[Any]) -> Any:
        return scripted.items(
            [scripted.item(action, 429, "es_rejected_execution_exception", "queue is full") for action in actions]
        )

    server.script = [busy] * 3
    sink = make_sink(max_retries="2")
    with pytest.raises(RetriableError, match="overloaded: queue is full") as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == "elasticsearch.overloaded"
    assert len(server.bulks) == 3
    assert sink.put(batch({"a": 1})) == []
    assert server.found("orders") == {"k0": {"a": 1}}


def test_the_status_shows_the_reason_of_a_wait_until_it_ends(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()

    def wait_for_the_reason(seconds: float | None = None) -> bool:
        """Wait between two retries until the status shows the reason."""
        eventually(lambda: sink.status_reasons.said)
        return False

    sink.stop_event.wait = wait_for_the_reason

    def busy(actions: list[Any]) -> Any:
        return scripted.items([scripted.item(actions[0], 429, "es_rejected_execution_exception", "queue is full")])

    server.script = [busy]
    assert sink.put(batch({"a": 1})) == []
    assert sink.status_reasons.said[0] == "Elasticsearch is overloaded: queue is full"
    assert sink.status_reasons.said[-1] is None


def test_operations_19_the_status_shows_the_reason_while_the_next_attempt_is_not_answered(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()
    sink.stop_event.wait = lambda seconds=None: False  # no time between the attempts
    shown: list[Any] = []

    def unavailable(actions: list[Any]) -> Any:
        return scripted.items([scripted.item(actions[0], 503, "unavailable_shards_exception", "no primary shard")])

    def slow(actions: list[Any]) -> Any:
        eventually(lambda: sink.status_reasons.said)
        shown.extend(sink.status_reasons.said)
        return scripted.items([server.write(action) for action in actions])

    server.script = [unavailable, slow]
    with capture_logs() as log:
        assert sink.put(batch({"a": 1})) == []
    assert ["no primary shard" in reason for reason in shown] == [True]
    assert [line["reason"] for line in log if line["log_level"] == "warning"] == shown
    assert sink.status_reasons.said[-1] is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"reset": True}, "elasticsearch.unreachable"),
        ({"body": {"errors": False, "items": []}, "cut": 5}, "elasticsearch.unreachable"),
        ({"body": b'{"errors":false,"items":[{"index":{"sta'}, "elasticsearch.garbled_answer"),
        ({"body": b"<html>"}, "elasticsearch.garbled_answer"),
        ({"body": {"errors": False, "items": []}}, "elasticsearch.garbled_answer"),
        ({"status": 502, "body": b"<html>"}, "elasticsearch.unavailable"),
        ({"status": 503, "headers": {"retry-after": "7"}}, "elasticsearch.unavailable"),
        ({"status": 504}, "elasticsearch.unavailable"),
    ],
)
def test_a_request_that_fails_as_a_whole_is_retried_as_a_whole(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, answer: dict[str, Any], code: str
) -> None:
    sink = make_sink()
    server.script = [scripted.Answer(**answer)]
    with pytest.raises(RetriableError) as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == code
    assert raised.value.delay == (7.0 if "headers" in answer else None)
    assert sink.put(batch({"a": 1})) == []
    assert server.found("orders") == {"k0": {"a": 1}}


def test_a_request_that_is_rejected_as_a_whole_is_retried_at_once(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    busy = scripted.Answer(429, {"error": {"type": "es_rejected_execution_exception", "reason": "y"}, "status": 429})
    server.script = [busy, busy]
    sink = make_sink()

    assert sink.put(batch({"a": 1}, {"a": 2})) == []
    assert len(server.found("orders")) == 2


def test_one_failed_request_of_several_loses_no_record(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink(batch_size="1")
    server.script = [server.accept, scripted.Answer(503), server.accept]
    records = batch({"a": 1}, {"a": 2}, {"a": 3})
    with pytest.raises(RetriableError):
        sink.put(records)

    assert sink.put(records) == []
    assert len(server.found("orders")) == 3


def test_a_response_timeout_is_retriable_and_names_the_key_to_set(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    answered = threading.Event()
    sink = make_sink()
    assert sink.put(batch({"a": 0})) == []
    sink.expect_answers_within(0.05)
    server.script = [scripted.Answer(hang=answered)]
    with pytest.raises(
        RetriableError, match=r"did not answer in time \(5 s to connect, 0.05 s for the answer\)"
    ) as raised:
        sink.put(batch({"a": 1}, first=1))

    answered.set()
    assert raised.value.code == "elasticsearch.timeout"
    assert "read.timeout.ms" in raised.value.hint


def test_a_request_that_is_too_large_is_halved_until_the_document_is_found(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    def limited(actions: list[Any]) -> Any:
        if len(actions) > 2 or any(len(action.document["a"]) > 9 for action in actions):
            return scripted.Answer(413)
        return server.accept(actions)

    server.script = [limited] * 20
    sink = make_sink()

    refused = sink.put(batch(*({"a": "x" * size} for size in (1, 2, 99, 3, 4)), first=100))
    assert refused == [("orders-0", 102, "elasticsearch.document_too_large")]
    assert len(server.found("orders")) == 4


def test_a_request_that_is_refused_for_one_action_is_halved(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    error = {"error": {"type": "action_request_validation_exception", "reason": "no"}, "status": 400}

    def refuse_one_document(actions: list[Any]) -> Any:
        bad = any(action.document["a"] == 2 for action in actions)
        return scripted.Answer(400, error) if bad else server.accept(actions)

    server.script = [refuse_one_document] * 20
    sink = make_sink()

    assert sink.put(batch({"a": 1}, {"a": 2}, {"a": 3})) == [("orders-0", 1, MALFORMED)]
    assert len(server.found("orders")) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            {"status": 401, "body": {"error": {"type": "security_exception", "reason": "no"}}},
            "elasticsearch.unauthorized",
        ),
        ({"status": 403, "body": {"error": {"type": "security_exception", "reason": "no"}}}, "elasticsearch.forbidden"),
        ({"status": 400, "body": b"The plain HTTP request was sent to HTTPS port"}, "elasticsearch.unexpected_answer"),
        ({"status": 404}, "elasticsearch.unexpected_answer"),
    ],
)
def test_an_environment_problem_fails_the_put_and_refuses_no_record(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, answer: dict[str, Any], code: str
) -> None:
    sink = make_sink()
    server.script = [scripted.Answer(**answer)]
    with pytest.raises(InfrastructureError) as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == code


def test_an_item_with_a_missing_privilege_stops_the_task(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()
    server.script = [lambda actions: scripted.items([scripted.item(actions[0], 403, "security_exception", "no")])]
    with pytest.raises(InfrastructureError, match="privileges write and create_index"):
        sink.put(batch({"a": 1}))


def test_a_deleted_index_is_created_again(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink()
    assert sink.put(batch({"a": 1})) == []
    server.indices.clear()
    server.script = [
        lambda actions: scripted.items([scripted.item(actions[0], 404, "index_not_found_exception", "no such index")])
    ]
    with pytest.raises(RetriableError, match="deleted"):
        sink.put(batch({"a": 2}, first=1))

    assert sink.put(batch({"a": 2}, first=1)) == []
    assert "orders" in server.indices
    assert server.found("orders") == {"k0": {"a": 2}}


def test_a_stop_does_not_wait_for_a_missing_response(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    answered = threading.Event()
    sink = make_sink(SinkTimings(stop_timeout=0.1), read_timeout_ms="20s")
    server.script = [scripted.Answer(hang=answered)]
    sink.stop_event.set()
    with pytest.raises(RetriableError) as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == "elasticsearch.stopped"
    answered.set()


def test_a_stop_ends_the_wait_between_retries(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink(SinkTimings(stop_timeout=60.0), retry_backoff_ms="5000")

    def stop_meanwhile(actions: list[Any]) -> Any:
        sink.stop_event.set()
        return scripted.items([scripted.item(actions[0], 429, "es_rejected_execution_exception", "busy")])

    server.script = [stop_meanwhile]
    with pytest.raises(RetriableError, match="busy"):
        sink.put(batch({"a": 1}))

    assert len(server.bulks) == 1


def test_the_status_shows_outdated_records_and_an_overloaded_cluster_together(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    reason = "[k0]: version conflict, current version [6] is higher or equal to the one provided [0]"
    kind = "version_conflict_engine_exception"
    server.script = [
        lambda actions: scripted.items([scripted.item(actions[0], 409, kind, reason)]),
        scripted.Answer(429, {"error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}),
        lambda actions: scripted.items([scripted.item(actions[0], 409, kind, reason)]),
    ]
    sink = make_sink()

    def both_are_reported() -> bool:
        return any("not written" in said and "overloaded" in said for said in filter(None, sink.status_reasons.said))

    def wait_for_both_reasons(seconds: float | None = None) -> bool:
        eventually(both_are_reported)
        return False

    sink.stop_event.wait = wait_for_both_reasons
    for _ in range(2):
        records = batch({"a": 1})
        records.end_offset = 6
        assert sink.put(records) == []

    current = sink.status_reasons.current or ""
    assert "not written" in current
    assert "overloaded" not in current
