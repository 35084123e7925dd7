"""``headrace tap``: records of a task at each of its stages, bounded and masked."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from headrace import SourceBatch
from headrace import schema as schemas
from headrace.errors import CommandError, ConflictError, NotFoundError
from headrace.pipeline.stages import Stages
from headrace.pipeline.tap import TaskTap
from headrace.redaction import HIDDEN, Secrets, unredacted
from headrace.runtime.tap_view import Mask, TapQuery, TapView, tap_task
from headrace.states import TaskId
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from tests.unit.transforms.conftest import StageMaker
from tests.unit.transforms.test_in_tasks import MASK, consumed

TASK = TaskId("s", 0)


def tapped(
    stages: Stages, process: Callable[[], Any], stage: str, records: int = 10, seconds: float = 0.2, **more: Any
) -> TapView:
    """Return what a tap shows of the records that are processed while it waits."""
    query = TapQuery(stage, records, more.pop("size", 100_000), seconds, more.pop("mask", ()))
    redact, previewer = more.pop("redact", unredacted), more.pop("previewer", None)
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(tap_task, stages.tap, TASK, query, redact, previewer)
        eventually(lambda: stages.tap.request is not None or shown.done())
        process()
        return shown.result()


@pytest.fixture
def sink(stage_maker: StageMaker) -> Stages:
    return stage_maker.sink(MASK)


RECORDS = [b'{"card":"4111","n":1}', None, b'{"card":"4222","n":2}']


@pytest.mark.parametrize(
    ("stage", "topics", "values"),
    [
        ("read", {"t"}, ['{"card": "4111", "n": 1}', None, '{"card": "4222", "n": 2}']),
        ("converted", {"t"}, ['{"card": "4111", "n": 1}', None, '{"card": "4222", "n": 2}']),
        ("transforms.mask", {"t"}, ['{"card": "", "n": 1}', '{"card": "", "n": 2}']),
        ("transforms.route", {"new-t"}, ['{"card": "", "n": 1}', '{"card": "", "n": 2}']),
        ("written", {"new-t"}, ['{"card": "", "n": 1}', '{"card": "", "n": 2}']),
    ],
)
def test_each_stage_of_a_sink_is_shown(sink: Stages, stage: str, topics: set[str], values: list[str | None]) -> None:
    found = tapped(sink, lambda: sink.decode(consumed(RECORDS)), stage)

    assert [record.value for record in found.records] == values
    assert {record.topic for record in found.records} == topics
    assert {(record.partition, record.key) for record in found.records} == {(3, "k")}
    assert [record.offset for record in found.records] == ([100, 101, 102] if None in values else [100, 102])


@pytest.mark.parametrize(
    ("stage", "topic", "value"),
    [
        ("polled", "t", {"card": "4111", "n": 1}),
        ("transforms.mask", "t", {"card": "", "n": 1}),
        ("written", "new-t", {"card": "", "n": 1}),
    ],
)
def test_each_stage_of_a_source_is_shown(
    stage_maker: StageMaker, stage: str, topic: str, value: dict[str, Any]
) -> None:
    stages = stage_maker.source({**MASK, "value.converter.schemas.enable": "false", "key.converter": "StringConverter"})
    described = schemas.struct({"card": schemas.STRING, "n": schemas.INT32})
    batch = SourceBatch("t", [{"card": "4111", "n": 1}], described, keys=["k"], headers=[[("h", b"1")]])
    (record,) = tapped(stages, lambda: stages.encode(batch), stage).records

    assert (record.topic, record.key, record.headers) == (topic, "k", [("h", "1")])
    assert json.loads(record.value or "") == value
    assert (record.partition, record.offset) == (None, None)


def test_a_sink_that_tells_shows_what_it_writes(stage_maker: StageMaker) -> None:
    properties = {"name": "s", "connector.class": "ElasticsearchSink", "connection.url": "http://localhost:9200"}
    properties |= {"topics": "t", "key.converter": "StringConverter", "value.converter.schemas.enable": "false"}
    properties["behavior.on.null.values"] = "delete"
    previewer = ElasticsearchSinkConnector().previewer(
        stage_maker.validator.require_connector({"value.converter": "JsonConverter", **properties}).own
    )
    stages = stage_maker(properties)
    found = tapped(stages, lambda: stages.decode(consumed(RECORDS)), "written", previewer=previewer, mask=("card",))

    assert [record.write for record in found.records] == ["index t/k", "delete t/k", "index t/k"]
    assert found.records[0].value == f'{{"card": "{HIDDEN}", "n": 1}}'


def test_a_tap_ends_with_the_number_of_records_and_shows_no_more(sink: Stages) -> None:
    found = tapped(sink, lambda: sink.decode(consumed([b'{"n":1}'] * 5)), "written", records=3, seconds=60)

    assert len(found.records) == 3
    assert sink.tap.request is None


def test_a_tap_ends_with_the_time(sink: Stages) -> None:
    assert tapped(sink, lambda: None, "written", seconds=0.01).records == []
    assert sink.tap.request is None


def test_the_texts_are_bounded_together_and_each(sink: Stages) -> None:
    large = json.dumps({"text": "x" * 10_000}).encode()
    found = tapped(sink, lambda: sink.decode(consumed([large] * 5)), "read", size=9_000)

    assert (len(found.records), found.left_out) == (2, 3)
    assert all(len(record.value or "") < 4_100 for record in found.records)


def test_an_unknown_stage_is_refused_with_those_that_exist(sink: Stages) -> None:
    with pytest.raises(CommandError, match="no stage 'polled'") as refused:
        sink.tap.collect("polled", 1, 1)
    assert refused.value.hint == "it has: read, converted, transforms.mask, transforms.route, written"


def test_a_task_without_stages_says_why() -> None:
    with pytest.raises(CommandError) as refused:
        TaskTap().collect("written", 1, 1)
    assert "those of stream applications have none" in refused.value.hint


def test_one_caller_waits_at_a_time(sink: Stages) -> None:
    def another() -> None:
        with pytest.raises(ConflictError, match="another tap"):
            sink.tap.collect("written", 1, 1)

    tapped(sink, another, "written", seconds=0.05)
    tapped(sink, lambda: None, "written", seconds=0.01)


def test_a_task_that_does_not_run_is_named() -> None:
    with pytest.raises(NotFoundError, match="task s-0 does not run"):
        tap_task(None, TASK, TapQuery("written", 1, 1, 1), unredacted, None)


def test_records_are_not_changed_by_a_mask(sink: Stages) -> None:
    decoded: list[Any] = []
    tapped(sink, lambda: decoded.append(sink.decode(consumed(RECORDS))), "transforms.mask", mask=("n",))

    (batches, _) = decoded[0]
    assert [value for batch in batches for value in batch.values] == [{"card": "", "n": 1}, {"card": "", "n": 2}]


@pytest.mark.parametrize(
    ("value", "mask", "shown"),
    [
        ({"card": "4111", "n": 1}, ("card",), {"card": HIDDEN, "n": 1}),
        ({"a": {"card": "4111"}}, ("card",), {"a": {"card": HIDDEN}}),
        ({"a": {"card": "4111"}, "card": "x"}, ("a.card",), {"a": {"card": HIDDEN}, "card": "x"}),
        ({"rows": [{"card": 1}, {"card": 2}]}, ("rows.card",), {"rows": [{"card": HIDDEN}] * 2}),
        ({"password": "x", "db.password": "y", "n": 1}, (), {"password": HIDDEN, "db.password": HIDDEN, "n": 1}),
        (b'{"schema":{"type":"struct"},"payload":{"card":"4"}}', ("card",), {"payload": {"card": HIDDEN}}),
        (
            b'{"schema":{},"payload":{"a":{"card":"4"}}}',
            ("a.card",),
            {"payload": {"a": {"card": HIDDEN}}},
        ),
        ('{"card":"4111"}', ("card",), {"card": HIDDEN}),
    ],
)
def test_fields_are_hidden(value: Any, mask: tuple[str, ...], shown: dict[str, Any]) -> None:
    found = json.loads(Mask(mask, unredacted).value(value) or "")
    found.pop("schema", None)
    assert found == shown


@pytest.mark.parametrize("value", [b"\x00\x00\x00\x00\x07\x0c4111", b"4111,Li", "4111,Li", b"[4111", b"4111"])
def test_what_is_no_json_object_is_hidden_when_fields_are(value: Any) -> None:
    assert "4111" not in (Mask(("card",), unredacted).value(value) or "")


def test_keys_that_are_texts_are_shown_and_binary_ones_hidden_when_fields_are() -> None:
    mask = Mask(("card",), unredacted)
    assert mask.key(b"order-17") == "order-17"
    assert mask.key(b"\x00\x00\x00\x00\x07\x0c4111") == f"{HIDDEN} (10 bytes that are no JSON object)"
    assert Mask((), unredacted).key(b"\x00\x01") == "base64 AAE="


def test_secrets_of_the_configuration_and_masked_headers_are_hidden() -> None:
    secrets = Secrets()
    secrets.add("s", {"hunter22": HIDDEN})
    mask = Mask(("trace",), secrets.of("s"))

    assert mask.value({"note": "it is hunter22"}) == f'{{"note": "it is {HIDDEN}"}}'
    assert (mask.header("trace", b"1"), mask.header("api.key", b"x"), mask.header("h", None)) == (HIDDEN, HIDDEN, None)
