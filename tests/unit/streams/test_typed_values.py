"""Inputs whose records have schemas: their decimals and times can be computed with, and written without a schema."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from headrace.pipeline.stream.plain_values import plain_values
from tests.unit.streams.conftest import MakeApplication

TEXT = """inputs:
  orders: {topic: orders, time: at}
steps:
  copied:
    add: {more: amount * 2}
  counted:
    window: {by: customer, tumbling: 1h, grace: 0, aggregate: {spent: sum(amount)}}
outputs:
  copies: copied
  spending: counted
"""
TIMESTAMP = {"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp", "version": 1}
AMOUNT = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "version": 1, "parameters": {"scale": "2"}}
SCHEMA = {
    "type": "struct",
    "fields": [
        {"field": "customer", "type": "int32"},
        {"field": "amount", **AMOUNT},
        {"field": "at", **TIMESTAMP},
    ],
}
HOUR = 3_600_000


def order(customer: int, amount: float, at: int) -> dict[str, Any]:
    return {"schema": SCHEMA, "payload": {"customer": customer, "amount": amount, "at": at}}


def test_decimals_and_timestamps_of_typed_inputs_are_written_as_numbers(make_application: MakeApplication) -> None:
    application = make_application(TEXT, {"orders": 1, "copies": 1, "spending": 1})
    application.worker |= {"value.converter.schemas.enable": "true", "value.converter.decimal.format": "NUMERIC"}
    application.send("orders", [order(7, 10.5, 1), order(7, 2.25, 2), order(8, 1, 2 * HOUR)])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    copies = [item["payload"] for item in application.committed("copies")]
    assert copies[:2] == [
        {"customer": 7, "amount": 10.5, "at": 1, "more": 21.0},
        {"customer": 7, "amount": 2.25, "at": 2, "more": 4.5},
    ]
    (spending,) = [item["payload"] for item in application.committed("spending")]
    assert spending == {"customer": 7, "window_start": 0, "window_end": HOUR, "spent": 12.75}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Decimal("12.75"), 12.75),
        (Decimal("0.1"), 0.1),
        (Decimal("12345678901234567890.12"), Decimal("12345678901234567890.12")),  # refused by the converter
        (datetime(1970, 1, 2, 0, 0, 0, 5_000, tzinfo=UTC), 86_400_005),
        (datetime(1970, 1, 1, 0, 0, 1), 1_000),
        (date(1969, 12, 31), -1),
        (time(1, 0, 0, 2_000), HOUR + 2),
        ({"a": [Decimal(1), None, "x", True]}, {"a": [1.0, None, "x", True]}),
    ],
)
def test_values_have_the_form_that_they_have_without_a_schema(value: Any, plain: Any) -> None:
    assert plain_values([value]) == [plain]
