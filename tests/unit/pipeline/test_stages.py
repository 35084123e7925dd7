"""In every stage a bad record is refused alone, and all others keep their order and offsets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.config import ConfigModel
from headrace.errors import DataError, RetriableError, TaskError
from headrace.pipeline.fault_policy import Stage
from headrace.pipeline.stages import Stages
from headrace.pipeline.transformations import Step
from headrace.plugin import Converter, Decoded, Predicate, Transform, TransformResult
from headrace.records import BatchHeaders, ConsumedBatch, Headers, Record, SourceBatch, TopicPartition
from headrace.schema import INT64, STRING, Schema
from tests.unit.pipeline.plain_converter import PlainConverter

PLACE = TopicPartition("t", 2)
VALUES = st.lists(st.sampled_from([1, "a", "bad", None, {"x": 1}]), min_size=1, max_size=12)
ALIKE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class ScriptedTransform(Transform):
    """Sends text to another topic, doubles numbers, drops null, and refuses maps."""

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


class TextPredicate(Predicate):
    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str]) -> None:
        pass

    def test(self, record: Record) -> bool:
        return isinstance(record.value, str)


class TypeConverter(Converter):
    """A converter whose schema depends on the value, so that runs are short."""

    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        pass

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders
    ) -> list[bytes | None]:
        raise NotImplementedError

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers]) -> list[Decoded]:
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
def test_encoding_keeps_all_valid_records(harness: Callable[[], Any], values: list[Any], with_keys: bool) -> None:
    keys = list(range(len(values))) if with_keys else None
    batch = SourceBatch(
        "t", values, keys=keys, timestamps=list(range(len(values))), headers=[[("h", b"")]] * len(values)
    )
    encoded, failures, *_ = harness().stages(errors_tolerance="all").encode(batch)
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
def test_decoding_keeps_topics_partitions_and_offsets(
    harness: Callable[[], Any], values: list[Any], data: st.DataObject
) -> None:
    keys = data.draw(st.lists(st.sampled_from([1, "k", "bad", None]), min_size=len(values), max_size=len(values)))
    made = harness().stages(errors_tolerance="all")
    stages = Stages(TypeConverter(), TypeConverter(), (), made.policy)
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
def test_transforms_route_change_drop_and_refuse_records(harness: Callable[[], Any], values: list[Any]) -> None:
    stages = harness().stages([Step(ScriptedTransform())], errors_tolerance="all")
    encoded, failures, *_ = stages.encode(SourceBatch("t", list(values), keys=list(range(len(values)))))
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
    stages = harness().stages([Step(ScriptedTransform())], errors_tolerance="all")
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
def test_a_predicate_selects_the_records_of_its_transform(
    harness: Callable[[], Any], negate: bool, topics: list[str]
) -> None:
    stages = harness().stages([Step(ScriptedTransform(), TextPredicate(), negate)])
    encoded, *_ = stages.encode(SourceBatch("t", ["a", 1]))
    assert [part.topic for part in encoded for _ in part.values] == topics


class SplittingTransform(Transform):
    """Text becomes one record for each letter; other values stay."""

    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str]) -> None:
        pass

    def apply(self, record: Record) -> Record | Sequence[Record] | None:
        if not isinstance(record.value, str):
            return record
        return [Record(record.topic, letter, key=record.key, headers=record.headers) for letter in record.value]


@ALIKE
@given(st.lists(st.one_of(st.integers(0, 9), st.text("xyz", max_size=3)), max_size=8))
def test_a_transform_makes_any_number_of_records_of_one(harness: Callable[[], Any], values: list[Any]) -> None:
    encoded, failures, *_ = harness().stages([Step(SplittingTransform())]).encode(SourceBatch("t", values))

    expected = [part for value in values for part in ([value] if isinstance(value, int) else value)]
    assert [json.loads(value or b"") for part in encoded for value in part.values] == expected
    assert not failures


def test_a_sink_that_knows_records_by_offset_gets_no_two_records_of_one_offset(harness: Callable[[], Any]) -> None:
    stages = harness().stages([Step(SplittingTransform())], errors_tolerance="all")

    with pytest.raises(TaskError, match="makes 2 records of one") as raised:
        stages.decode(consumed([1, 2], ["x", "yz"]))
    assert raised.value.code == "transform.cannot_split"
    (batch,), _ = stages.decode(consumed([1, 2], ["x", "yz"]), split_records=True)
    assert list(zip(batch.offsets, batch.values, strict=True)) == [(100, "x"), (101, "y"), (101, "z")]


class BatchTransform(ScriptedTransform):
    """Records the sizes of its batches; refuses the value zero."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def apply_batch(self, records: Sequence[Record]) -> Sequence[TransformResult]:
        self.sizes.append(len(records))
        return [DataError("zero") if record.value == 0 else record for record in records]


