"""write.method upsert: the order of writes to one document, also when a response is lost."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import RetriableError, SinkBatch
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch.timings import SinkTimings

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]


class TestUpsert:
    def test_fields_are_merged(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(write_method="upsert")

        assert sink.put(batch({"a": 1, "b": 1}, {"b": 2}, keys=["x", "x"])) == []
        assert server.found("orders") == {"x": {"a": 1, "b": 2}}

    def test_writes_to_one_document_never_run_concurrently(self, make_sink: Make, batch: Batch, server: Any) -> None:
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
    def test_a_retried_write_does_not_overwrite_a_later_one(
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

    def test_a_tombstone_deletes_in_record_order(self, make_sink: Make, batch: Batch, server: Any) -> None:
        sink = make_sink(write_method="upsert", behavior_on_null_values="delete")

        assert sink.put(batch({"n": 1}, None, {"m": 2}, {"n": 1}, None, keys=["x", "x", "x", "y", "y"])) == []
        assert server.found("orders") == {"x": {"m": 2}}


class TestMergesWithLostResponse:
    """Elasticsearch may execute them late: later writes are sent after that."""

    def test_the_next_request_waits_for_the_end_of_the_lost_one(
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

    def test_the_status_names_the_lost_request_and_the_wait_has_a_timeout(
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

    def test_merges_continue_without_the_privilege_to_list_tasks(
        self, make_sink: Make, batch: Batch, server: Any, scripted: Any
    ) -> None:
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
