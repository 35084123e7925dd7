"""Transforms in the paths of sources and sinks: chains, predicates, refused records, and values that stay text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from headrace import schema as schemas
from headrace.pipeline.fault_policy import Stage
from headrace.records import ConsumedBatch, Headers, JsonValues, SourceBatch, TopicPartition
from headrace.registry import PluginKind
from tests.unit.transforms.conftest import StageMaker

JVM = "org.apache.kafka.connect.transforms."
MASK = {
    "transforms": "mask,route",
    "transforms.mask.type": f"{JVM}MaskField$Value",
    "transforms.mask.fields": "card",
    "transforms.route.type": f"{JVM}RegexRouter",
    "transforms.route.regex": "(.*)",
    "transforms.route.replacement": "new-$1",
}
ROUTE = {**MASK, "transforms": "route"} | {"transforms.route.replacement": "$1-x"}
ROUTE = {name: value for name, value in ROUTE.items() if not name.startswith("transforms.mask")}


def consumed(values: Sequence[bytes | None], headers: Sequence[Headers] | None = None) -> ConsumedBatch:
    count = len(values)
    return ConsumedBatch(
        TopicPartition("t", 3),
        list(range(100, 100 + count)),
        [b"k"] * count,
        list(values),
        [1_700_000_000_000] * count,
        list(headers or [()] * count),
    )


def test_a_chain_of_a_sink_changes_values_and_topics(stage_maker: StageMaker) -> None:
    (batch,), failures = stage_maker.sink(MASK).decode(consumed([b'{"card":"4111","n":1}', b'{"n":2}']))

    assert (batch.topic, batch.topic_partition, batch.offsets) == ("new-t", TopicPartition("t", 3), [100, 101])
    assert batch.values == [{"card": "", "n": 1}, {"card": None, "n": 2}]
    assert not failures


def test_a_chain_of_a_source_changes_values_schemas_and_topics(stage_maker: StageMaker) -> None:
    stages = stage_maker.source({**MASK, "key.converter": "StringConverter", "value.converter.schemas.enable": "true"})
    described = schemas.struct({"card": schemas.STRING, "n": schemas.INT32})
    made = stages.encode(SourceBatch("t", [{"card": "4111", "n": 1}], described, keys=["k"]))

    (batch,) = made.batches
    assert (batch.topic, batch.keys) == ("new-t", [b"k"])
    assert json.loads(batch.values[0] or b"")["payload"] == {"card": "", "n": 1}


def test_a_refused_record_is_refused_alone_and_names_its_transform(stage_maker: StageMaker) -> None:
    stages = stage_maker.sink(MASK)
    batches, failures = stages.decode(consumed([b'{"card":"1"}', b"[1]", None, b'{"card":"2"}']))

    assert [offset for batch in batches for offset in batch.offsets] == [100, 103]
    assert [failure.offset for failure in failures] == [101, 102]
    assert {failure.stage for failure in failures} == {Stage.TRANSFORMATION}
    assert failures[0].executor == "headrace_transforms.mask_field.MaskFieldValue"
    assert "needs a map or a struct, and found list" in failures[0].error.message


def test_values_that_no_transform_reads_stay_text(stage_maker: StageMaker) -> None:
    texts = [b'{"a": 1.10}', None, b'{"b":2}']
    (batch,), _ = stage_maker.sink(ROUTE).decode(consumed(texts), json_texts=True)
    assert isinstance(batch.values, JsonValues)
    assert batch.values.texts == texts
    assert batch.topic == "t-x"

    (parsed,), _ = stage_maker.sink(ROUTE).decode(consumed(texts))
    assert parsed.values == [{"a": 1.1}, None, {"b": 2}]


def test_dropped_tombstones_leave_one_batch_of_texts(stage_maker: StageMaker) -> None:
    stages = stage_maker.sink(
        {
            "transforms": "drop",
            "transforms.drop.type": "Filter",
            "transforms.drop.predicate": "dead",
            "predicates": "dead",
            "predicates.dead.type": f"{JVM}predicates.RecordIsTombstone",
        }
    )
    (batch,), failures = stages.decode(consumed([b'{"a":1}', None, b'{"a":2}', None]), json_texts=True)

    assert isinstance(batch.values, JsonValues)
    assert (batch.values.texts, batch.offsets, failures) == ([b'{"a":1}', b'{"a":2}'], [100, 102], [])


def test_invalid_json_is_a_failure_of_the_converter_when_a_transform_reads_values(stage_maker: StageMaker) -> None:
    batches, failures = stage_maker.sink(MASK).decode(consumed([b'{"card":}', b'{"card":"x"}']), json_texts=True)

    assert [failure.stage for failure in failures] == [Stage.VALUE_CONVERTER]
    assert [batch.values for batch in batches] == [[{"card": ""}]]


@pytest.mark.parametrize("negate", ["false", "true"])
def test_a_negated_predicate_selects_the_other_records(stage_maker: StageMaker, negate: str) -> None:
    properties = {
        **ROUTE,
        "transforms.route.predicate": "marked",
        "transforms.route.negate": negate,
        "predicates": "marked",
        "predicates.marked.type": "HasHeaderKey",
        "predicates.marked.name": "h",
    }
    batches, _ = stage_maker.sink(properties).decode(consumed([b"1", b"2"], [[("h", None)], ()]))

    topics = [batch.topic for batch in batches for _ in batch.offsets]
    assert topics == (["t", "t-x"] if negate == "true" else ["t-x", "t"])


def test_records_of_a_sink_without_timestamp_have_none(stage_maker: StageMaker) -> None:
    stages = stage_maker.sink({"transforms": "day", "transforms.day.type": "TimestampRouter"})
    batch = consumed([b"1", b"2"])
    batch.timestamps[0] = -1
    (made,), (failure,) = stages.decode(batch)

    assert (made.topic, made.offsets) == ("t-20231114", [101])
    assert (failure.offset, failure.error.code) == (100, "transform.no_timestamp")


def test_a_timestamp_becomes_a_field_of_the_logical_type(stage_maker: StageMaker) -> None:
    transform = {
        "transforms": "ts",
        "transforms.ts.type": "InsertField$Value",
        "transforms.ts.timestamp.field": "at",
        "transforms.ts.offset.field": "offset!",
        "value.converter.schemas.enable": "true",
    }
    text = b'{"schema":{"type":"struct","fields":[{"field":"n","type":"int32","optional":false}],"optional":false},"payload":{"n":1}}'  # noqa: E501
    (batch,), _ = stage_maker.sink(transform).decode(consumed([text]))

    assert batch.values == [{"n": 1, "at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), "offset": 100}]
    assert batch.value_schema is not None
    assert batch.value_schema.by_name["offset"] == schemas.INT64
    assert batch.value_schema.by_name["at"] == schemas.TIMESTAMP_SCHEMA.as_optional()


def test_all_transforms_are_installed_with_the_names_of_kafka_connect(stage_maker: StageMaker) -> None:
    names = {alias for plugin in stage_maker.registry.plugins(PluginKind.TRANSFORM) for alias in plugin.cls.aliases}
    fields = ("ExtractField", "HoistField", "InsertField", "MaskField", "ReplaceField")
    both = (*fields, "Cast", "Flatten", "HeaderFrom", "SetSchemaMetadata", "TimestampConverter")
    single = ("DropHeaders", "Filter", "InsertHeader", "RegexRouter", "TimestampRouter", "ValueToKey")
    expected = {f"{JVM}{name}${side}" for name in both for side in ("Key", "Value")} | {JVM + name for name in single}
    assert expected <= names

    gates = {alias for plugin in stage_maker.registry.plugins(PluginKind.PREDICATE) for alias in plugin.cls.aliases}
    assert gates == {f"{JVM}predicates.{name}" for name in ("HasHeaderKey", "RecordIsTombstone", "TopicNameMatches")}


def change(op: str, before: object, after: object) -> bytes:
    return json.dumps({"op": op, "before": before, "after": after, "source": {"table": "t"}, "ts_ms": 1}).encode()


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        ({}, [{"a": 1}, {"a": 2}, None]),
        ({"drop.tombstones": "false", "delete.handling.mode": "none"}, [{"a": 1}, {"a": 2}, None, None]),
        ({"drop.tombstones": "false"}, [{"a": 1}, {"a": 2}, None]),
        (
            {"delete.handling.mode": "rewrite", "add.fields": "op,table"},
            [
                {"a": 1, "__deleted": "false", "__op": "c", "__table": "t"},
                {"a": 2, "__deleted": "false", "__op": "u", "__table": "t"},
                {"a": 2, "__deleted": "true", "__op": "d", "__table": "t"},
            ],
        ),
    ],
)
def test_change_events_without_a_schema_are_unwrapped(
    stage_maker: StageMaker, keys: dict[str, str], values: list[object]
) -> None:
    own = {f"transforms.unwrap.{name}": value for name, value in keys.items()}
    unwrap = {"transforms": "unwrap", "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState", **own}
    events = [change("c", None, {"a": 1}), change("u", {"a": 1}, {"a": 2}), change("d", {"a": 2}, None), None]
    batches, failures = stage_maker.sink(unwrap).decode(consumed(events))

    assert [value for batch in batches for value in batch.values] == values
    assert not failures


def test_other_records_than_change_events_are_not_unwrapped(stage_maker: StageMaker) -> None:
    unwrap = {"transforms": "unwrap", "transforms.unwrap.type": "ExtractNewRecordState"}
    (batch,), _ = stage_maker.sink(unwrap).decode(consumed([b'{"op":"c"}', b"[1]"]))
    assert batch.values == [{"op": "c"}, [1]]
