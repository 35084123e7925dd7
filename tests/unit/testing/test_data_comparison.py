"""The comparison that delivery tests use finds every kind of difference, and none in equal data."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.interfaces import NewTopic
from headrace.records import EncodedBatch
from headrace.testing.data_comparison import (
    Comparison,
    DataEntry,
    compare_index,
    compare_topic,
    key_text,
    latest,
    same,
    settle,
    table_rows,
    topic_entries,
)

ROWS: dict[str, dict[str, Any]] = {"1": {"id": 1, "note": "a"}, "2": {"id": 2, "note": None}}


def entries(*pairs: tuple[str, Any]) -> list[DataEntry]:
    return [DataEntry(key, value, f"t-0 at offset {offset}") for offset, (key, value) in enumerate(pairs)]


def test_equal_sides_are_exact() -> None:
    found = entries(("1", ROWS["1"]), ("2", ROWS["2"]))
    for comparison in (compare_topic(ROWS, found), compare_index(ROWS, found)):
        assert comparison.exact
        assert (comparison.expected, comparison.found) == (2, 2)


@pytest.mark.parametrize("compare", [compare_topic, compare_index])
def test_every_difference_has_its_kind_key_and_location(compare: Callable[..., Comparison]) -> None:
    found = entries(("1", {"id": 1, "note": "b", "more": 0}), ("3", {"id": 3}), ("3", {"id": 3}))
    comparison = compare(ROWS, found)
    assert comparison.missing == ("2",)
    assert comparison.stale == ("1: note is 'a', found 'b'; also has more (t-0 at offset 0)",)
    assert [sentence[:2] for sentence in comparison.doubled] == ["3:"]
    assert comparison.extra == ("3: t-0 at offset 2",)
    assert not comparison.complete
    assert "1 missing, 1 stale, 1 doubled, 1 extra" in str(comparison)


def test_only_the_last_record_of_each_key_of_a_topic_is_compared() -> None:
    old, new = {"id": 1, "note": "old"}, ROWS["1"]
    assert compare_topic(ROWS, entries(("1", old), ("1", new), ("2", ROWS["2"]))).exact
    assert compare_topic(ROWS, entries(("1", new), ("1", old), ("2", ROWS["2"]))).stale
    again = compare_topic(ROWS, entries(("1", old), ("1", new), ("1", old), ("1", new), ("2", ROWS["2"])))
    assert len(again.doubled) == 2
    assert again.as_promised
    assert not again.exact


def test_a_record_without_a_value_is_a_deletion() -> None:
    assert compare_topic({}, entries(("1", ROWS["1"]), ("1", None))).exact
    assert compare_topic(ROWS, entries(("1", ROWS["1"]), ("2", ROWS["2"]), ("2", None))).missing == (
        "2: deleted by t-0 at offset 2",
    )
    assert latest(entries(("1", {"n": 1}), ("2", {"n": 2}), ("1", {"n": 3}), ("2", None))) == {"1": {"n": 3}}


def test_ignored_fields_are_not_compared() -> None:
    found = entries(("1", {"id": 1, "note": "x", "at": 5}), ("2", {"id": 2}))
    assert compare_index(ROWS, found, ignored={"note", "at"}).exact


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.floats(allow_nan=False))
TABLES = st.dictionaries(st.text(min_size=1, max_size=3), st.fixed_dictionaries({"a": VALUES, "b": VALUES}), max_size=6)


@given(TABLES, st.data())
def test_a_topic_that_ends_in_the_table_is_complete_and_any_change_of_its_end_is_found(
    table: dict[str, dict[str, Any]], data: st.DataObject
) -> None:
    history: list[tuple[str, Any]] = []
    for key, row in table.items():
        states = [*data.draw(st.lists(st.fixed_dictionaries({"a": VALUES, "b": VALUES}), max_size=3)), row]
        history += [(key, json.loads(json.dumps(state))) for state in states]
    assert compare_topic(table, entries(*history)).complete
    documents = [(key, json.loads(json.dumps(row))) for key, row in table.items()]
    assert compare_index(table, entries(*documents)).exact
    if not table:
        return
    victim = data.draw(st.sampled_from(sorted(table)))
    without = [(key, row) for key, row in documents if key != victim]
    assert len(compare_index(table, entries(*without)).missing) == 1
    assert len(compare_index(table, entries(*documents, documents[0])).doubled) == 1
    other = {**table[victim], "a": "something else"}
    spoiled = compare_topic(table, entries(*history, (victim, other)))
    assert [sentence.partition(":")[0] for sentence in spoiled.stale] == [victim.partition(":")[0]]
    rest = {key: row for key, row in table.items() if key != victim}
    assert len(compare_index(rest, entries(*documents)).extra) == 1


ZURICH = timezone(timedelta(hours=1))
MOMENT = datetime(2026, 1, 31, 13, 5, 1, 234_567, tzinfo=ZURICH)


@pytest.mark.parametrize(
    ("value", "equal", "different"),
    [
        (None, [None], [0, "", False]),
        (True, [True], [1, "true", False]),
        (1, [1], [True, "1", Decimal("1.0"), 2]),
        (0.1, [Decimal("0.1"), 0.1], [Decimal("0.2"), "0.1", True]),
        (Decimal("1.50"), [Decimal("1.5"), "1.50", b64encode(b"\x00\x96").decode()], ["1.51", True, "x", "AA=="]),
        (Decimal("-2"), [-2, b64encode(b"\xfe").decode()], [2]),
        (MOMENT, ["2026-01-31T12:05:01.234567Z", "2026-01-31T12:05:01.234567", 1769861101234], ["2026-01-31T13:05:01"]),
        (
            datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),
            ["2026-01-01T00:00:00+00:00", 1767225600000],
            ["2026-01-01T00:00:01", "x", None],
        ),
        (date(2026, 1, 1), ["2026-01-01", 20454], ["2026-01-02", 20455, None]),
        (time(1, 2, 3), ["01:02:03", 3_723_000], ["01:02:04", 3_723_001, None]),
        (timedelta(hours=1), ["01:00:00", 3_600_000], ["02:00:00"]),
        (timedelta(hours=25), [90_000_000], ["01:00:00"]),
        (b"\x00\xff", ["AP8="], ["AP4=", "\x00\xff", None]),
        (memoryview(b"a"), ["YQ=="], ["YQ"]),
        (UUID(int=1), ["00000000-0000-0000-0000-000000000001"], ["1"]),
        ({"a": [1]}, [{"a": [1]}, '{"a":[1]}'], [{"a": [2]}, "x"]),
        ('{"a": 1}', ['{"a": 1}', {"a": 1}], ['{"a":1}', {"a": 2}]),
        ("a", ["a"], ["b", None, 1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_equal_in_each_exact_form(value: Any, equal: list[Any], different: list[Any]) -> None:
    assert [form for form in equal if not same(value, form)] == []
    assert [form for form in different if same(value, form)] == []


def test_keys_have_the_text_of_the_sinks_document_ids() -> None:
    assert key_text(5) == "5"
    assert key_text("a+b") == "a+b"
    assert key_text("a+b", 1) == "a\\+b+1"
    assert key_text("a", "b+1") != key_text("a+b", 1)


def test_rows_are_read_from_any_connection_and_must_not_share_a_key() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a int, b text)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, "x"), (2, "x")])
    assert table_rows(connection, "SELECT * FROM t", key="a")["2"] == {"a": 2, "b": "x"}
    assert set(table_rows(connection, "SELECT * FROM t", key=["a", "b"])) == {"1+x", "2+x"}
    with pytest.raises(ValueError, match="2 rows have only 1 keys"):
        table_rows(connection, "SELECT * FROM t", key="b")
    connection.close()


def test_a_topic_is_read_to_its_end_in_both_forms_of_json() -> None:
    kafka_clients = InMemoryKafka()
    admin = kafka_clients.admin({})
    admin.create_topics([NewTopic("t", 3)])
    producer = kafka_clients.producer({})
    enveloped = json.dumps({"schema": {"type": "int32"}, "payload": 7}).encode()
    producer.send(EncodedBatch("t", [b'{"n": 1.10}', None, b'{"n": 3}'], [b'{"id": 1}', b'"two"', enveloped]))
    assert producer.flush(5)
    found = {entry.key: entry.value for entry in topic_entries(kafka_clients, "t")}
    assert found == {"1": {"n": Decimal("1.10")}, "two": None, "7": {"n": 3}}
    assert topic_entries(kafka_clients, "no-such-topic") == []


def test_settle_waits_for_equality_and_reports_the_differences_after_its_timeout() -> None:
    looks = iter([[Comparison("index", 1, 0, missing=("1",))], [Comparison("index", 1, 1)]])
    assert settle(lambda: next(looks), 10)[0].exact
    with pytest.raises(AssertionError, match=r"index: 1 rows, 0 found: 1 missing\n  missing: 1"):
        settle(lambda: [Comparison("index", 1, 0, missing=("1",))], 0)


def test_names_of_time_zones_are_not_compared() -> None:
    assert same(MOMENT, MOMENT.astimezone(UTC).isoformat())
