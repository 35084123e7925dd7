"""JSON texts pass through converters and batches unchanged; a value that is read is what a parser returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import ConfigModel, DataError, JsonValues, Record, TopicPartition, Transform
from headrace.converters.json import JsonConverter
from headrace.pipeline.fault_policy import Stage
from headrace.pipeline.stages import Stages
from headrace.pipeline.transformations import Step
from headrace.records import ConsumedBatch, are_json_objects, which_are_json_objects

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TEXTS = st.one_of(
    st.none(),
    st.just(b""),
    JSON.map(orjson.dumps),
    JSON.map(lambda value: orjson.dumps(value, option=orjson.OPT_INDENT_2)),
)


def plain() -> JsonConverter:
    converter = JsonConverter()
    converter.configure({"schemas.enable": "false"}, is_key=False)
    return converter


def values_of(texts: Sequence[bytes | None]) -> list[Any]:
    return [value for run in plain().from_bytes("t", texts) for value in run.values]


@given(st.lists(TEXTS, max_size=4))
def test_texts_and_parsed_values_are_equal(texts: list[bytes | None]) -> None:
    assert values_of(texts) == [orjson.loads(text) if text else None for text in texts]


@given(st.lists(TEXTS, max_size=4))
def test_only_objects_on_one_line_stay_text_and_are_unchanged(texts: list[bytes | None]) -> None:
    for run in plain().from_bytes("t", texts):
        if isinstance(run.values, JsonValues):
            assert list(run.values.texts) == [text or None for text in texts[run.start : run.start + len(run.values)]]
            for text in filter(None, run.values.texts):
                assert isinstance(orjson.loads(text), dict)
                assert b"\n" not in text


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=2).map(orjson.dumps), max_size=3))
def test_objects_are_passed_back_byte_for_byte(texts: list[bytes]) -> None:
    converter = plain()
    written = [text for run in converter.from_bytes("t", texts) for text in converter.to_bytes("t", None, run.values)]
    assert written == texts


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        ([], True),
        ([None, b""], True),
        ([b"{}", None, b'{"a":1}'], True),
        ([b'{"a":1}', b"[1]"], False),
        ([b'{"a":1}\n'], False),
        ([b'{"a":\n1}'], False),
        ([b' {"a":1}'], False),
        ([b'{"a":1 /* Elasticsearch would store this */}'], False),
        ([b'{"a":"2 * 3 // 4"}'], True),
    ],
)
def test_only_json_objects_on_one_line_may_stay_unparsed(texts: list[bytes | None], answer: bool) -> None:
    assert are_json_objects(texts) is answer


ODD = st.sampled_from(
    [None, b"", b"{}", b'{"a":1}', b"[1]", b'{"a":\n1}', b'{"a":1 /* x */}', b'{"a":"*"}', b" {}", b"{"]
)


@given(st.lists(ODD, max_size=12))
def test_each_text_of_a_mixed_batch_is_classified_separately(texts: list[bytes | None]) -> None:
    assert which_are_json_objects(texts) == [are_json_objects([text]) for text in texts]


def test_invalid_json_is_an_error_when_a_value_is_read() -> None:
    (run,) = plain().from_bytes("t", [b'{"a":1}', b'{"a":}'])
    assert isinstance(run.values, JsonValues)
    assert run.values[:1] == [{"a": 1}]
    with pytest.raises(DataError, match="not readable as JSON"):
        run.values[0]


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("transforms", [True, False])
def test_texts_are_passed_only_to_tasks_that_accept_them_and_only_without_transforms(
    harness: Callable[[], Any], wanted: bool, transforms: bool
) -> None:
    policy = harness().stages(errors_tolerance="all").policy
    stages = Stages(plain(), plain(), [Step(IdentityTransform())] if transforms else [], policy)
    (batch,), failures = stages.decode(consumed([b'{"a":1}', b'{"a":2}']), json_texts=wanted)

    assert isinstance(batch.values, JsonValues) is (wanted and not transforms)
    assert list(batch.values) == [{"a": 1}, {"a": 2}]
    assert failures == []


@pytest.mark.parametrize("transforms", [True, False])
def test_invalid_json_fails_in_the_converter_when_values_are_parsed(
    harness: Callable[[], Any], transforms: bool
) -> None:
    policy = harness().stages(errors_tolerance="all").policy
    stages = Stages(plain(), plain(), [Step(IdentityTransform())] if transforms else [], policy)
    batches, (failure,) = stages.decode(consumed([b'{"a":1}', b'{"a":}', b'{"a":2}']), json_texts=transforms)

    assert (failure.stage, failure.offset) == (Stage.VALUE_CONVERTER, 1)
    assert [value for batch in batches for value in batch.values] == [{"a": 1}, {"a": 2}]


def test_a_bad_value_leaves_the_other_values_as_texts(harness: Callable[[], Any]) -> None:
    policy = harness().stages(errors_tolerance="all").policy
    batches, failures = Stages(plain(), plain(), [], policy).decode(
        consumed([b'{"a":1}', b'{"a":2}', b"no JSON", b'{"a":3}', b'{"a":4}']), json_texts=True
    )
    assert [failure.offset for failure in failures] == [2]
    assert [batch.offsets for batch in batches] == [[0, 1], [3, 4]]
    assert all(isinstance(batch.values, JsonValues) for batch in batches)


class IdentityTransform(Transform):
    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str]) -> None:
        pass

    def apply(self, record: Record) -> Record | None:
        assert isinstance(record.value, dict)
        return record


def consumed(values: list[bytes | None]) -> ConsumedBatch:
    count = len(values)
    return ConsumedBatch(TopicPartition("t", 0), list(range(count)), [None] * count, values, [0] * count, [()] * count)
