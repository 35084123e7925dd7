"""Logs of impressions: what is read, and the messages about what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace import ConfigError
from headrace_streams.experiments.impression_log import ImpressionLog, of_topics, read_files, variable, with_outcome


def log_of(values: list[object]) -> ImpressionLog:
    return ImpressionLog([{"v": value, "n": 1} for value in values], "log")


def test_json_lines_and_csv_have_the_same_columns(tmp_path: Path) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text('{"country": "de", "converted": true}\n\n{"country": null, "converted": false}\n')
    table.write_text("country,converted\nde,1\n,0\n")
    for path in (lines, table):
        log = read_files([path])
        assert log.columns == ["country", "converted"]
        assert log.outcomes("converted") == [True, False]
        found = variable(log, "country")
        assert (found.missing, [found.labels[code] for code in found.codes]) == (1, ["de", "missing"])


def test_columns_of_nested_objects_have_dotted_names() -> None:
    log = ImpressionLog([{"user": {"country": "de"}, "a.b": 1}], "log")
    assert log.columns == ["user.country", "a.b"]
    assert log.values("user.country") == ["de"]
    assert log.values("a.b") == [1]


def test_records_of_topics_may_have_an_envelope_and_tombstones_are_left_out() -> None:
    log = of_topics([b'{"a": 1}', None, b'{"schema": {}, "payload": {"a": 2}}'], ["outcomes"])
    assert log.values("a") == [1, 2]


def test_impressions_without_an_outcome_yet_are_left_out_and_counted() -> None:
    log, outcome, unknown = with_outcome(log_of([True, None, 0]), "v")
    assert (len(log), outcome.tolist(), unknown) == (2, [1.0, 0.0], 1)


def test_many_different_numbers_become_ranges_of_equally_many_impressions() -> None:
    found = variable(log_of([*range(60), None]), "v")
    assert found.kind == "number"
    assert found.labels[0] == "up to 9"
    assert found.labels[-2:] == ("over 49", "missing")
    assert [found.codes.tolist().count(code) for code in range(7)] == [10, 10, 10, 10, 10, 10, 1]


def test_few_different_numbers_and_booleans_are_categories() -> None:
    assert variable(log_of([3, 1, 3]), "v").labels == ("1", "3")
    assert variable(log_of([True, False]), "v").labels == ("false", "true")


def test_rare_values_become_one_level() -> None:
    found = variable(log_of([f"s{number % 300}" for number in range(500)]), "v")
    assert (len(found.labels), found.distinct) == (201, 300)
    assert found.labels[-1] == "other"
    assert found.codes.tolist().count(200) == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": \n', r"a\.jsonl:2 is not JSON"),
        ("[1]\n", r"a\.jsonl:1 is not a JSON object"),
        ("", r"a\.jsonl has no records"),
        ("\x80", r"a\.jsonl is not readable"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        read_files([path])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file") as caught:
        read_files([tmp_path / "a.jsonl"])
    assert "--worker" in caught.value.hint


@pytest.mark.parametrize("value", [2, "yes", 0.5, [1], {"a": 1}])
def test_an_outcome_that_is_neither_true_nor_false_is_refused_with_its_record(value: object) -> None:
    with pytest.raises(ConfigError, match="log: record 2: v must be true, false, 1 or 0"):
        log_of([True, value]).outcomes("v")


def test_the_result_of_a_left_join_is_an_outcome() -> None:
    """An object is a conversion; null is none, because the join has waited for it."""
    assert log_of([{"at": 1}, None, {}]).outcomes("v") == [True, False, True]


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no column 'convertd'") as caught:
        ImpressionLog([{"converted": True}], "log").values("convertd")
    assert "converted" in caught.value.hint


def test_a_number_that_is_missing_is_refused_with_its_record() -> None:
    with pytest.raises(ConfigError, match="record 3: v must be a number, got null"):
        log_of([1, 2.5, None]).numbers("v")
