"""Decisions over HTTP: the selection of the step, written before it is returned, and taken by the application."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from headrace.errors import CommandError, ConfigError, ConflictError, HeadraceError, NotFoundError, RetriableError
from headrace.pipeline.stream.decisions import DecisionService
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.exploration.application_runs import shared_records
from tests.unit.streams.exploration.applications import APPLICATION, OFFERS

TOPICS = {"requests": 2, "conversions": 1, "offers": 1}


def request(number: int, **more: Any) -> dict[str, Any]:
    return {"request_id": f"r{number}", "user_id": number, "country": "de", "patience": 30, "asked_at": 1000, **more}


def started(make_application: MakeApplication, text: str = APPLICATION, **settings: str) -> Application:
    application: Application = make_application(text, TOPICS, **{"decide_enabled": "true", **settings})
    application.send("offers", OFFERS, list(range(len(OFFERS))))
    application.start()
    return application


def service(application: Application) -> DecisionService:
    """Return the service of the running application, when it has read its tables."""

    def answers() -> bool:
        """the service decides"""
        try:
            application.decisions.of("app").decide(request(10_000))
        except (NotFoundError, RetriableError):
            return False
        return True

    eventually(answers, 20)
    return application.decisions.of("app")


def test_a_decision_is_the_selection_that_the_application_writes(make_application: MakeApplication) -> None:
    application = started(make_application)
    decide = service(application).decide
    answers = {f"r{n}": decide(request(n)) for n in range(20)}
    application.wait_until_processed()
    selections = {value["request"]: value for value in application.committed("selections")}
    for name, answer in answers.items():
        selection = selections[name]
        assert {key: value for key, value in selection.items() if key != "candidates"} == answer
        assert answer["selected"] in [row[0] for row in selection["candidates"]["rows"]]
        assert answer["selected_at"] == 1000
        assert answer["latency_ms"] >= 0
    made = [value["request"] for value in application.committed("selections") if value["request"] != "r10000"]
    assert sorted(made) == sorted(answers)


def test_a_decision_is_the_one_that_the_step_makes_for_a_record(make_application: MakeApplication) -> None:
    application = started(make_application)
    answer = service(application).decide(request(7))
    application.send("requests", [request(7)], ["r7"])
    application.wait_until_processed()
    (made,) = [value for value in application.committed("selections") if "latency_ms" not in value]
    apart = ("candidates", "latency_ms", "traffic")  # the first record is what makes the first transition
    assert {name: value for name, value in made.items() if name not in apart} == {
        name: value for name, value in answer.items() if name not in apart
    }


def test_a_request_without_candidates_is_answered_and_stays_without(make_application: MakeApplication) -> None:
    application = started(make_application)
    answer = service(application).decide(request(1, patience=0))
    assert answer == {"experiment": "surveys", "request": "r1", "unit": "1", "selected": None}
    application.wait_until_processed()
    assert [value["request_id"] for value in application.committed("requests-without-candidates")] == ["r1"]


def test_decided_requests_convert_and_are_learned_from(make_application: MakeApplication) -> None:
    application = started(make_application)
    service(application).decide(request(1))
    application.wait_until_processed()
    application.send("conversions", [{"request": "r1", "converted_at": 2000}], ["r1"])
    application.wait_until_processed()
    (label,) = [value for value in application.committed("labels") if value["request"] == "r1"]
    assert label["conversion"] is not None
    records = shared_records(application, "app-surveys-models").values()
    events = [value["event"] for value in records if "event" in value]
    assert ["booking", label["version"], label["features"], 1.0] in [event[:4] for event in events]


def test_the_latency_of_decisions_is_counted(make_application: MakeApplication) -> None:
    text = APPLICATION.replace("    test.every: 10m\n", "    test.every: 1ms\n    guards.latency: 50ms\n")
    application = started(make_application, text)
    decide = service(application).decide
    eventually(lambda: decide(request(999))["traffic"] == 1)
    for number in range(5):
        decide(request(number))
    application.wait_until_processed()
    for number in range(3):
        conversion = {"request": f"r{number}", "converted_at": 2000 + number * 10_000}
        application.send("conversions", [conversion], [conversion["request"]])
        application.wait_until_processed()
    counts = application.committed("experiment-counts")[-1]["counts"]
    first = {value["request"]: value for value in reversed(application.committed("selections"))}
    selections = [value for value in first.values() if value["traffic"] == 1]
    assert sum(item["timed"] for item in counts.values()) == len(selections)
    assert sum(item["slow"] for item in counts.values()) == sum(value["latency_ms"] > 50 for value in selections)


def test_decisions_are_not_headers_of_selections(make_application: MakeApplication) -> None:
    application = started(make_application)
    service(application).decide(request(1))
    application.wait_until_processed()
    (place,) = application.broker.partitions_of("selections")
    records, _ = application.broker.logs[place].read(0, 100, committed=True)
    assert records
    assert not any(name == "headrace.decision" for record in records for name, _ in record.headers or ())


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"user_id": None}, "experiment.request"),
        ({"request_id": 1.5}, "experiment.request"),
        ({"asked_at": "soon"}, "stream.expression"),
        ({"patience": "much"}, "stream.expression"),
    ],
)
def test_a_request_that_cannot_be_decided_is_refused_and_not_written(
    make_application: MakeApplication, changed: dict[str, Any], code: str
) -> None:
    application = started(make_application)
    decide = service(application).decide
    application.wait_until_processed()
    before = sum(len(application.broker.logs[item].records()) for item in application.broker.partitions_of("requests"))
    with pytest.raises(CommandError) as raised:
        decide(request(1, **changed))
    assert raised.value.http_status == 400
    assert raised.value.code.startswith(code.split(".")[0])
    after = sum(len(application.broker.logs[item].records()) for item in application.broker.partitions_of("requests"))
    assert after == before


@pytest.mark.parametrize(
    "header",
    [b"{", b"[]", orjson.dumps({"experiment": "surveys", "request": "another", "unit": "1", "selected": "1"})],
    ids=["no JSON", "no object", "another request"],
)
def test_a_header_that_is_no_decision_on_the_request_is_refused(
    make_application: MakeApplication, header: bytes
) -> None:
    application: Application = make_application(APPLICATION, TOPICS)
    application.send("offers", OFFERS, list(range(len(OFFERS))))
    application.send_with_headers("requests", request(1), "r1", [("headrace.decision", header)])
    task = application.start()
    application.wait_until_failed()
    assert isinstance(task.error, HeadraceError)
    assert "headrace.decision" in str(task.error)


def test_while_kafka_is_down_there_is_no_answer_after_the_timeout(make_application: MakeApplication) -> None:
    application = started(make_application, decide_timeout_ms="200")
    decide = service(application).decide
    application.broker.down = True
    with pytest.raises(RetriableError) as raised:
        decide(request(1))
    assert raised.value.http_status == 503


def test_a_paused_application_decides_nothing(make_application: MakeApplication) -> None:
    application = started(make_application)
    decide = service(application).decide
    application.tasks[0].paused.set()
    with pytest.raises(ConflictError, match="app is paused"):
        decide(request(1))


def test_a_stopped_application_has_no_service(make_application: MakeApplication) -> None:
    application = started(make_application)
    service(application)
    application.tasks[0].stop()
    application.tasks.clear()
    with pytest.raises(NotFoundError, match=r"set decide\.enabled: true"):
        application.decisions.of("app")


STEPS_BEFORE = {
    "keyed": "{from: requests, key_by: user_id}",
    "first": "{from: requests, deduplicate: {by: request_id, within: 1h, grace: 1h}}",
    "top": "{from: requests, top: {by: user_id, order: patience, limit: 1, tumbling: 1m, grace: 1m}}",
}


def with_step_before(name: str) -> str:
    text = APPLICATION.replace("steps:\n", f"steps:\n  {name}: {STEPS_BEFORE[name]}\n")
    return text.replace("selections:\n    from: requests\n", f"selections:\n    from: {name}\n")


@pytest.mark.parametrize("name", ["keyed", "first"])
def test_a_request_passes_the_steps_before_the_decision(make_application: MakeApplication, name: str) -> None:
    application = started(make_application, with_step_before(name))
    decide = service(application).decide
    answer = decide(request(1))
    application.wait_until_processed()
    found = [value["selected"] for value in application.committed("selections") if value["request"] == "r1"]
    assert found == [answer["selected"]]


def test_with_deduplicate_the_first_decision_on_a_request_counts(make_application: MakeApplication) -> None:
    application = started(make_application, with_step_before("first"))
    decide = service(application).decide
    first, _ = decide(request(1)), decide(request(1, patience=8))
    application.wait_until_processed()
    (found,) = [value for value in application.committed("selections") if value["request"] == "r1"]
    assert found["selected"] == first["selected"]


def test_an_application_whose_requests_need_state_cannot_decide(make_application: MakeApplication) -> None:
    application = started(make_application, with_step_before("top"))
    application.wait_until_failed()
    error = application.tasks[0].error
    assert isinstance(error, ConfigError)
    assert "step 'top' before 'selections' has state" in str(error)
