"""The codec of the group protocol writes and reads the bytes of JVM workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.groups.protocol import (
    CONNECTOR,
    GroupAssignment,
    GroupProtocolError,
    Unit,
    WorkerState,
    WorkerTraits,
    decode_assignment,
    decode_state,
    encode_assignment,
    encode_state,
    holding,
    offered,
)

SRC, SRC_0, SNK_0 = Unit("src", CONNECTOR), Unit("src", 0), Unit("snk", 0)
URL = "http://a:8083/"
# Written by hand from the schemas in Connect's IncrementalCooperativeConnectProtocol.
ASSIGNMENT = bytes.fromhex(
    "0002 0000 0002 6d31 000e" + URL.encode().hex() + "0000000000000007"
    "00000001 0003 737263 00000002 ffffffff 00000000"
    "00000001 0003 736e6b 00000001 00000000"
    "00007530"
)
DECODED = GroupAssignment(2, 0, "m1", URL, 7, (SRC, SRC_0), (SNK_0,), 30_000)

NAMES = st.text(min_size=1, max_size=8)
UNITS = st.lists(st.builds(Unit, NAMES, st.integers(-1, 9)), unique=True, max_size=6).map(
    lambda units: tuple(sorted(units))
)
ASSIGNMENTS = st.builds(
    GroupAssignment,
    st.just(2),
    st.sampled_from([0, 1]),
    st.none() | NAMES,
    st.none() | NAMES,
    st.integers(-1, 2**40),
    UNITS,
    UNITS,
    st.integers(0, 10**6),
)
STATES = st.builds(
    WorkerState, NAMES, st.integers(-1, 2**40), st.none() | ASSIGNMENTS, st.none() | st.builds(WorkerTraits)
)


def test_an_assignment_has_the_bytes_of_the_jvm() -> None:
    assert encode_assignment(DECODED, 2) == ASSIGNMENT
    assert decode_assignment(ASSIGNMENT) == DECODED


def test_metadata_has_the_bytes_of_the_jvm() -> None:
    head = bytes.fromhex("0002 000e") + URL.encode() + bytes.fromhex("0000000000000007")
    assert encode_state(WorkerState(URL, 7), 2) == head + bytes.fromhex("ffffffff")
    held = WorkerState(URL, 7, DECODED)
    assert encode_state(held, 2) == head + len(ASSIGNMENT).to_bytes(4, "big") + ASSIGNMENT
    assert decode_state(encode_state(held, 2)) == held


def test_the_eager_protocol_has_neither_work_in_its_metadata_nor_revocations() -> None:
    assert encode_state(WorkerState(URL, 7, DECODED), 0) == b"\0\0\0\x0e" + URL.encode() + (7).to_bytes(8, "big")
    decoded = decode_assignment(encode_assignment(DECODED, 0))
    assert (decoded.assigned, decoded.revoked, decoded.delay) == ((SRC, SRC_0), (), 0)


def test_fields_at_the_end_may_be_missing() -> None:
    assert decode_assignment(ASSIGNMENT[:-4]).delay == 0
    without_revoked = decode_assignment(ASSIGNMENT[: ASSIGNMENT.index(b"\0\0\0\x01\0\x03snk")])
    assert (without_revoked.assigned, without_revoked.revoked) == ((SRC, SRC_0), ())


@given(ASSIGNMENTS, st.sampled_from([1, 2]))
def test_an_assignment_is_read_back_as_it_was_written(assignment: GroupAssignment, version: int) -> None:
    decoded = decode_assignment(encode_assignment(assignment, version))
    assert set(decoded.assigned) == set(assignment.assigned)
    assert set(decoded.revoked) == set(assignment.revoked)
    assert (decoded.leader, decoded.leader_url) == (assignment.leader, assignment.leader_url)
    assert (decoded.config_offset, decoded.delay) == (assignment.config_offset, assignment.delay)


@given(STATES)
def test_metadata_is_read_back_as_it_was_written(state: WorkerState) -> None:
    decoded = decode_state(encode_state(state, 2))
    assert (decoded.url, decoded.config_offset, decoded.traits) == (state.url, state.config_offset, state.traits)
    assert (decoded.assignment is None) == (state.assignment is None)


@given(ASSIGNMENTS, st.data())
def test_incomplete_bytes_are_refused_or_end_at_an_optional_field(
    assignment: GroupAssignment, data: st.DataObject
) -> None:
    whole = encode_assignment(assignment, 2)
    part = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        decoded = decode_assignment(part)
    except GroupProtocolError:
        return
    assert set(decoded.assigned) in ({*assignment.assigned}, set())


def test_other_bytes_are_refused_with_what_to_do() -> None:
    with pytest.raises(GroupProtocolError, match=r"stop the program that uses the same group\.id"):
        decode_state(b"\0\1\0\x7fnot this protocol")


@pytest.mark.parametrize("extra", [b"\0\x01", b"{}", b'{"other": 1}', b"[1]"])
def test_other_bytes_after_the_metadata_are_not_traits(extra: bytes) -> None:
    assert decode_state(encode_state(WorkerState(URL, 7), 2) + extra).traits is None


def test_a_leaving_worker_says_so() -> None:
    state = WorkerState(URL, 7, None, WorkerTraits(leaving=True))
    assert decode_state(encode_state(state, 2)).traits == WorkerTraits(leaving=True)


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        ("sessioned", ["sessioned", "compatible", "default"]),
        ("compatible", ["compatible", "default"]),
        ("eager", ["default"]),
    ],
)
def test_older_protocols_are_offered_too(protocol: str, names: list[str]) -> None:
    state = WorkerState(URL, 7, DECODED)
    protocols = offered(state, protocol)
    assert [name for name, _ in protocols] == names
    assert protocols[-1] == ("default", encode_state(state, 0))


def test_a_worker_reports_what_it_has_with_the_leader_of_its_last_assignment() -> None:
    held = {SRC, SRC_0, Unit("snk", 1)}
    assert holding(DECODED, held) == GroupAssignment(2, 0, "m1", URL, 7, (Unit("snk", 1), SRC, SRC_0), (), 0)
