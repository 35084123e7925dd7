"""Applications from YAML to committed outputs."""

from __future__ import annotations

from headrace.errors import TaskError
from headrace.testing.waiting import eventually
from tests.unit.streams.conftest import MakeApplication

ENRICH = """
inputs:
  views: impressions
tables:
  offers: offers
steps:
  enriched:
    lookup: {offer: "offers[offer_id]"}
  scored:
    add: {epi: offer.cpi / offer.loi}
  active:
    filter: offer.active
outputs:
  enriched-views: active
"""
COUNT = """
inputs:
  views: {topic: impressions, time: shown_at}
steps:
  per_offer:
    window:
      by: offer_id
      tumbling: 10ms
      grace: 5ms
      aggregate: {views: count(*), total: sum(price), cheapest: min(price), dearest: max(price), mean: avg(price)}
outputs:
  minutes: per_offer
  late-views: per_offer.late
"""
VISITS = """
inputs:
  views: {topic: page-views, time: at}
steps:
  unique:
    deduplicate: {by: view, within: 1s, grace: 1s}
  visit:
    window:
      by: user
      session: 10ms
      grace: 5ms
      aggregate: {views: count(*), entry: first(page), exit: last(page)}
outputs:
  visits: visit
  unique-views: unique
"""


def test_records_are_enriched_from_a_table_and_filtered(make_application: MakeApplication) -> None:
    application = make_application(ENRICH, {"impressions": 2, "offers": 1, "enriched-views": 2})
    offers = [{"cpi": 3.0, "loi": 2, "active": True}, {"cpi": 1, "loi": 1, "active": False}]
    application.send("offers", offers, [1, 2])
    application.send("impressions", [{"offer_id": n % 3, "n": n} for n in range(9)], list(range(9)))

    task = application.start()
    application.wait_until_processed()
    task.stop()

    made = sorted(application.committed_records("enriched-views"))
    assert made == [(n, {"offer_id": 1, "n": n, "offer": offers[0], "epi": 1.5}) for n in (1, 4, 7)]
    assert task.metrics.parts()["active"]["stream_step_dropped"] == 6


def test_a_change_of_a_table_shows_in_later_records(make_application: MakeApplication) -> None:
    application = make_application(ENRICH, {"impressions": 1, "offers": 1})
    application.send("offers", [{"cpi": 1, "loi": 1, "active": True}], [1])
    application.start()
    application.send("impressions", [{"offer_id": 1}], [1])
    application.wait_until_processed()
    application.send("offers", [{"cpi": 2, "loi": 1, "active": True}], [1])

    def changed() -> bool:
        """the new row is used"""
        application.send("impressions", [{"offer_id": 1}], [1])
        application.wait_until_processed()
        return bool(application.committed("enriched-views")[-1]["epi"] == 2.0)

    eventually(changed, 10)


def test_a_window_gives_one_result_when_it_closes_and_late_records_separately(
    make_application: MakeApplication,
) -> None:
    application = make_application(COUNT, {"impressions": 1})
    views = [(1, 0, 2), (1, 9, 4), (2, 3, 7), (1, 12, 1), (1, 2, 5), (1, 15, None), (1, 1, 9), (2, 31, 1)]
    application.send("impressions", [{"offer_id": o, "shown_at": t, "price": p} for o, t, p in views])

    task = application.start()
    application.wait_until_processed()
    task.stop()

    def result(offer: int, start: int, views: int, prices: list[int]) -> dict[str, object]:
        window = {"offer_id": offer, "window_start": start, "window_end": start + 10, "views": views}
        mean = sum(prices) / len(prices)
        return {**window, "total": sum(prices), "cheapest": min(prices), "dearest": max(prices), "mean": mean}

    expected = [result(1, 0, 3, [2, 4, 5]), result(2, 0, 1, [7]), result(1, 10, 2, [1])]
    assert application.committed_records("minutes") == [(row["offer_id"], row) for row in expected]
    assert application.committed("late-views") == [{"offer_id": 1, "shown_at": 1, "price": 9}]
    assert task.metrics.snapshot()["stream_late_total"] == 1
    assert task.metrics.snapshot()["stream_state_entries"] == 3  # the open window, the stream time, the account


def test_records_of_a_group_are_aggregated_across_partitions_and_tasks(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 4})
    values = [{"offer_id": n % 5, "shown_at": 0, "price": 1} for n in range(100)]
    application.send("impressions", values, list(range(100)))
    tasks = [application.start(number) for number in range(2)]
    application.wait_until_processed()
    # One late enough record of each group closes the windows of its partition.
    application.send("impressions", [{"offer_id": n, "shown_at": 99, "price": 1} for n in range(5)], list(range(5)))
    application.wait_until_processed()
    for task in tasks:
        task.stop()

    counts = sorted((row["offer_id"], row["views"]) for row in application.committed("minutes"))
    assert counts == [(n, 20) for n in range(5)]
    assert len(application.broker.partitions_of("app-per_offer-repartition")) == 4
    assert len(application.broker.partitions_of("app-per_offer-changelog")) == 4


