"""Tables that are late, rows that are bad, and topics whose partitions were changed: each has its message."""

from __future__ import annotations

import pytest

from headrace.errors import ConfigError, TaskError
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import MakeApplication
from tests.unit.streams.drivers import make_driver

TEXT = """inputs:
  views: {topic: impressions, time: at}
tables:
  offers: {topic: offers, key: id}
steps:
  found:
    lookup: {offer: "offers[id]"}
    missing: wait
  counted:
    window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*)}}
outputs:
  out: found
  counts: counted
"""


def test_a_record_waits_for_its_row(make_application: MakeApplication) -> None:
    application = make_application(TEXT, {"impressions": 1, "offers": 1, "out": 1})
    application.send("offers", [{"id": 1}], [1])
    application.send("impressions", [{"id": 1, "at": 1}, {"id": 2, "at": 1}], [0, 0])
    task = application.start()
    waiting = "step 'found' waits for a row of table offers: offers[id] has none yet"
    eventually(lambda: any(waiting in (reason or "") for reason in task.reasons))
    assert application.committed("out") == []

    application.send("offers", [{"id": 2}], [2])

    application.wait_until_processed()
    task.stop()
    assert [row["offer"] for row in application.committed("out")] == [{"id": 1}, {"id": 2}]
    assert task.reasons[-1] is None


def test_a_row_of_a_partitioned_table_is_not_awaited() -> None:
    text = TEXT.replace("key: id}", "key: id, scope: partitioned}")
    with pytest.raises(ConfigError, match="table 'offers' is partitioned: a row that comes later is not the row at"):
        make_driver(text)


def test_records_of_a_table_that_are_not_rows_are_a_condition_with_an_example(
    make_application: MakeApplication,
) -> None:
    application = make_application(TEXT, {"impressions": 1, "offers": 1, "out": 1})
    application.send("offers", [{"id": 1}, 7, {"id": [1]}], [1, 2, 3])
    application.send("impressions", [{"id": 1, "at": 1}], [0])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    (condition,) = application.conditions.of("app")
    assert (condition.code, condition.count) == ("stream.table_rows", 2)
    assert "records of table topic offers are not rows and were left out" in condition.text
    assert "offers-0: table offers: the key is not a scalar" in condition.example


def test_an_input_with_another_number_of_partitions_than_its_state_is_refused(
    make_application: MakeApplication,
) -> None:
    application = make_application(TEXT, {"impressions": 2, "offers": 1, "out": 1})
    application.broker.create("app-counted-repartition", 1)

    task = application.start()
    assert task.thread is not None
    task.thread.join(20)

    assert isinstance(task.error, TaskError)
    assert task.error.code == "stream.partitions"
    assert "internal topic app-counted-repartition has 1 partitions and needs 2" in task.error.message
