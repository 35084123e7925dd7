"""The lines of the demo about the age of data."""

from __future__ import annotations

from typing import Any

from demo.monitoring import hop_lines


def ages(p50: float | None, p99: float | None, batches: int = 3) -> dict[str, Any]:
    return {"p50": p50, "p99": p99, "newest": p50, "batches": batches}


def test_hops_are_shown_in_order_with_the_age_after_them() -> None:
    sink = {"read": ages(0.1, 0.2), "write": ages(0.031, 0.2), "search": ages(1.0, 1.0)}
    found = [
        {"name": "elasticsearch", "tasks": [{"id": 0, "age": ages(1.5, 2.0), "hops": sink}]},
        {"name": "idle", "tasks": [{"id": 0, "age": ages(None, None, 0), "hops": {}}]},
    ]
    assert hop_lines(found) == [
        "  elasticsearch  read 0.10 s → write 0.03 s → search 1.00 s  (age p50 1.50 s, p99 2.00 s)"
    ]