def test_state_is_restored_after_a_restart(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 1})
    application.send("impressions", [{"offer_id": 1, "shown_at": 0, "price": 1}] * 3)
    first = application.start()
    application.wait_until_processed()
    first.stop()

    later = [{"offer_id": 1, "shown_at": time, "price": 1} for time in (5, 50)]
    application.send("impressions", later)
    second = application.start()
    application.wait_until_processed()
    second.stop()

    assert [row["views"] for row in application.committed("minutes")] == [4]
    assert second.metrics.snapshot()["stream_restored_total"] > 0


def test_sessions_and_the_keys_of_kept_records_are_restored_after_a_restart(make_application: MakeApplication) -> None:
    application = make_application(VISITS, {"page-views": 1})
    first, second = [(1, 7, "a", 0), (2, 7, "b", 8)], [(1, 7, "a", 0), (3, 7, "c", 18), (4, 8, "d", 40)]
    for views in (first, second):
        fields = ("view", "user", "page", "at")
        application.send("page-views", [dict(zip(fields, view, strict=True)) for view in views])
        task = application.start()
        application.wait_until_processed()
        task.stop()

    visit = {"user": 7, "window_start": 0, "window_end": 18, "views": 3, "entry": "a", "exit": "c"}
    assert application.committed_records("visits") == [(7, visit)]
    unique = [(key, row["page"]) for key, row in application.committed_records("unique-views")]
    assert unique == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert task.metrics.parts()["unique"]["stream_step_dropped"] == 1


def test_a_refused_record_goes_to_the_dead_letter_queue_with_its_step_and_expression(
    make_application: MakeApplication,
) -> None:
    application = make_application(
        ENRICH,
        {"impressions": 1, "offers": 1},
        errors_tolerance="all",
        errors_deadletterqueue_topic_name="dead",
    )
    application.send("offers", [{"cpi": 1, "loi": 0, "active": True}, {"cpi": 1, "loi": 1, "active": True}], [1, 2])
    application.send("impressions", [{"offer_id": 1}, {"offer_id": 2}, 7, {"offer_id": 2}], [1, 2, 3, 4])

    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert [key for key, _ in application.committed_records("enriched-views")] == [2, 4]
    headers = [dict(record.headers) for record in application.broker.records("dead")]
    assert [item["__headrace.errors.code"] for item in headers] == [b"stream.division_by_zero", b"stream.not_an_object"]
    assert headers[0]["__connect.errors.stage"] == b"STREAM_STEP"
    assert headers[0]["__headrace.errors.step"] == b"scored"
    assert headers[0]["__headrace.errors.expression"] == b"offer.cpi / offer.loi"
    assert headers[0]["__headrace.errors.key"] == b"steps.scored.add.epi"
    assert task.metrics.snapshot()["stream_record_dead_lettered_total"] == 2


def test_a_refused_record_fails_the_task_without_tolerance_and_nothing_is_committed(
    make_application: MakeApplication,
) -> None:
    application = make_application(
        ENRICH, {"impressions": 1, "offers": 1}, errors_deadletterqueue_topic_name="dead", commit_interval_ms="60000"
    )
    application.send("offers", [{"cpi": 1, "loi": 0, "active": True}], [1])
    application.send("impressions", [{"offer_id": 2}, {"offer_id": 1}], [1, 2])

    task = application.start()
    assert task.thread is not None
    task.thread.join(20)

    assert isinstance(task.error, TaskError)
    assert "step 'scored': offer.cpi / offer.loi: division by zero" in str(task.error)
    assert application.broker.committed("connect-app") == {}
    assert len(application.committed("dead")) == 1
    assert application.committed("enriched-views") == []


def test_the_task_waits_for_a_missing_table(make_application: MakeApplication) -> None:
    application = make_application(ENRICH, {"impressions": 1})
    task = application.start()
    eventually(lambda: any("topic offers (table of app) does not exist" in (text or "") for text in task.reasons))

    application.broker.create("offers")
    eventually(task.started.is_set)


def test_an_internal_topic_with_other_partitions_fails_the_task(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 3, "app-per_offer-changelog": 2})
    task = application.start()
    assert task.thread is not None
    task.thread.join(20)

    assert isinstance(task.error, TaskError)
    assert "app-per_offer-changelog has 2 partitions and needs 3" in str(task.error)