def test_a_transform_with_a_batch_form_gets_whole_batches(harness: Callable[[], Any]) -> None:
    batched = BatchTransform()
    stages = harness().stages([Step(batched), Step(batched, TextPredicate(), negate=True)], errors_tolerance="all")
    encoded, failures, *_ = stages.encode(SourceBatch("t", [1, "a", 0, 2]))

    assert batched.sizes == [4, 2]
    assert [json.loads(value or b"") for part in encoded for value in part.values] == [1, "a", 2]
    assert [(failure.offset, failure.stage) for failure in failures] == [(2, Stage.TRANSFORMATION)]


def test_a_transform_that_returns_too_few_results_fails_the_task(harness: Callable[[], Any]) -> None:
    class IncompleteTransform(ScriptedTransform):
        def apply_batch(self, records: Sequence[Record]) -> Sequence[TransformResult]:
            return records[1:]

    with pytest.raises(TaskError, match="returned 1 results for 2 records"):
        harness().stages([Step(IncompleteTransform())], errors_tolerance="all").encode(SourceBatch("t", [1, 2]))


class HeaderConverter(PlainConverter):
    """Adds a header to every record, and decodes to the number of its record's headers."""

    def __init__(self, name: str) -> None:
        self.name = name

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders
    ) -> list[bytes | None]:
        for row in range(len(values)):
            headers.add(row, self.name, str(len(headers[row])).encode())
        return super().to_bytes(topic, schema, values, headers)

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers]) -> list[Decoded]:
        super().from_bytes(topic, values, headers)
        return [Decoded(0, None, [len(own) for own in headers])]


@ALIKE
@given(VALUES, st.booleans())
def test_converters_add_headers_to_the_records_they_encode(
    harness: Callable[[], Any], values: list[Any], have_headers: bool
) -> None:
    given_headers: list[Headers] | None = [[("h", b"0")]] * len(values) if have_headers else None
    before = list(given_headers or ())
    stages = Stages(HeaderConverter("k"), HeaderConverter("v"), (), harness().stages(errors_tolerance="all").policy)
    batch = SourceBatch("t", values, keys=[1] * len(values), headers=given_headers)
    encoded, failures, *_ = stages.encode(batch)

    first = [("h", b"0")] if have_headers else []
    expected = [*first, ("k", str(len(first)).encode()), ("v", str(len(first) + 1).encode())]
    assert [list(own) for part in encoded for own in part.headers or ()] == [expected] * (len(values) - len(failures))
    assert list(batch.headers or ()) == before


@ALIKE
@given(VALUES)
def test_converters_see_the_headers_of_the_records_they_decode(harness: Callable[[], Any], values: list[Any]) -> None:
    stages = Stages(PlainConverter(), HeaderConverter("v"), (), harness().stages(errors_tolerance="all").policy)
    whole = consumed([1] * len(values), values)
    whole.headers = [[("h", None)] * row for row in range(len(values))]
    batches, failures = stages.decode(whole)

    found = {offset: count for batch in batches for offset, count in zip(batch.offsets, batch.values, strict=True)}
    assert found == {100 + row: row for row, value in enumerate(values) if value != "bad"}
    assert len(failures) == values.count("bad")


def test_a_retriable_error_is_raised_and_refuses_no_record(harness: Callable[[], Any]) -> None:
    class UnavailableTransform(ScriptedTransform):
        def apply(self, record: Record) -> Record | None:
            raise RetriableError("a lookup does not answer")

    class UnavailableConverter(PlainConverter):
        def to_bytes(self, *_: Any) -> list[bytes | None]:
            raise RetriableError("the registry does not answer")

        def from_bytes(self, *_: Any) -> list[Decoded]:
            raise RetriableError("the registry does not answer")

    policy = harness().stages(errors_tolerance="all").policy
    plain = PlainConverter()
    for stages in (
        Stages(plain, plain, [Step(UnavailableTransform())], policy),
        Stages(UnavailableConverter(), plain, (), policy),
        Stages(plain, UnavailableConverter(), (), policy),
    ):
        with pytest.raises(RetriableError, match="does not answer"):
            stages.encode(SourceBatch("t", [1], keys=[1]))
        with pytest.raises(RetriableError, match="does not answer"):
            stages.decode(consumed([1], [1]))


def test_closing_closes_every_plugin_once_even_when_one_fails(harness: Callable[[], Any]) -> None:
    closed: list[object] = []

    class ClosingRecorder:
        def close(self) -> None:
            closed.append(self)
            if len(closed) == 1:
                raise RuntimeError("a bug")

    class ClosingConverter(ClosingRecorder, PlainConverter): ...

    class ClosingTransform(ClosingRecorder, ScriptedTransform): ...

    class ClosingPredicate(ClosingRecorder, TextPredicate): ...

    gate, transforms = ClosingPredicate(), [ClosingTransform(), ClosingTransform()]
    keys, values = ClosingConverter(), ClosingConverter()
    steps = [Step(transforms[0], gate), Step(transforms[1], gate, negate=True)]
    with pytest.raises(RuntimeError, match="a bug"):
        Stages(keys, values, steps, harness().stages().policy).close()

    assert len(closed) == 5
    assert {id(item) for item in closed} == {id(item) for item in (gate, *transforms, keys, values)}
