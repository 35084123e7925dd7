"""Whatever error ends a stream task, nothing that it did since its last commit becomes visible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.errors import DataError, InfrastructureError, TaskError
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.faults import StopWhen, run_with_faults

COUNT = """
inputs:
  views: {topic: impressions, time: at}
steps:
  copied:
    add: {twice: n * 2}
  counted:
    window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*)}}
outputs:
  copies: copied
  counts: counted
"""
ERRORS: dict[str, Callable[[], Exception]] = {
    "a bug": lambda: RuntimeError("bug"),
    "no memory": MemoryError,
    "a record that cannot be written": lambda: DataError("too large", code="data.record_too_large"),
    "a missing ACL": lambda: InfrastructureError("not authorized", code="kafka.not_authorized"),
    "a fenced producer": lambda: TaskError("fenced", code="kafka.producer_fenced"),
}
VIEWS = 12
calls = st.tuples(st.integers(1, 90), st.booleans(), st.sampled_from(list(ERRORS)))


def send(application: Application, number: int) -> None:
    """Send views of three ids in one window for each number, in two partitions."""
    values = [{"n": number * VIEWS + n, "id": n % 3, "at": number * 10} for n in range(VIEWS)]
    application.send("impressions", values, list(range(VIEWS)))


def require_exact(application: Application, numbers: int) -> None:
    copies = sorted(row["n"] for row in application.committed("copies"))
    assert copies == list(range(numbers * VIEWS))
    found = Counter({(row["id"], row["window_start"]): row["views"] for row in application.committed("counts")})
    assert len(found) == len(application.committed("counts"))
    assert found == {(n, number * 10): VIEWS // 3 for n in range(3) for number in range(numbers - 1)}


@given(st.lists(calls, min_size=1, max_size=4))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(30, False, "a bug")])
@example([(30, True, "a fenced producer"), (20, True, "a bug")])
def test_outputs_and_state_are_exact_after_any_error_of_a_client(
    make_application: MakeApplication, faults: Sequence[tuple[int, bool, str]]
) -> None:
    application = make_application(COUNT, {"impressions": 2, "copies": 2, "counts": 2})
    plans = [(call, effect, False, ERRORS[name]()) for call, effect, name in faults]
    run_with_faults(application, [partial(send, application, number) for number in range(3)], plans)
    require_exact(application, 3)


class Failing:
    """The function of a step. Fails as no step can refuse, once, at the call with number ``at``."""

    calls = at = 0

    @classmethod
    def identity(cls, record: dict[str, int]) -> dict[str, int]:
        cls.calls += 1
        if cls.calls == cls.at:
            raise SystemExit("a function that ends the process")
        return record


def identity(record: dict[str, int]) -> dict[str, int]:
    return Failing.identity(record)


@pytest.mark.parametrize("at", [5, 20])
def test_outputs_and_state_are_exact_after_an_exit_inside_a_step(make_application: MakeApplication, at: int) -> None:
    text = COUNT.replace("  counted:", f"  called: {{call: '{__name__}:identity'}}\n  counted:")
    application = make_application(text, {"impressions": 2, "copies": 2, "counts": 2})
    Failing.calls, Failing.at = 0, at
    ended = 0
    for number in range(3):
        send(application, number)
        while not application.is_processed():
            try:
                application.run(StopWhen(application.is_processed))
            except SystemExit:
                ended += 1
    assert ended == 1
    require_exact(application, 3)
