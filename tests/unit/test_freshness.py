"""Ages of batches: the header with which they travel, the histograms, and the parts of a way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.freshness import (
    BUCKETS,
    HEADER,
    AgeHistogram,
    Held,
    Hop,
    TaskFreshness,
    decode_hops,
    encode_hops,
    ends_of,
    header_of,
    way,
    with_hop,
)

TIMES = st.integers(0, 2**53)
HOPS = st.lists(st.builds(Hop, st.text(), TIMES, TIMES), max_size=20).map(tuple)


@given(HOPS)
def test_the_header_is_json_that_others_can_read(hops: tuple[Hop, ...]) -> None:
    value = encode_hops(hops)
    assert json.loads(value) == [list(hop) for hop in hops]
    assert decode_hops(value) == hops


@given(
    st.binary() | st.sampled_from([b"[[1,2,3]]", b'[["a",1]]', b'[["a",1,null]]', b"7", b'{"a":1}', b'[["a",true,2]]'])
)
def test_other_values_of_the_header_are_no_hops(value: bytes) -> None:
    found = decode_hops(value)
    assert found == () or json.loads(value) == [list(hop) for hop in found]


def test_a_header_without_a_value_is_no_hop() -> None:
    assert decode_hops(None) == ()


def test_the_last_record_with_the_header_tells_the_hops_of_a_batch() -> None:
    old, new = encode_hops((Hop("a", 1, 2),)), encode_hops((Hop("a", 3, 4),))
    other = [("traceparent", b"00-1")]
    assert header_of([[(HEADER, old)], (), [*other, (HEADER, new)], other, ()]) == new
    assert header_of([(), other]) is None
    assert header_of([]) is None


@given(HOPS)
def test_the_ends_of_a_way_are_its_first_and_last_time(hops: tuple[Hop, ...]) -> None:
    assert ends_of(encode_hops(hops)) == ((hops[0].arrived, hops[-1].sent) if hops else None)


@given(
    st.none() | st.binary() | st.sampled_from([b"[]", b"7", b"{}", b'[["a"]]', b'[["a",1,null]]', b'[["a",true,2]]'])
)
def test_other_values_have_no_ends(value: bytes | None) -> None:
    assert ends_of(value) is None


@given(HOPS.filter(bool), st.builds(Hop, st.text(), TIMES, TIMES))
def test_a_way_keeps_its_source_and_its_last_hop(hops: tuple[Hop, ...], hop: Hop) -> None:
    longer = with_hop(hops[:16], hop)
    assert (longer[0], longer[-1]) == (hops[0], hop)
    assert len(longer) <= 16


def test_the_parts_of_a_way_add_up_to_its_time() -> None:
    hops = (Hop("orders", 1_000, 3_000), Hop("totals", 3_500, 7_500))
    assert list(way(hops, 8_000)) == [
        Held("the source orders", 2.0),
        Held("Kafka, after orders had sent the data", 0.5),
        Held("totals, before it sent the data to Kafka", 4.0),
        Held("Kafka, after totals had sent the data", 0.5),
    ]
    assert next(way((Hop("orders", 5, 4),), 3)).seconds == 0, "clocks of two machines may disagree"


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=300), st.sampled_from([1, 10]))
def test_a_histogram_counts_every_batch_once(ages: list[int], times: int) -> None:
    ages = ages * times
    histogram = AgeHistogram()
    for age in ages:
        histogram.note(5, 5 + age)
    found = histogram.snapshot()
    assert found == histogram.snapshot(), "reading changes nothing"
    assert sum(found.buckets) == found.observed == len(ages)
    uppers = [*BUCKETS, float("inf")]
    lowers = [-1.0, *BUCKETS]
    for count, lower, upper in zip(found.buckets, lowers, uppers, strict=True):
        assert count == sum(lower < age / 1000 <= upper for age in ages)
    assert found.total == pytest.approx(sum(ages) / 1000)
    assert found.newest == ages[-1] / 1000
    recent = sorted(age / 1000 for age in ages[-1_000:])
    assert (found.p50, found.p99) == tuple(recent[int(share * (len(recent) - 1))] for share in (0.5, 0.99))


def test_percentiles_are_those_of_the_last_thousand_batches() -> None:
    histogram = AgeHistogram()
    for number in range(2_500):
        histogram.note(0, number * 1_000)
    found = histogram.snapshot()
    assert (found.newest, found.p50, found.p99) == (2_499, 1_999, 2_489)
    assert found.observed == 2_500


def test_a_time_that_ends_before_it_starts_is_none() -> None:
    histogram = AgeHistogram()
    histogram.note(5, 3)
    assert histogram.snapshot().newest == 0, "clocks of two machines may disagree"


def test_a_histogram_without_batches_has_no_percentiles() -> None:
    assert AgeHistogram().snapshot()[1:] == (0, 0.0, None, None, None)


def test_data_is_as_of_its_newest_change() -> None:
    freshness = TaskFreshness()
    freshness.note_passed(5_000, 6_000)
    freshness.note_passed(3_000, 7_000)
    found = freshness.snapshot()
    assert found.as_of == 5_000
    assert (found.age.newest, found.age.observed) == (4.0, 2)


def test_hops_that_no_batch_has_passed_are_not_told() -> None:
    freshness = TaskFreshness()
    freshness.hop("poll").note(0, 1_000)
    freshness.hop("search")
    assert freshness.snapshot().hops.keys() == {"poll"}
