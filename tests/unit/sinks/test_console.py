import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from headrace import ConfigError, SinkBatch, TopicPartition
from headrace.testing.contexts import make_sink_context
from headrace_sinks.console import ConsoleSinkConnector, ConsoleSinkTask


def batch(keys: Sequence[Any], values: Sequence[Any]) -> SinkBatch:
    count = len(values)
    place = TopicPartition("orders", 3)
    return SinkBatch(place, "orders", list(range(5, 5 + count)), list(keys), list(values), [0] * count, [()] * count)


def task(**properties: str) -> ConsoleSinkTask:
    task = ConsoleSinkTask()
    task.start(make_sink_context(properties))
    return task


def test_one_line_is_printed_per_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert task().put([batch(["a", None], [{"price": Decimal("1.50"), "raw": b"\x00"}, None])]) == []
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"topic": "orders", "partition": 3, "offset": 5, "key": "a", "value": {"price": "1.50", "raw": "AA=="}},
        {"topic": "orders", "partition": 3, "offset": 6, "key": None, "value": None},
    ]


def test_values_are_not_printed_if_configured(capsys: pytest.CaptureFixture[str]) -> None:
    task(values="false").put([batch(["a"], [{"secret": 1}])])

    assert json.loads(capsys.readouterr().out) == {"topic": "orders", "partition": 3, "offset": 5, "key": "a"}


def test_a_value_without_json_form_is_refused_and_the_others_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (rejection,) = task().put([batch(["a", "b"], [object(), 1])])

    assert (rejection.offset, rejection.error.code) == (5, "console.not_json")
    assert [json.loads(line)["offset"] for line in capsys.readouterr().out.splitlines()] == [6]


def test_a_put_of_no_records_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert task().put([]) == []
    assert capsys.readouterr().out == ""


def test_unknown_keys_are_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean 'values'"):
        task(value="false")
    assert ConsoleSinkConnector().task_configs({}, 2) == [{}, {}]
