"""The task against a server that answers by script: nothing lost, nothing twice, and the reason is always told."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import DataError, InfrastructureError, RetriableError, SinkBatch, TaskError, schema
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch.timings import SinkTimings

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
MALFORMED = "elasticsearch.document_rejected"


def test_a_put_of_nothing(make_sink: Make, batch: Batch, server: Any) -> None:
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


def test_the_same_batches_again_change_nothing_and_are_no_errors(make_sink: Make, batch: Batch, server: Any) -> None:
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


def test_requests_are_cut_by_count_and_run_side_by_side(make_sink: Make, batch: Batch, server: Any) -> None:
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


def test_never_more_requests_at_once_than_allowed(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(batch_size="1", max_in_flight_requests="2")

    assert sink.put(batch(*({"a": number} for number in range(20)))) == []
    assert server.most_at_once <= 2
    assert len(server.found("orders")) == 20


def test_requests_are_cut_by_bytes(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(bulk_size_bytes="300")

    assert sink.put(batch(*({"a": "x" * size} for size in (10, 10, 1000, 10)))) == []
    assert all(len(body) <= 300 or body.count(b"\n") == 2 for body in server.bodies)
    assert len(server.found("orders")) == 4


def test_one_record_of_several_batches_fills_a_request(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink(batch_size="4")

    assert sink.put(*(batch({"a": 1}, partition=partition, keys=[partition]) for partition in range(6))) == []
    assert sorted(len(bulk) for bulk in server.bulks) == [2, 4]


def test_a_refused_document_is_told_with_its_place_and_without_its_contents(
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
def test_refused_documents_are_dropped_when_wished_unless_a_dead_letter_queue_can_have_them(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, behavior: str
) -> None:
    refuse = [lambda actions: scripted.items([scripted.item(actions[0], 400, "mapper_parsing_exception", "no")])]
    server.script = refuse * 2

    assert make_sink(behavior_on_malformed_documents=behavior).put(batch({"a": 1})) == []
    sink = make_sink(behavior_on_malformed_documents=behavior, errors_tolerance="all")
    assert sink.put(batch({"a": 1})) == [("orders-0", 0, MALFORMED)]


def test_records_that_make_no_document(make_sink: Make, batch: Batch, server: Any) -> None:
    bad = batch({"a": 1}, "text", {"a": float("nan")}, {"a": 1}, None, keys=["x", "y", "z", None, "t"], first=10)

    assert make_sink().put(bad) == [
        ("orders-0", 11, "elasticsearch.not_an_object"),
        ("orders-0", 12, "elasticsearch.not_json"),
        ("orders-0", 13, "elasticsearch.unusable_key"),
        ("orders-0", 14, "elasticsearch.null_value"),
    ]
    assert server.found("orders") == {"x": {"a": 1}}
    assert make_sink(drop_invalid_message="true").put(bad) == []


def test_an_index_name_that_cannot_be_refuses_its_records_only(make_sink: Make, batch: Batch, server: Any) -> None:
    moved = batch({"a": 1}, first=3)
    moved.topic = "no such/name"

    assert make_sink().put(moved, batch({"a": 2})) == [("orders-0", 3, "elasticsearch.invalid_index_name")]
    assert server.found("orders") == {"k0": {"a": 2}}


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
def test_only_items_that_were_sent_back_are_sent_again(
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


def test_a_cluster_that_stays_overloaded_is_left_alone_after_max_retries_with_the_reason(
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


def test_what_is_waited_for_is_said_and_taken_back(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink()

    def until_said(seconds: float | None = None) -> bool:
        """The wait between two tries: as long as it takes to say what for."""
        eventually(lambda: sink.status_reasons.said)
        return False

    sink.stop_event.wait = until_said

    def busy(actions: list[Any]) -> Any:
        return scripted.items([scripted.item(actions[0], 429, "es_rejected_execution_exception", "queue is full")])

    server.script = [busy]
    assert sink.put(batch({"a": 1})) == []
    assert sink.status_reasons.said[0] == "Elasticsearch is overloaded: queue is full"
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
def test_a_request_that_fails_as_a_whole_comes_again_as_a_whole(
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


def test_a_request_that_comes_too_early_as_a_whole_is_sent_again_at_once(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    busy = scripted.Answer(429, {"error": {"type": "es_rejected_execution_exception", "reason": "y"}, "status": 429})
    server.script = [busy, busy]
    sink = make_sink()

    assert sink.put(batch({"a": 1}, {"a": 2})) == []
    assert len(server.found("orders")) == 2


def test_one_failed_request_of_several_loses_nothing(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink(batch_size="1")
    server.script = [server.accept, scripted.Answer(503), server.accept]
    records = batch({"a": 1}, {"a": 2}, {"a": 3})
    with pytest.raises(RetriableError):
        sink.put(records)

    assert sink.put(records) == []
    assert len(server.found("orders")) == 3


def test_an_answer_that_does_not_come_in_time(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
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


def test_a_request_that_is_too_large_is_halved_until_the_one_document_is_found(
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


def test_a_request_that_is_refused_for_one_action_is_halved_too(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    error = {"error": {"type": "action_request_validation_exception", "reason": "no"}, "status": 400}

    def picky(actions: list[Any]) -> Any:
        bad = any(action.document["a"] == 2 for action in actions)
        return scripted.Answer(400, error) if bad else server.accept(actions)

    server.script = [picky] * 20
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
def test_what_somebody_must_mend_stops_the_task_and_refuses_no_record(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, answer: dict[str, Any], code: str
) -> None:
    sink = make_sink()
    server.script = [scripted.Answer(**answer)]
    with pytest.raises(InfrastructureError) as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == code


def test_an_item_without_rights_stops_the_task(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink()
    server.script = [lambda actions: scripted.items([scripted.item(actions[0], 403, "security_exception", "no")])]
    with pytest.raises(InfrastructureError, match="privileges write and create_index"):
        sink.put(batch({"a": 1}))


def test_an_index_that_vanished_is_created_again(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
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


def test_stopping_does_not_wait_for_an_answer_that_does_not_come(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    answered = threading.Event()
    sink = make_sink(SinkTimings(stop_timeout=0.1), read_timeout_ms="20s")
    server.script = [scripted.Answer(hang=answered)]
    sink.stop_event.set()
    with pytest.raises(RetriableError) as raised:
        sink.put(batch({"a": 1}))

    assert raised.value.code == "elasticsearch.stopped"
    answered.set()


def test_stopping_ends_waits_between_tries(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink(SinkTimings(stop_timeout=60.0), retry_backoff_ms="5000")

    def stop_meanwhile(actions: list[Any]) -> Any:
        sink.stop_event.set()
        return scripted.items([scripted.item(actions[0], 429, "es_rejected_execution_exception", "busy")])

    server.script = [stop_meanwhile]
    with pytest.raises(RetriableError, match="busy"):
        sink.put(batch({"a": 1}))

    assert len(server.bulks) == 1


class TestUpsert:
    def test_fields_are_merged(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(write_method="upsert")

        assert sink.put(batch({"a": 1, "b": 1}, {"b": 2}, keys=["x", "x"])) == []
        assert server.found("orders") == {"x": {"a": 1, "b": 2}}

    def test_writes_to_one_document_never_run_side_by_side(self, make_sink: Make, batch: Batch, server: Any) -> None:
        busy: set[str] = set()
        lock = threading.Lock()
        clashes: list[str] = []

        def watch(actions: list[Any]) -> Any:
            ids = {action.target["_id"] for action in actions}
            with lock:
                clashes.extend(ids & busy)
                busy.update(ids)
            try:
                return server.accept(actions)
            finally:
                with lock:
                    busy.difference_update(ids)

        server.script = [watch] * 200
        sink = make_sink(write_method="upsert", batch_size="2", behavior_on_null_values="delete")
        values = [{"n": number} for number in range(100)]

        assert sink.put(batch(*values, keys=[number % 7 for number in range(100)])) == []
        assert clashes == []
        assert server.found("orders") == {str(key): {"n": max(range(key, 100, 7))} for key in range(7)}

    @pytest.mark.parametrize(("status", "kind"), [(429, "es_rejected_execution_exception"), (409, "version_conflict")])
    def test_a_write_that_is_sent_again_does_not_undo_a_later_one(
        self, make_sink: Make, batch: Batch, server: Any, scripted: Any, status: int, kind: str
    ) -> None:
        server.script = [
            lambda actions: scripted.items(
                [scripted.item(actions[0], status, kind, "busy"), *(server.write(action) for action in actions[1:])]
            )
        ]
        sink = make_sink(write_method="upsert", max_in_flight_requests="1")

        assert sink.put(batch({"n": 1}, {"n": 2}, {"n": 3}, keys=["x", "y", "x"])) == []
        assert [[action.target["_id"] for action in bulk] for bulk in server.bulks] == [["x", "y", "x"], ["x", "x"]]
        assert server.found("orders") == {"x": {"n": 3}, "y": {"n": 2}}

    def test_a_tombstone_deletes_in_its_turn(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(write_method="upsert", behavior_on_null_values="delete")

        assert sink.put(batch({"n": 1}, None, {"m": 2}, {"n": 1}, None, keys=["x", "x", "x", "y", "y"])) == []
        assert server.found("orders") == {"x": {"m": 2}}


class TestMapping:
    of = schema.struct({"id": schema.INT32, "name": schema.STRING})

    def test_a_new_index_gets_the_schemas_mapping(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(schema_ignore="false")

        assert sink.put(batch({"id": 1, "name": "x"}, schema=self.of)) == []
        assert server.indices["orders"]["properties"]["id"] == {"type": "integer"}

    def test_an_index_without_mapping_gets_it_too(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["orders"] = {}
        make_sink(schema_ignore="false").put(batch({"id": 1, "name": "x"}, schema=self.of))

        assert server.indices["orders"]["properties"]["id"] == {"type": "integer"}

    def test_a_mapping_that_is_there_stays_and_gets_what_it_lacks(
        self, make_sink: Make, batch: Batch, server: Any
    ) -> None:
        server.indices["orders"] = {"properties": {"id": {"type": "keyword"}}}
        make_sink(schema_ignore="false", mapping_strings="keyword").put(batch({"id": 1, "name": "x"}, schema=self.of))

        assert server.indices["orders"]["properties"] == {
            "id": {"type": "keyword"},
            "name": {"type": "keyword", "ignore_above": 256},
        }

    def test_a_first_tombstone_needs_no_schema(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(schema_ignore="false", behavior_on_null_values="delete")

        assert sink.put(batch(None)) == []
        assert sink.put(batch({"id": 1, "name": "x"}, schema=self.of, first=1)) == []
        assert server.indices["orders"]["properties"]["id"] == {"type": "integer"}

    def test_values_without_schema_are_mapped_by_elasticsearch(
        self, make_sink: Make, batch: Batch, server: Any
    ) -> None:
        assert make_sink(schema_ignore="false").put(batch({"a": 1})) == []

        assert server.indices["orders"] == {}

    def test_schema_ignored_for_one_topic(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(schema_ignore="false", topic_schema_ignore="orders")

        assert sink.put(batch({"a": 1})) == []
        assert server.indices["orders"] == {}


RESOURCES = {"external_resource_usage": "INDEX", "topic_to_external_resource_mapping": "orders:shop"}


class TestResources:
    def test_records_go_where_the_user_says(self, make_sink: Make, batch: Batch, server: Any) -> None:
        server.indices["shop"] = {}

        assert make_sink(**RESOURCES).put(batch({"a": 1})) == []
        assert server.found("shop") == {"k0": {"a": 1}}

    def test_it_must_exist(self, make_sink: Make, batch: Batch, server: Any) -> None:
        with pytest.raises(InfrastructureError, match="'shop' does not exist"):
            make_sink(**RESOURCES).put(batch({"a": 1}))

        assert server.indices == {}

    def test_every_topic_needs_one(self, make_sink: Make, batch: Batch, server: Any) -> None:
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


class TestMergesWhoseAnswerWasLost:
    """Elasticsearch may do them late: nothing that comes after them is sent before it has."""

    def test_the_next_sending_waits_for_the_end_of_the_lost_one(
        self, make_sink: Make, batch: Batch, server: Any, scripted: Any
    ) -> None:
        sink = make_sink(write_method="upsert")
        assert sink.put(batch({"a": 0}, keys=["x"])) == []
        before = len(server.bulks)
        sink.expect_answers_within(0.3)
        server.script = [scripted.Answer(hang=threading.Event())]
        put = sink.task.begin([batch({"a": 1}, {"b": 2}, keys=["x", "x"], first=1)])
        with pytest.raises(RetriableError):
            put.finish()
        sink.expect_answers_within(60)
        lost = server.opaque_ids[-1]
        assert lost
        running = {"nodes": {"n": {"tasks": {"n:1": {"headers": {"X-Opaque-Id": lost}}}}}}
        server.on_path["/_tasks"] = scripted.Answer(body=running)
        finished = threading.Thread(target=put.finish)
        finished.start()
        eventually(lambda: server.requests.count("GET /_tasks") > 2)
        assert len(server.bulks) == before + 1
        server.on_path["/_tasks"] = scripted.Answer(body={})
        finished.join(60)
        assert server.found("orders") == {"x": {"a": 1, "b": 2}}
        assert len(server.bulks) == before + 2
        assert len(set(server.opaque_ids)) == before + 2

    def test_it_is_told_what_is_waited_for_and_patience_ends(
        self, make_sink: Make, batch: Batch, server: Any, scripted: Any
    ) -> None:
        sink = make_sink(SinkTimings(delivery_timeout=0.6), write_method="update")
        server.script = [scripted.Answer(reset=True)]
        put = sink.task.begin([batch({"a": 1})])
        with pytest.raises(RetriableError):
            put.finish()
        running = {"nodes": {"n": {"tasks": {"n:1": {"headers": {"X-Opaque-Id": server.opaque_ids[0]}}}}}}
        server.on_path["/_tasks"] = scripted.Answer(body=running)
        with pytest.raises(RetriableError) as raised:
            put.finish()
        assert raised.value.code == "elasticsearch.unanswered"
        assert any("whose response was lost" in str(reason) for reason in sink.status_reasons.said)

    def test_who_may_not_look_goes_on(self, make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
        sink = make_sink(write_method="upsert")
        server.script = [scripted.Answer(reset=True)]
        server.on_path["/_tasks"] = scripted.Answer(403, {"error": {"type": "security_exception", "reason": "no"}})
        put = sink.task.begin([batch({"a": 1})])
        with pytest.raises(RetriableError):
            put.finish()
        assert list(put.finish()) == []

    def test_inserts_have_versions_and_do_not_wait(
        self, make_sink: Make, batch: Batch, server: Any, scripted: Any
    ) -> None:
        sink = make_sink()
        server.script = [scripted.Answer(reset=True)]
        put = sink.task.begin([batch({"a": 1})])
        with pytest.raises(RetriableError):
            put.finish()
        assert list(put.finish()) == []
        assert "GET /_tasks" not in server.requests
        assert server.opaque_ids == ["", ""]


@pytest.mark.parametrize(("end", "told"), [(6, True), (7, False), (None, False)])
def test_an_index_that_is_ahead_of_its_topic_is_told(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, end: int | None, told: bool
) -> None:
    reason = "[k0]: version conflict, current version [6] is higher or equal to the one provided [0]"
    kind = "version_conflict_engine_exception"
    server.script = [lambda actions: scripted.items([scripted.item(actions[0], 409, kind, reason)])]
    sink = make_sink()
    records = batch({"a": 1})
    records.end_offset = end

    assert sink.put(records) == []
    assert any("not written" in (said or "") for said in sink.status_reasons.said) == told
    assert sink.put(batch({"a": 2}, first=9)) == []
    assert sink.status_reasons.current is None


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

    def both_told() -> bool:
        return any("not written" in said and "overloaded" in said for said in filter(None, sink.status_reasons.said))

    def until_both_are_told(seconds: float | None = None) -> bool:
        eventually(both_told)
        return False

    sink.stop_event.wait = until_both_are_told
    for _ in range(2):
        records = batch({"a": 1})
        records.end_offset = 6
        assert sink.put(records) == []

    current = sink.status_reasons.current or ""
    assert "not written" in current
    assert "overloaded" not in current
