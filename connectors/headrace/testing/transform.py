"""The conformance suite of transforms. Inherit it and give it records; pytest checks the contract.

::

    class TestMyTransform(TransformConformance):
        transform = MyTransform

        @pytest.fixture
        def properties(self) -> dict[str, str]:
            return {"field": "price"}

        @pytest.fixture
        def records(self) -> list[Record]:
            return [Record("orders", {"price": 1}), Record("orders", None), Record("orders", {"price": "bad"})]
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from headrace.config import ConfigModel
from headrace.errors import ConfigError, DataError
from headrace.plugin import ColumnTransform, Transform
from headrace.records import Record, RecordColumns

Outcome = Sequence[Record] | str
"""What becomes of a record: records, or the message of its DataError."""


class TransformConformance:
    """The suite. A subclass sets ``transform``, and defines the fixtures that raise NotImplementedError here."""

    transform: ClassVar[type[Transform]]

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        """The transform's configuration."""
        raise NotImplementedError("define the fixture `properties`: the configuration to test the transform with")

    @pytest.fixture
    def records(self) -> list[Record]:
        """Records of every kind that the transform tells apart: usual ones, nulls, bad ones; with equal schemas."""
        raise NotImplementedError("define the fixture `records`: records to test the transform with")

    @pytest.fixture
    def made(self, properties: Mapping[str, str]) -> Transform:
        transform = self.transform()
        transform.configure(properties)
        return transform

    def test_a_batch_becomes_what_its_records_become(self, made: Transform, records: list[Record]) -> None:
        alone = [_outcome(made, copy.deepcopy(record)) for record in records]
        together = made.apply_batch(copy.deepcopy(records))
        assert len(together) == len(records), "apply_batch has to return one result for each record"
        assert [_read(result) for result in together] == alone

    def test_keys_and_values_are_not_changed_in_place(self, made: Transform, records: list[Record]) -> None:
        before = copy.deepcopy(records)
        made.apply_batch([copy.copy(record) for record in records])
        assert [(record.key, record.value) for record in records] == [(record.key, record.value) for record in before]

    def test_the_same_batch_again_becomes_the_same(self, made: Transform, records: list[Record]) -> None:
        first = [_read(result) for result in made.apply_batch(copy.deepcopy(records))]
        assert [_read(result) for result in made.apply_batch(copy.deepcopy(records))] == first

    def test_columns_become_what_their_records_become(self, made: Transform, records: list[Record]) -> None:
        if not isinstance(made, ColumnTransform):
            pytest.skip("the transform does not work on columns")
        good = [record for record in records if not isinstance(_outcome(made, copy.deepcopy(record)), str)]
        if not good:
            pytest.skip("none of the records is accepted")
        batches = made.apply_columns(_columns(copy.deepcopy(good)))
        places = [place for batch in batches for place in batch.places]
        assert places == sorted(set(places)), "each record becomes at most one, in order"
        rows = [(place, row) for batch in batches for place, row in zip(batch.places, _rows(batch), strict=True)]
        alone = [(place, outcome) for place, record in enumerate(good) for outcome in _outcome(made, record)]
        assert [(place, _parts(row)) for place, row in rows] == [
            (place, _parts(outcome)) for place, outcome in alone if isinstance(outcome, Record)
        ]

    def test_an_unknown_key_is_refused(self, properties: Mapping[str, str]) -> None:
        assert issubclass(self.transform.config_model, ConfigModel)
        with pytest.raises(ConfigError):
            self.transform().configure({**properties, "no.such.key": "x"})

    def test_closing_is_possible_after_work(self, made: Transform, records: list[Record]) -> None:
        made.apply_batch(copy.deepcopy(records))
        made.close()


def _outcome(transform: Transform, record: Record) -> Outcome:
    try:
        return _read(transform.apply(record))
    except DataError as error:
        return error.message


def _read(result: Any) -> Outcome:
    if isinstance(result, DataError):
        return result.message
    if result is None:
        return []
    return [result] if isinstance(result, Record) else list(result)


def _parts(record: Record) -> tuple[Any, ...]:
    schemas = (record.key_schema, record.value_schema)
    return record.topic, record.key, record.value, record.timestamp, list(record.headers), schemas


def _columns(records: Sequence[Record]) -> RecordColumns:
    first = records[0]
    return RecordColumns(
        first.topic,
        [record.key for record in records],
        [record.value for record in records],
        [record.timestamp for record in records],
        [record.headers for record in records],
        range(len(records)),
        first.key_schema,
        first.value_schema,
        first.partition,
    )


def _rows(batch: RecordColumns) -> list[Record]:
    columns = zip(batch.values, batch.keys, batch.timestamps, batch.headers, strict=True)
    return [
        Record(batch.topic, value, batch.value_schema, key, batch.key_schema, timestamp, headers)
        for value, key, timestamp, headers in columns
    ]
