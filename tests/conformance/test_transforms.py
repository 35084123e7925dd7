"""The conformance suite of transforms, run for transforms with and without columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace import ConfigModel, DataError, Record, Transform
from headrace.testing.transform import TransformConformance
from headrace_streams.sql_transform import SqlTransform
from headrace_transforms.cast import CastValue
from headrace_transforms.debezium.event_router import EventRouter
from headrace_transforms.debezium.extract_new_record_state import ExtractNewRecordState
from headrace_transforms.filter import FilterTransform


class TestCast(TransformConformance):
    transform = CastValue

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        return {"spec": "n:int8"}

    @pytest.fixture
    def records(self) -> list[Record]:
        return [Record("t", value) for value in ({"n": 300}, None, {"n": "x"}, [1], {}, {"n": "5"})]


class TestFilter(TransformConformance):
    transform = FilterTransform

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        return {}

    @pytest.fixture
    def records(self) -> list[Record]:
        return [Record("t", 1), Record("t", None)]


class TestExtractNewRecordState(TransformConformance):
    transform = ExtractNewRecordState

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        return {"add.headers": "op", "delete.tombstone.handling.mode": "rewrite-with-tombstone"}

    @pytest.fixture
    def records(self) -> list[Record]:
        event = {"before": {"a": 1}, "after": {"a": 2}, "source": {}, "op": "u", "ts_ms": 5}
        deleted = {**event, "after": None, "op": "d"}
        return [Record("t", value, key="k", headers=[("x", b"y")]) for value in (event, deleted, None, "text", event)]


class TestEventRouter(TransformConformance):
    transform = EventRouter

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        return {"table.expand.json.payload": "true"}

    @pytest.fixture
    def records(self) -> list[Record]:
        row = {"id": "1", "aggregatetype": "order", "aggregateid": "2", "type": "x", "payload": '{"a":1}'}
        event = {"before": None, "after": row, "source": {}, "op": "c", "ts_ms": 5}
        return [Record("t", value) for value in (event, {**event, "op": "d"}, None, {**event, "after": {}}, 5)]


class TestSql(TransformConformance):
    transform = SqlTransform

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        return {"select.total": "price * 2", "where": "price > 1"}

    @pytest.fixture
    def records(self) -> list[Record]:
        values: list[Any] = [{"price": 2}, {"price": 1}, None, {"price": "x"}, [], {"price": 3}]
        return [Record("t", value) for value in values]


class ForgetfulTransform(Transform):
    """Numbers records, changes values in place, and loses the last record of a batch."""

    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str]) -> None:
        self.count = 0

    def apply(self, record: Record) -> Record:
        if record.value is None:
            raise DataError("null")
        self.count += 1
        record.value["n"] = self.count
        return record


@pytest.mark.parametrize(
    "promise",
    [
        "test_keys_and_values_are_not_changed_in_place",
        "test_the_same_batch_again_becomes_the_same",
        "test_a_batch_becomes_what_its_records_become",
    ],
)
def test_the_suite_finds_broken_promises(promise: str) -> None:
    transform = ForgetfulTransform()
    transform.configure({})
    records = [Record("t", {"a": 1}), Record("t", {"a": 2})]
    with pytest.raises(AssertionError):
        getattr(TransformConformance(), promise)(transform, records)
