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
    hops_of,
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
    assert hops_of([[(HEADER, old)], (), [*other, (HEADER, new)], other, ()]) == (Hop("a", 3, 4),)
    assert hops_of([(), other]) == ()
    assert hops_of([]) == ()


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


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_a_histogram_counts_every_batch_once(ages: list[float]) -> None:
    histogram = AgeHistogram()
    for seconds in ages:
        histogram.note(seconds)
    found = histogram.snapshot()
    assert sum(found.buckets) == found.observed == len(ages)
    assert found.buckets[0] == sum(seconds <= BUCKETS[0] for seconds in ages)
    assert found.total == pytest.approx(sum(ages))
    assert found.newest == ages[-1]
    assert found.p50 in ages
    assert min(ages) <= found.p50 <= (found.p99 or 0) <= max(ages)


def test_percentiles_are_those_of_the_last_thousand_batches() -> None:
    histogram = AgeHistogram()
    for number in range(2_000):
        histogram.note(number)
    found = histogram.snapshot()
    assert (found.newest, found.p50, found.p99) == (1_999, 1_499, 1_989)
    assert found.observed == 2_000


def test_a_histogram_without_batches_has_no_percentiles() -> None:
    assert AgeHistogram().snapshot()[1:] == (0, 0.0, None, None, None)


def test_data_is_as_of_its_newest_change() -> None:
    freshness = TaskFreshness()
    freshness.note_passed(5_000, 6_000)
    freshness.note_passed(3_000, 7_000)
    found = freshness.snapshot()
    assert found.as_of == 5_000
    assert (found.age.newest, found.age.observed) == (4.0, 2)
