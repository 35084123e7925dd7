"""A chunk plan is stored and read back, covers the table for any split points, and knows which chunks are left."""

from __future__ import annotations

import string
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import SourceBatch
from headrace_sources.sql.reading.chunk_plan import Chunk, ChunkOffsets, ChunkPlan, from_json, split_at
from headrace_sources.sql.reading.split_points import even, quantiles

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.text(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.binary(),
)
CHUNKS = st.lists(
    st.builds(Chunk, st.none() | VALUES, st.none() | VALUES, st.just(()) | st.tuples(VALUES, VALUES)),
    min_size=1,
    max_size=5,
)
POSITION = {"timestamp": 1714564800123, "timestamp_nanos": 123456000, "incrementing": 7}


@given(CHUNKS)
def test_a_stored_plan_is_read_back_unchanged(chunks: list[Chunk]) -> None:
    grid = ChunkPlan(("a", "b"), chunks, "timestamp", POSITION)
    offset = grid.to_json()

    assert offset is not None
    # As Kafka Connect has it.
    assert all(value is None or isinstance(value, str | int) for value in offset.values())
    assert from_json(offset, ["a", "b"], "timestamp") == grid


@pytest.mark.parametrize("value", [1.5, timedelta(1), [1], {}])
def test_key_values_that_cannot_be_stored_exactly_are_not_stored(value: Any) -> None:
    assert ChunkPlan(("a",), [Chunk(after=(value,))], "bulk").to_json() is None


def test_numbers_beyond_64_bits_are_stored_exactly() -> None:
    grid = ChunkPlan(("a",), [Chunk(after=(2**64,))], "bulk")
    found = from_json(grid.to_json(), ["a"], "bulk")
    assert found is not None
    assert found.chunks[0].after == (Decimal(2**64),)


@pytest.mark.parametrize(
    ("changes", "key", "mode"),
    [
        ({}, ["b"], "timestamp"),
        ({}, ["a", "b"], "timestamp"),
        ({}, ["a"], "incrementing"),
        ({"chunks": "["}, ["a"], "timestamp"),
        ({"chunks": "[[1]]"}, ["a"], "timestamp"),
        ({"chunks": "[[null,null,[1,2]]]"}, ["a"], "timestamp"),
        ({"chunks": '[[null,null,[{"what":"?"}]]]'}, ["a"], "timestamp"),
        ({"behind": None}, ["a"], "timestamp"),
        ({"cut": "many"}, ["a"], "timestamp"),
        ({"key": None}, ["a"], "timestamp"),
    ],
)
def test_an_invalid_stored_plan_is_not_resumed(changes: dict[str, Any], key: list[str], mode: str) -> None:
    offset = split_at(("a",), [1, 2], "timestamp", POSITION).to_json()
    assert offset is not None
    assert from_json({**offset, **changes}, key, mode) is None


@given(st.lists(st.integers(0, 50)), st.integers(0, 50))
def test_every_value_is_in_one_chunk_for_any_split_points(cuts: list[int], value: int) -> None:
    chunks = split_at(("a",), cuts, "bulk").chunks
    there = [
        chunk
        for chunk in chunks
        if (chunk.above is None or value > chunk.above) and (chunk.up_to is None or value <= chunk.up_to)
    ]
    assert there
    if cuts == sorted(set(cuts)):
        assert len(there) == 1


def test_the_finished_share_of_a_plan_is_computed() -> None:
    grid = split_at(("a",), [100, 200, 300], "bulk")
    assert grid.share() == 0
    grid.reached(grid.chunks[1], (150,), done=False)
    assert grid.share() == pytest.approx(1 / 8)
    grid.reached(grid.chunks[0], (), done=True)
    assert grid.share() == pytest.approx(3 / 8)
    assert len(grid.chunks) == 3
    for chunk in list(grid.chunks):
        grid.reached(chunk, (1,), done=True)
    assert grid.share() == 1


@given(st.integers(-(10**20), 10**20), st.integers(0, 10**6), st.integers(1, 70))
def test_numbers_are_split_evenly(least: int, width: int, count: int) -> None:
    cuts = even(least, least + width, count)

    assert cuts == sorted(set(cuts))
    assert len(cuts) == min(count, width)
    assert all(least <= cut < least + width for cut in cuts)


@pytest.mark.parametrize("ends", [(None, None), (Decimal("1"), Decimal("NaN")), (Decimal("-Infinity"), Decimal(3))])
def test_numbers_without_bounds_are_not_split(ends: tuple[Any, Any]) -> None:
    assert even(*ends, 7) == []


@given(st.sets(st.text(string.ascii_letters, max_size=3), max_size=200), st.integers(1, 70))
def test_quantiles_are_sorted_values_without_duplicates(values: set[str], count: int) -> None:
    found = quantiles(sorted(values), count)
    assert found == sorted(set(found))
    assert len(found) <= count
    assert set(found) <= values


def test_batches_of_a_plan_carry_its_offset_and_the_last_one_the_table_offset() -> None:
    part, table = {"p": "part"}, {"p": "table"}
    grid = split_at(("a",), [10], "timestamp", POSITION)
    record = ChunkOffsets(grid, part, table, stored=False)
    first, last = SourceBatch("t", [1]), SourceBatch("t", [2])
    grid.reached(grid.chunks[0], (5,), done=False)
    record.attach(first)
    for chunk in list(grid.chunks):
        grid.reached(chunk, (20,), done=True)
    record.attach(last)

    [(partition, offset)] = first.positions()
    assert partition == part
    assert from_json(offset, ["a"], "timestamp") is not None
    assert last.positions() == [(table, POSITION), (part, None)]
    # Both wait in one queue.
    assert last.source_partition == part


def test_a_table_of_one_page_stores_no_plan() -> None:
    grid = split_at(("a",), [], "bulk")
    batch = SourceBatch("t", [1], source_partition={"table": "t"})
    record = ChunkOffsets(grid, {"p": "part"}, {"table": "t"}, stored=False)
    grid.reached(grid.chunks[0], (5,), done=True)
    record.attach(batch)

    assert not record.last_batch_needed
    assert batch.positions() == []
    assert batch.source_partition == {"table": "t"}


def test_stored_key_values_keep_value_and_type() -> None:
    after = (1, "ä", Decimal("1.50"), datetime(2024, 5, 1, 12, 0, 0, 5, tzinfo=UTC), date(1, 1, 1), time(1), b"\0\xff")
    key = tuple("abcdefg")
    found = from_json(ChunkPlan(key, [Chunk(after=after)], "bulk").to_json(), key, "bulk")
    assert found is not None
    assert list(map(repr, found.chunks[0].after)) == list(map(repr, after))
