"""Overlapping puts: answered items are not sent again, the others are, and order is kept where it matters."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import RetriableError, SinkBatch, TopicPartition
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch.timings import SinkTimings

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]


def written(server: Any) -> int:
    return sum(map(len, server.bulks))


def test_requests_are_sent_when_a_put_begins(make_sink: Make, batch: Batch, server: Any) -> None:
    sink = make_sink()
    puts = [sink.task.begin([batch({"a": number}, first=number)]) for number in range(3)]
    eventually(lambda: len(server.bulks) == 3)

    assert [list(put.finish()) for put in puts] == [[], [], []]
    assert server.found("orders") == {"k0": {"a": 2}}


def test_answered_items_are_not_sent_again(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink(batch_size="2", max_in_flight_requests="1")
    server.script = [server.accept, scripted.Answer(503), server.accept]
    put = sink.task.begin([batch(*({"a": number} for number in range(6)))])
    with pytest.raises(RetriableError):
        put.finish()

    assert list(put.finish()) == []
    assert [[action.document["a"] for action in bulk] for bulk in server.bulks[:2]] == [[0, 1], [2, 3]]
    assert written(server) == 8
    assert len(server.found("orders")) == 6


def test_only_retriable_items_are_sent_again(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    def busy(actions: list[Any]) -> Any:
        return scripted.items(
            [
                scripted.item(action, 429, "es_rejected_execution_exception", "busy")
                if action.document["a"] % 3 == 0
                else server.write(action)
                for action in actions
            ]
        )

    sink = make_sink(max_retries="0")
    server.script = [busy]
    put = sink.task.begin([batch(*({"a": number} for number in range(9)))])
    with pytest.raises(RetriableError, match="overloaded"):
        put.finish()

    assert list(put.finish()) == []
    assert sorted(action.document["a"] for bulk in server.bulks[1:] for action in bulk) == [0, 3, 6]


def test_no_records_of_revoked_partitions_are_sent_again(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink(batch_size="1", max_in_flight_requests="1")
    server.script = [scripted.Answer(503)]
    put = sink.task.begin([batch({"a": 1}, partition=0), batch({"b": 1}, partition=1, keys=["other"])])
    with pytest.raises(RetriableError):
        put.finish()
    put.discard([TopicPartition("orders", 0)])

    assert list(put.finish()) == []
    assert server.found("orders") == {"other": {"b": 1}}


def test_no_record_of_a_failed_request_is_lost_during_a_revocation(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    answered = threading.Event()

    def refuse(actions: list[Any]) -> Any:
        eventually(lambda: len(server.bulks) == 2)
        return scripted.Answer(503)

    sink = make_sink(batch_size="1", max_in_flight_requests="2")
    server.script = [refuse, scripted.Answer(hang=answered)]
    put = sink.task.begin([batch({"a": number}, partition=number, keys=[number]) for number in range(3)])
    eventually(lambda: len(server.bulks) == 2)
    put.discard([TopicPartition("orders", 2)])
    answered.set()
    with pytest.raises(RetriableError):
        put.finish()

    assert list(put.finish()) == []
    assert server.found("orders") == {"0": {"a": 0}, "1": {"a": 1}}


def test_rejections_of_revoked_partitions_are_not_returned(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()
    put = sink.task.begin([batch("text", partition=0), batch("text", partition=1)])
    put.discard([TopicPartition("orders", 0)])

    assert [item.topic_partition.partition for item in put.finish()] == [1]


def test_a_delete_that_elasticsearch_may_have_forgotten_is_repeated(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink(
        SinkTimings(repeat_deletes_after=0.0), behavior_on_null_values="delete", max_in_flight_requests="1"
    )
    server.script = [scripted.Answer(503), server.accept]
    older = sink.task.begin([batch({"a": 1}, {"a": 2}, keys=["x", "y"])])
    newer = sink.task.begin([batch(None, {"a": 3}, keys=["x", "y"], first=2)])
    eventually(lambda: ("orders", "y") in server.documents)  # the newer put's, after x
    with pytest.raises(RetriableError):
        older.finish()
    del server.documents["orders", "x"]  # as Elasticsearch does after index.gc_deletes

    assert list(older.finish()) == []
    assert list(newer.finish()) == []
    assert server.found("orders") == {"y": {"a": 3}}


def test_no_request_is_sent_after_a_stop(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    hang = threading.Event()
    server.script = [scripted.Answer(hang=hang)]
    sink = make_sink(use_autogenerated_ids="true", max_in_flight_requests="1", batch_size="1")
    sink.task.begin([batch({"a": 1}, {"a": 2}, {"a": 3})])
    eventually(lambda: len(server.bulks) == 1)
    threads = [thread for thread in threading.enumerate() if thread.name.endswith("-bulk")]
    sink.task.stop()
    hang.set()
    for thread in threads:
        thread.join(30)

    assert len(server.bulks) == 1


def test_merges_wait_for_the_previous_put(make_sink: Make, batch: Batch, server: Any, scripted: Any) -> None:
    sink = make_sink(write_method="upsert")
    server.script = [scripted.Answer(503)]
    puts = [sink.task.begin([batch({"n": number}, first=number)]) for number in range(3)]
    with pytest.raises(RetriableError):
        puts[0].finish()

    assert written(server) == 1
    assert [list(put.finish()) for put in puts] == [[], [], []]
    assert [action.document["doc"]["n"] for bulk in server.bulks for action in bulk] == [0, 0, 1, 2]


def test_an_index_that_cannot_be_created_is_created_later(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    sink = make_sink()
    server.on_path = {"/orders": scripted.Answer(503)}
    with pytest.raises(RetriableError):
        sink.task.begin([batch({"a": 1})])
    server.on_path = {}

    assert list(sink.task.begin([batch({"a": 1})]).finish()) == []
    assert server.found("orders") == {"k0": {"a": 1}}


def test_an_index_check_without_a_response_delays_no_record(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    """The request of the documents sets a status reason while it waits; a blocking check could not."""
    sink = make_sink(SinkTimings(index_check_interval=0.0))
    assert sink.put(batch({"a": 1})) == []
    answer = threading.Event()
    server.on_path = {"/orders": scripted.Answer(hang=answer)}
    sink.expect_answers_within(2.0)

    try:
        assert sink.put(batch({"a": 2}, first=1)) == []
    finally:
        answer.set()
    assert server.found("orders") == {"k0": {"a": 2}}


def test_with_flush_synchronously_no_request_is_sent_when_a_put_begins(
    make_sink: Make, batch: Batch, server: Any
) -> None:
    sink = make_sink(flush_synchronously="true")

    assert sink.task.begin([batch({"a": 1})]) is None
    assert server.bulks == []


def test_requests_become_fewer_and_smaller_after_429_and_recover(
    make_sink: Make, batch: Batch, server: Any, scripted: Any
) -> None:
    refused = threading.Event()

    def storm(actions: list[Any]) -> Any:
        refused.set()
        return scripted.items(
            [scripted.item(action, 429, "es_rejected_execution_exception", "busy") for action in actions]
        )

    server.script = [storm, storm, storm]
    sink = make_sink(batch_size="8", max_in_flight_requests="4", max_retries="10")

    assert sink.put(batch(*({"a": number} for number in range(8)))) == []
    sizes = [len(bulk) for bulk in server.bulks]
    assert sizes == [8, 8, 8, 4, 4]  # four requests at a time, two, one, and one of half the size
    assert sink.put(batch(*({"a": number} for number in range(100, 400)), keys=range(100, 400), first=100)) == []
    assert max(len(bulk) for bulk in server.bulks[5:]) == 8
    assert len(server.found("orders")) == 308


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("status", [400, 413])
def test_a_poison_document_at_any_position_is_the_only_one_refused(
    make_sink: Make, batch: Batch, server: Any, scripted: Any, place: int, status: int
) -> None:
    def refuse_one_document(actions: list[Any]) -> Any:
        if any(action.document["a"] == place for action in actions):
            return scripted.Answer(status, {"error": {"type": "parse_exception", "reason": "poison"}, "status": status})
        return server.accept(actions)

    server.script = [refuse_one_document] * 50
    sink = make_sink(batch_size="8")
    (rejection,) = sink.task.put([batch(*({"a": number} for number in range(8)), first=50)])

    assert rejection.offset == 50 + place
    assert rejection.error.details == {"index": "orders", "id": f"k{place}", "document": f'{{"a":{place}}}'}
    assert set(server.found("orders")) == {f"k{number}" for number in range(8)} - {f"k{place}"}


def test_only_the_beginning_of_a_long_document_is_reported(make_sink: Make, batch: Batch, server: Any) -> None:
    server.script = [server.refuse]
    sink = make_sink()
    (rejection,) = sink.task.put([batch({"a": "ä" * 5000})])

    assert len(rejection.error.details["document"].encode()) <= 1010
    assert rejection.error.details["document"].endswith("…")
    assert "ä" not in rejection.error.message
