"""Stages: one bad record costs only itself, whatever stage it is, and everything keeps its order and its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.config import ConfigModel
from headrace.errors import DataError, RetriableError
from headrace.pipeline.fault_policy import Stage
from headrace.pipeline.stages import Stages, Step
from headrace.plugin import Converter, Decoded, Predicate, Transform
from headrace.records import ConsumedBatch, Record, SourceBatch, TopicPartition
from headrace.schema import INT64, STRING, Schema

PLACE = TopicPartition("t", 2)
VALUES = st.lists(st.sampled_from([1, "a", "bad", None, {"x": 1}]), min_size=1, max_size=12)
ALIKE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class Scripted(Transform):
    """Text goes to another topic, numbers are doubled, null is dropped, maps are refused."""

    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str]) -> None:
        pass

    def apply(self, record: Record) -> Record | None:
        match record.value:
            case None:
                return None
            case str():
                record.topic = "texts"
            case int():
                record.value *= 2
            case dict():
                raise DataError("no maps")
        return record


class IsText(Predicate):
    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str]) -> None:
        pass

    def test(self, record: Record) -> bool:
        return isinstance(record.value, str)


class ByType(Converter):
    """Its schema depends on the value, so that runs are short."""

    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        pass

    def to_bytes(self, topic: str, schema: Schema | None, values: Sequence[Any]) -> list[bytes | None]:
        raise NotImplementedError

    def from_bytes(self, topic: str, values: Sequence[bytes | None]) -> list[Decoded]:
        decoded = []
        for start, value in enumerate(values):
            plain = None if value is None else json.loads(value)
            if plain == "bad":
                raise DataError("bad bytes")
            decoded.append(Decoded(start, INT64 if isinstance(plain, int) else STRING, [plain]))
        return decoded


def consumed(keys: Sequence[Any], values: Sequence[Any]) -> ConsumedBatch:
    def wire(items: Sequence[Any]) -> list[bytes | None]:
        return [None if item is None else json.dumps(item).encode() for item in items]

    count = len(values)
    return ConsumedBatch(
        PLACE, list(range(100, 100 + count)), wire(keys), wire(values), list(range(count)), [[("h", b"x")]] * count
    )


@ALIKE
@given(VALUES, st.booleans())
def test_encoding_keeps_all_but_the_bad_ones(harness: Callable[[], Any], values: list[Any], with_keys: bool) -> None:
    keys = list(range(len(values))) if with_keys else None
    batch = SourceBatch(
        "t", values, keys=keys, timestamps=list(range(len(values))), headers=[[("h", b"")]] * len(values)
    )
    encoded, failures = harness().stages(errors_tolerance="all").encode(batch)
    good = [place for place, value in enumerate(values) if value != "bad"]
    assert [json.loads(value) if value else None for part in encoded for value in part.values] == [
        values[place] for place in good
    ]
    assert [stamp for part in encoded for stamp in part.timestamps or []] == good
    if with_keys:
        assert [json.loads(key or b"") for part in encoded for key in part.keys or []] == good
    assert all(part.headers is not None and len(part.headers) == len(part) for part in encoded)
    assert sorted(failure.offset for failure in failures) == [
        place for place, value in enumerate(values) if value == "bad"
    ]
    assert {failure.stage for failure in failures} <= {Stage.VALUE_CONVERTER}


@ALIKE
@given(VALUES, st.data())
def test_decoding_keeps_coordinates(harness: Callable[[], Any], values: list[Any], data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from([1, "k", "bad", None]), min_size=len(values), max_size=len(values)))
    made = harness().stages(errors_tolerance="all")
    stages = Stages(ByType(), ByType(), (), made.policy)
    batches, failures = stages.decode(consumed(keys, values))
    rows = [row for batch in batches for row in zip(batch.offsets, batch.keys, batch.values, strict=True)]
    assert rows == [
        (100 + place, key, value)
        for place, (key, value) in enumerate(zip(keys, values, strict=True))
        if "bad" not in (key, value)
    ]
    for batch in batches:
        assert batch.timestamps == [offset - 100 for offset in batch.offsets]
        assert {batch.value_schema} == {INT64 if isinstance(value, int) else STRING for value in batch.values}
    assert sorted(failure.offset - 100 for failure in failures) == [
        place for place, pair in enumerate(zip(keys, values, strict=True)) if "bad" in pair
    ]
    by_offset = {failure.offset - 100: failure.stage for failure in failures}
    for place, stage in by_offset.items():
        assert stage is (Stage.KEY_CONVERTER if keys[place] == "bad" else Stage.VALUE_CONVERTER)


@ALIKE
@given(VALUES)
def test_transforms_route_change_drop_and_refuse(harness: Callable[[], Any], values: list[Any]) -> None:
    stages = harness().stages([Step(Scripted())], errors_tolerance="all")
    encoded, failures = stages.encode(SourceBatch("t", list(values), keys=list(range(len(values)))))
    out = [(part.topic, json.loads(value or b"")) for part in encoded for value in part.values]
    expected: list[tuple[str, Any]] = []
    for value in values:
        if isinstance(value, int):
            expected.append(("t", value * 2))
        elif value == "a":
            expected.append(("texts", "a"))
    assert out == expected
    refused = {place: failure.stage for failure in failures for place in [failure.offset]}
    for place, value in enumerate(values):
        if isinstance(value, dict):
            assert refused.pop(place) is Stage.TRANSFORMATION
        elif value == "bad":
            assert refused.pop(place) is Stage.VALUE_CONVERTER
    assert not refused


@ALIKE
@given(VALUES)
def test_a_sinks_transforms_keep_offsets(harness: Callable[[], Any], values: list[Any]) -> None:
    stages = harness().stages([Step(Scripted())], errors_tolerance="all")
    batches, failures = stages.decode(consumed([1] * len(values), values))
    seen = {
        offset: (batch.topic, value)
        for batch in batches
        for offset, value in zip(batch.offsets, batch.values, strict=True)
    }
    for place, value in enumerate(values):
        if isinstance(value, int):
            assert seen.pop(100 + place) == ("t", value * 2)
        elif value == "a":
            assert seen.pop(100 + place) == ("texts", "a")
    assert not seen
    assert all(batch.topic_partition == PLACE for batch in batches)
    assert len(failures) == sum(isinstance(value, dict) or value == "bad" for value in values)


@pytest.mark.parametrize(("negate", "topics"), [(False, ["texts", "t"]), (True, ["t", "t"])])
def test_a_predicate_gates_its_transform(harness: Callable[[], Any], negate: bool, topics: list[str]) -> None:
    stages = harness().stages([Step(Scripted(), IsText(), negate)])
    encoded, _ = stages.encode(SourceBatch("t", ["a", 1]))
    assert [part.topic for part in encoded for _ in part.values] == topics


def test_a_retriable_stage_is_tried_within_its_time(harness: Callable[[], Any]) -> None:
    class Shaky(Scripted):
        tries = 0

        def apply(self, record: Record) -> Record | None:
            self.tries += 1
            if self.tries < 3:
                raise RetriableError("a lookup does not answer")
            return record

    made = harness()
    encoded, failures = made.stages([Step(Shaky())], errors_retry_timeout="-1").encode(SourceBatch("t", [1]))
    assert [part.values for part in encoded] == [[b"1"]]
    assert not failures
    assert made.metrics.values["total_retries"] == 2
    _, failures = made.stages([Step(Shaky())], errors_retry_timeout="0").encode(SourceBatch("t", [1]))
    assert [failure.error.message for failure in failures] == ["a lookup does not answer"]
