"""Results that a converter cannot write are dead letters, and the application goes on with everything else."""

from __future__ import annotations

from typing import Any

import orjson

from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.test_refused_results import headers_of

WINDOW = """inputs:
  views: {topic: impressions, time: at, key: id}
steps:
  counted:
    window: {by: id, tumbling: 10ms, grace: 0, aggregate: {total: sum(price)}}
outputs: {out: counted}
"""
VIEWS = [(1, 1, 2), (2, 2, 1e308), (2, 3, 1e308), (3, 4, 4), (1, 50, 1)]
"""Id, time and price; the total of id 2 is infinite."""
CALL = """inputs:
  views: {topic: impressions, time: at, key: id}
steps:
  called: {call: tests.unit.streams.test_unwritable_results:answer}
"""


def answer(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record that has no JSON form for one id."""
    nested: Any = []
    for _ in range(300):  # deeper than orjson writes
        nested = [nested]
    kinds = {2: {1, 2}, 4: nested, 5: "\ud800"}
    return {"id": record["id"], "at": record["at"], "made": kinds.get(record["id"], "x")}


def make(make_application: MakeApplication, text: str, **settings: str) -> Application:
    letters = {"errors_tolerance": "all", "errors_deadletterqueue_topic_name": "dead"}
    return make_application(text, {"impressions": 1, "out": 1}, **{**letters, **settings})


def send(application: Application, views: Any = VIEWS) -> None:
    values = [{"id": key, "at": at, "price": price} for key, at, price in views]
    application.send("impressions", values, [key for key, _, _ in views])


def test_a_result_of_a_window_that_json_cannot_hold_is_a_dead_letter(make_application: MakeApplication) -> None:
    application = make(make_application, WINDOW)
    send(application)
    task = application.start()
    application.wait_until_processed()
    eventually(lambda: task.metrics.snapshot()["stream_result_dead_lettered_total"] == 1)
    account = task.metrics.steps.snapshot()["counted"]
    task.stop()

    assert [(row["id"], row["total"]) for row in application.committed("out")] == [(1, 2), (3, 4)]
    (letter,) = application.broker.records("dead")
    assert orjson.loads(letter.key or b"") == 2
    # In the form of changelogs, which keeps what JSON has no form for.
    window = {"window_start": 0, "window_end": 10}
    assert orjson.loads(letter.value or b"") == {"id": 2, **window, "total": {"$double": "inf"}}
    headers = headers_of(letter)
    assert (headers["stage"], headers["output"], headers["step"]) == ("VALUE_CONVERTER", "out", "counted")
    assert headers["class.name"].endswith("JsonConverter")
    assert headers["location"] == application.location("9:11")
    assert (headers["result.step"], headers["result.key"]) == ("counted", "2")
    assert (headers["window_start"], headers["window_end"]) == ("0", "10")
    assert (account["results"], account["open"]) == (4, 1), "the records of the result have their outcome"
    (condition,) = application.conditions.of("app")
    assert (condition.code, condition.count) == ("records.dead_lettered", 1)
    assert "row made by counted: key=2, window_start=0, window_end=10" in condition.example


def test_without_tolerance_the_task_fails_and_names_the_result_and_the_output(
    make_application: MakeApplication,
) -> None:
    application = make(make_application, WINDOW, errors_tolerance="none")
    send(application)
    task = application.start()
    application.wait_until_failed()

    text = str(task.error)
    assert "VALUE_CONVERTER refused row made by counted: key=2, window_start=0, window_end=10" in text
    assert f"output out: NaN and infinity cannot be written as JSON ({application.location('9:11')})" in text
    assert application.committed("out") == []
    assert len(application.broker.records("dead")) == 1


def test_a_window_that_a_silence_closes_can_have_a_result_that_is_left_out(make_application: MakeApplication) -> None:
    application = make(make_application, WINDOW, idle_after="100ms")
    send(application, VIEWS[:4])
    task = application.start()
    eventually(lambda: task.metrics.snapshot().get("stream_result_dead_lettered_total") == 1)
    task.stop()

    assert [row["id"] for row in application.committed("out")] == [1, 3]
    (letter,) = application.broker.records("dead")
    assert headers_of(letter)["result.key"] == "2"


def test_a_key_that_the_key_converter_cannot_write_leaves_its_result_out(make_application: MakeApplication) -> None:
    text = WINDOW.replace("by: id,", "by: kind,").replace(", key: id", "")
    application = make(make_application, text, key_converter="org.apache.kafka.connect.converters.LongConverter")
    rows = [{"kind": kind, "at": at, "price": 1} for at, kind in ((1, 7), (2, "seven"), (50, 7))]
    application.send("impressions", rows)
    task = application.start()
    application.wait_until_processed()
    eventually(lambda: task.metrics.snapshot()["stream_result_dead_lettered_total"] == 1)
    task.stop()

    (written,) = application.broker.records("out")
    assert orjson.loads(written.value or b"")["kind"] == 7
    (letter,) = application.broker.records("dead")
    headers = headers_of(letter)
    assert (headers["stage"], headers["result.key"], orjson.loads(letter.key or b"")) == (
        "KEY_CONVERTER",
        '"seven"',
        "seven",
    )


def test_a_record_whose_output_has_no_json_form_is_refused_with_the_output(make_application: MakeApplication) -> None:
    application = make(make_application, CALL + "outputs: {out: called}\n")
    send(application, [(n, n, 0) for n in range(1, 7)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert [row["id"] for row in application.committed("out")] == [1, 3, 6]
    letters = application.broker.records("dead")
    assert [orjson.loads(letter.value or b"")["id"] for letter in letters] == [2, 4, 5]
    for letter in letters:
        headers = headers_of(letter)
        assert (headers["stage"], headers["step"], headers["output"]) == ("VALUE_CONVERTER", "called", "out")
        assert headers["location"] == application.location("8:11")


def test_a_record_that_makes_a_state_that_cannot_be_stored_is_found_and_refused(
    make_application: MakeApplication,
) -> None:
    application = make(make_application, WINDOW.replace("sum(price)", "last(made)"))
    deep = b"[" * 300 + b"]" * 300  # read as JSON, but too deep to be written
    rows = [(1, 1, b"1"), (2, 2, deep), (3, 3, b"3"), (1, 4, b"4")]
    producer = application.broker.producer({})
    values: list[bytes | None] = [b'{"id": %d, "at": %d, "made": %b}' % row for row in rows]
    producer.send(EncodedBatch("impressions", values, [b"%d" % key for key, _, _ in rows]))
    producer.close(1)
    task = application.start()
    application.wait_until_processed()
    send(application, [(1, 50, 0)])
    application.wait_until_processed()
    eventually(lambda: task.metrics.steps.snapshot()["counted"]["open"] == 1)
    account = task.metrics.steps.snapshot()["counted"]
    task.stop()

    assert [(row["id"], row["total"]) for row in application.committed("out")] == [(1, 4), (3, 3)]
    (letter,) = application.broker.records("dead")
    assert letter.value == values[1]
    headers = headers_of(letter)
    assert (headers["stage"], headers["code"], headers["offset"]) == ("STREAM_STEP", "stream.not_storable", "1")
    assert (account["received"], account["results"], account["open"]) == (4, 3, 1)
    assert any("finding the record that changed it" in str(note) for note in task.notes + task.reasons)


def test_a_record_that_cannot_be_written_to_a_repartition_topic_is_refused(make_application: MakeApplication) -> None:
    window = "{by: at, tumbling: 10ms, grace: 0, aggregate: {n: count(*)}}"
    application = make(make_application, f"{CALL}  kept: {{window: {window}}}\noutputs: {{out: kept}}\n")
    send(application, [(n, n, 0) for n in range(1, 7)] + [(1, 50, 0)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert sorted(row["at"] for row in application.committed("out")) == [1, 3, 6]
    letters = application.broker.records("dead")
    assert [orjson.loads(letter.value or b"")["id"] for letter in letters] == [2, 4, 5]


def test_an_output_that_is_too_large_for_kafka_fails_the_task_and_names_the_topic(
    make_application: MakeApplication,
) -> None:
    text = WINDOW.replace("sum(price)", "last(name)")
    application = make(make_application, text, producer_override_max_request_size="500")
    application.send("impressions", [{"id": 1, "at": at, "name": "n" * 600} for at in (1, 50)], [1, 1])
    task = application.start()
    application.wait_until_failed()

    assert task.error is not None
    assert "a record cannot be written to out: the record has" in str(task.error)
    assert getattr(task.error, "code", "") == "data.record_too_large"
    assert application.committed("out") == []
