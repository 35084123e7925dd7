"""Transforms answer as those of Kafka Connect 4.4 and Debezium 3.6; docs/transforms.md lists the differences.

The cases and the recorded answers are in tests/golden/connect_transforms.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

import pytest

from headrace import ConfigError, DataError, Predicate, Record, RecordColumns, Transform
from headrace.pipeline.transformations import Step, transform
from headrace.registry import PluginKind, Registry
from tests.golden.connect_transforms.cases import GoldenCase, compared, compared_answer, golden_cases, record_of

JVM = "org.apache.kafka.connect.transforms."
REGISTRY = Registry()

# The differences, which docs/transforms.md lists.
REFUSED_BY_VALIDATION = (
    "InsertField$Value-23",
    "RegexRouter-7",
    "RegexRouter-15",
    "ReplaceField$Value-38",
    "ReplaceField$Value-42",
    "ReplaceField$Value-43",
    "ReplaceField$Value-44",
    "TimestampRouter-6",
)
"""Configurations that Kafka Connect accepts, and then ignores or fails at each record."""
REFUSED_RECORDS = (
    "InsertField$Value-16",
    "TimestampConverter$Value-100",
    "TimestampConverter$Value-108",
    "TimestampConverter$Value-116",
)
"""Required fields without a value, and moments after the year 9999."""
CHANGED_VALUES = {
    "MaskField$Value-69": {"f32": "real 3.7"},
    "MaskField$Value-74": {"i8": 300},
    "MaskField$Value-101": {"i8": 1000},
    "Cast$Value-489": 44,
    "Cast$Value-491": 300,
    "Cast$Value-492": 300,
    "Cast$Value-493": "real 300.0",
    "Cast$Value-495": True,
    "Cast$Value-496": "300",
    "outbox-401": [1, 2],
    "outbox-402": [{"a": 1, "b": None}, {"a": None, "b": 2}],
    "dates-2--12219292800000": "Friday October AD 1582 40 3 278 3 5 AM 12 0 24 0 UTC +0000 Z",
}
"""A number without a schema has no width, lists of outbox events are lists, weeks of October 1582 are Gregorian."""


def expected_answer(case: GoldenCase) -> Any:
    if case.id in REFUSED_BY_VALIDATION:
        return {"error": "configure"}
    if case.id in REFUSED_RECORDS:
        return {"error": "apply"}
    if case.id in CHANGED_VALUES:
        answer = compared_answer(case.answer)
        unchanged = compared(record_of(case)) if "error" in answer else answer
        return unchanged | {"value": CHANGED_VALUES[case.id]}
    if case.id == "unwrap-163":  # Debezium fails with a NullPointerException
        return compared(record_of(case)) | {"value": None, "value schema": None}
    if case.id == "outbox-411":  # Debezium writes a text without a schema
        return compared_answer(case.answer) | {"value schema": "string?"}
    return compared_answer(case.answer)


@cache
def by_plugin() -> dict[str, list[GoldenCase]]:
    found: dict[str, list[GoldenCase]] = defaultdict(list)
    for case in golden_cases():
        found[case.transform or case.predicate or ""].append(case)
    return found


def configured_transform(case: GoldenCase) -> Transform:
    name = case.transform or ""
    made: Transform = REGISTRY.find(PluginKind.TRANSFORM, name if name.startswith("io.") else JVM + name).cls()
    made.configure(case.config)
    return made


def configured_predicate(case: GoldenCase) -> Predicate | None:
    if case.predicate is None:
        return None
    made: Predicate = REGISTRY.find(PluginKind.PREDICATE, f"{JVM}predicates.{case.predicate}").cls()
    made.configure(case.predicate_config)
    return made


def columns_of(case: GoldenCase, count: int) -> RecordColumns:
    """Return the record of the case, ``count`` times."""
    record = record_of(case)
    return RecordColumns(
        record.topic,
        [record.key] * count,
        [record.value] * count,
        [record.timestamp] * count,
        [record.headers] * count,
        [42] * count,
        record.key_schema,
        record.value_schema,
        record.partition,
    )


def answer_of(case: GoldenCase, count: int = 1) -> list[Any]:
    """Return what headrace makes of the record of the case, which is given ``count`` times."""
    try:
        predicate = configured_predicate(case)
        if case.transform is None:
            assert predicate is not None
            return [predicate.test(record_of(case))] * count
        step = Step(configured_transform(case), predicate, case.negate)
    except ConfigError:
        return [{"error": "configure"}] * count
    made, refused = transform([step], columns_of(case, count), split=False)
    if refused:
        assert not made
        assert all(isinstance(item.error, DataError) for item in refused)
        return [{"error": "apply"}] * len(refused)
    if not made:
        return ["DROPPED"] * count
    return [
        compared(Record(part.topic, value, part.value_schema, key, part.key_schema, timestamp, headers))
        for part in made
        for value, key, timestamp, headers in zip(part.values, part.keys, part.timestamps, part.headers, strict=True)
    ]


@pytest.mark.parametrize("plugin", by_plugin())
def test_answers_are_those_of_kafka_connect(plugin: str) -> None:
    different = {}
    for case in by_plugin()[plugin]:
        (answer,) = answer_of(case)
        if answer != expected_answer(case):
            different[case.id] = (case, answer)

    assert different == {}


@pytest.mark.parametrize("plugin", by_plugin())
def test_a_batch_of_records_is_answered_as_each_of_them(plugin: str) -> None:
    for case in by_plugin()[plugin][::5]:
        assert answer_of(case, 3) == answer_of(case) * 3
