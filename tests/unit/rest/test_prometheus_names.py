"""How counters of tasks are named for Prometheus."""

from __future__ import annotations

import pytest

from headrace.metrics import DESCRIPTIONS, PART_DESCRIPTIONS
from headrace.rest.prometheus_names import GAUGES, exposed

ALL = [*DESCRIPTIONS, *PART_DESCRIPTIONS]


@pytest.mark.parametrize(
    ("counter", "name", "kind", "factor"),
    [
        ("source_record_poll_total", "headrace_source_record_poll_total", "counter", 1),
        ("source_record_active_count", "headrace_source_records_in_flight", "gauge", 1),
        ("total_record_errors", "headrace_task_record_errors_total", "counter", 1),
        ("deadletterqueue_produce_requests", "headrace_deadletterqueue_produce_requests_total", "counter", 1),
        ("poll_batch_time_ms_total", "headrace_poll_batch_time_seconds_total", "counter", 0.001),
        ("last_record_timestamp_ms", "headrace_last_record_timestamp_seconds", "gauge", 0.001),
        ("source_position_lag_ms", "headrace_source_position_lag_seconds", "gauge", 0.001),
        ("stream_step_records", "headrace_stream_step_records_total", "counter", 1),
    ],
)
def test_names_follow_prometheus(counter: str, name: str, kind: str, factor: float) -> None:
    assert exposed(counter) == (name, kind, factor)


def test_names_are_unique_and_say_type_and_unit() -> None:
    found = [exposed(name) for name in ALL]
    assert len({metric.name for metric in found}) == len(ALL)
    for metric in found:
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert "_ms" not in metric.name
        assert not metric.name.endswith("_count")


def test_every_gauge_is_a_counter_of_the_table() -> None:
    assert set(ALL) >= GAUGES
