"""Ids of schemas before values and in headers, with the message of a Protobuf file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError
from headrace.converters.schema_registry.wire_format import VALUE_HEADER, WireId, WireRun, head, header, wire_runs

GUID = bytes(range(16))


def test_adjacent_records_of_one_schema_are_one_run() -> None:
    values = [head(1) + b"a", head(1) + b"b", None, None, head(2) + b"c"]
    assert list(wire_runs(values)) == [
        WireRun(0, 2, WireId(1), 5),
        WireRun(2, 4, None),
        WireRun(4, 5, WireId(2), 5),
    ]


def test_an_id_in_a_header_goes_before_one_in_the_bytes() -> None:
    values = [head(1) + b"a", b"b", b"c", None, head(1, (0,)) + b"e"]
    named = [(VALUE_HEADER, header(GUID))]
    headers = [[("other", b"")], named, [(VALUE_HEADER, b"old"), *named], named, ()]
    assert list(wire_runs(values, headers)) == [
        WireRun(0, 1, WireId(1), 5),
        WireRun(1, 3, WireId(GUID), 0),
        WireRun(3, 4, None),
        WireRun(4, 5, WireId(1), 5),
    ]


def test_the_first_message_of_a_file_is_a_single_zero() -> None:
    assert head(1, (0,)) == b"\x00\x00\x00\x00\x01\x00"
    assert head(1, (1,)) == b"\x00\x00\x00\x00\x01\x02\x02"
    assert head(1, (0, 1)) == b"\x00\x00\x00\x00\x01\x04\x00\x02"
    assert head(1, (200,)) == b"\x00\x00\x00\x00\x01\x02\x90\x03"


@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5).map(tuple), st.binary())
def test_the_message_is_read_as_it_was_written(number: int, path: tuple[int, ...], value: bytes) -> None:
    prefix = head(number, path)
    assert list(wire_runs([prefix + value], with_path=True)) == [WireRun(0, 1, WireId(number, path), len(prefix))]
    named = [[(VALUE_HEADER, header(GUID, path))]]
    assert list(wire_runs([value], named, with_path=True)) == [WireRun(0, 1, WireId(GUID, path))]


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"\x00\x00\x00\x00", b"{}", b"\x01" + GUID[:-1], b"\x02\x00\x00\x00\x01"]
)
@pytest.mark.parametrize("with_path", [False, True])
def test_bytes_in_another_format_are_refused(value: bytes, with_path: bool) -> None:
    with pytest.raises(DataError, match="not in the wire format") as caught:
        list(wire_runs([value], with_path=with_path))
    assert caught.value.code == "schema_registry.wire_format"


@pytest.mark.parametrize("path", [b"", b"\x02", b"\x80\x80\x80\x80\x80\x01", b"\x01\x00", b"\xd0\x0f" + b"\x00" * 1000])
def test_a_message_that_cannot_exist_is_refused(path: bytes) -> None:
    with pytest.raises(DataError, match="position of its message"):
        list(wire_runs([head(1) + path], with_path=True))


@given(st.lists(st.none() | st.binary(max_size=12), max_size=5), st.binary(max_size=20), st.booleans())
def test_any_bytes_are_runs_or_refused(values: list[bytes | None], in_header: bytes, with_path: bool) -> None:
    for headers in ((), [[(VALUE_HEADER, in_header)]] * len(values)):
        try:
            runs = list(wire_runs(values, headers, with_path=with_path))
        except DataError:
            continue
        assert [place for run in runs for place in range(run.start, run.end)] == list(range(len(values)))
