"""What the status says about problems: subject, state, reason, next step."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.cli import status_view
from headrace.errors import HeadraceError
from headrace.states import State

RUNNING = {"state": "RUNNING", "worker_id": "w:8083", "since": 1}
TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in poll\n    read()\nValueError: password wrong\n'
FAILED = {"state": "FAILED", "worker_id": "w:8083", "trace": TRACE}


def status(name: str, connector: dict[str, Any], *tasks: dict[str, Any]) -> dict[str, Any]:
    numbered = [{"id": number, **task} for number, task in enumerate(tasks)]
    return {"name": name, "connector": connector, "tasks": numbered, "type": "source"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (status("a", FAILED), [("a", "FAILED", "restart a")]),
        (
            status("a", FAILED, FAILED),
            [("a", "FAILED", "restart a --include-tasks --only-failed"), ("a-0", "FAILED", "restart a --task 0")],
        ),
        (status("a b", RUNNING, FAILED), [("a b-0", "FAILED", "restart 'a b' --task 0")]),
        (status("a", {"state": "PAUSED"}, {"state": "PAUSED"}), [("a", "PAUSED", "resume a")]),
        (status("a", {"state": "PAUSED"}, RUNNING), [("a", "PAUSED", "resume a")]),
        (status("a", {"state": "STOPPED"}), [("a", "STOPPED", "resume a")]),
        (status("a", RUNNING, {"state": "UNASSIGNED"}), [("a-0", "UNASSIGNED", "")]),
        (status("a", RUNNING, RUNNING), []),
        (
            status("a", RUNNING, FAILED, RUNNING, FAILED),
            [("a-0, a-2", "FAILED", "restart a --include-tasks --only-failed")],
        ),
        (
            status("a", RUNNING, *[{**RUNNING, "reason": "slow", "condition": "RETRYING"}] * 9),
            [("9 tasks (a-0 … a-8)", "RETRYING", "")],
        ),
    ],
)
def test_notes_name_the_next_step(body: Any, expected: Any) -> None:
    notes = status_view.notes(status_view.parse_status(body))
    assert [(note.subject, note.what, note.next_step) for note in notes] == expected


def test_tasks_with_different_problems_have_notes_of_their_own() -> None:
    other = {**FAILED, "trace": TRACE.replace("password wrong", "disk full")}
    notes = list(status_view.notes(status_view.parse_status(status("a", RUNNING, {**FAILED, "trace": TRACE}, other))))
    assert [(note.subject, note.why) for note in notes] == [
        ("a-0", "ValueError: password wrong"),
        ("a-1", "ValueError: disk full"),
    ]


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (TRACE, "ValueError: password wrong"),
        (f"{TRACE}\nDuring handling of…\n\n{TRACE.replace('password wrong', 'second')}", "ValueError: second"),
        ("org.apache.kafka.connect.errors.ConnectException: no\n\tat x.y.Z(Z.java:1)\n", "org.apache.kafka."),
        ("the password is wrong → correct it", "the password is wrong → correct it"),
        ("", ""),
    ],
)
def test_the_reason_is_the_line_of_the_exception_in_a_trace(trace: str, reason: str) -> None:
    assert status_view.reason_of(trace).startswith(reason)
    assert "\n" not in status_view.reason_of(trace)


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (0, "now"),
        (1_500, "1 s"),
        (185_000, "3 min 5 s"),
        (7_500_000, "2 h 5 min"),
        (90_000_000, "1 d 1 h"),
        (-5, "now"),
    ],
)
def test_ages_are_formatted_with_two_units(ago: int, text: str) -> None:
    assert status_view.age(10**12 - ago, 10**12) == text
    assert status_view.age(0, 10**12) == "-"


def test_an_invalid_status_is_an_error() -> None:
    bodies: list[dict[str, Any]] = [
        {},
        status("a", {"state": "ASLEEP"}),
        {"name": "a", "connector": 1, "tasks": []},
    ]
    for body in bodies:
        with pytest.raises(HeadraceError, match="cannot parse the status"):
            status_view.parse_status(body)


def test_each_state_has_a_style() -> None:
    assert set(status_view.STYLES) == set(State)
