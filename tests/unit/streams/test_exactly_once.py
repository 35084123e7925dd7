"""Outputs do not depend on failures: a process dies at any call, or a response is lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.broker.interfaces import KafkaClients
from headrace.errors import RetriableError
from headrace.files import parse_config_file
from headrace.testing.waiting import eventually
from tests.unit.examples import examples, packed
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.faults import run_with_faults

TEXT = """name: app
connector.class: Stream
commit.interval.ms: 1
inputs:
  views: {topic: impressions, time: shown_at}
steps:
  cheap:
    add: {twice: price * 2}
  per_offer:
    window:
      by: offer_id
      tumbling: 10ms
      grace: 5ms
      aggregate: {views: count(*), total: sum(twice)}
outputs:
  copies: cheap
  windows: per_offer
  late-views: per_offer.late
"""
Fault = tuple[int, bool, bool]
"""Arguments of FaultPlan."""
View = tuple[int, int, int]
"""Offer, event time, price."""

views = st.lists(packed(range(3), range(61), range(10)), min_size=1, max_size=25)
faults = st.lists(st.tuples(st.integers(1, 90), st.booleans(), st.booleans()), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path: Path = tmp_path_factory.mktemp("streams") / "app.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return parse_config_file(path).properties


def run_batches(config: dict[str, str], batches: Sequence[Sequence[View]], plans: Sequence[Fault]) -> Application:
    """Send the records, and run processes until all are processed; each has its fault."""
    application = Application(dict(config))
    application.broker.create("impressions", 2)

    def send(batch: Sequence[View]) -> None:
        values = [{"offer_id": offer, "shown_at": time, "price": price} for offer, time, price in batch]
        application.send("impressions", values, [offer for offer, _, _ in batch])

    run_with_faults(application, [partial(send, batch) for batch in batches], plans)
    return application


def naive_windows(received: Sequence[tuple[int, int, int]]) -> tuple[list[tuple[int, int, int, int]], int]:
    """Return the closed windows (offer, start, views, total) in any order, and the number of late records."""
    now, late = -1, 0
    windows: dict[tuple[int, int], list[int]] = defaultdict(list)
    for offer, time, price in received:
        now = max(now, time)
        start = time - time % 10
        if start + 15 <= now:
            late += 1
        else:
            windows[offer, start].append(price * 2)
    closed = [(offer, start, len(p), sum(p)) for (offer, start), p in windows.items() if start + 15 <= now]
    return closed, late


def received_records(application: Application) -> list[list[tuple[int, int, int]]]:
    """Return the committed records of the repartition topic, by partition."""
    found = []
    for item in application.broker.partitions_of("app-per_offer-repartition"):
        records, _ = application.broker.logs[item].read(0, 100_000, committed=True)
        values = [orjson.loads(record.value or b"")[1] for record in records]
        found.append([(value["offer_id"], value["shown_at"], value["price"]) for value in values])
    return found


@given(st.lists(views, min_size=1, max_size=3), faults)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(0.6))
def test_every_record_has_its_effects_exactly_once_for_any_failure(
    config: dict[str, str], batches: list[list[View]], plans: list[Fault]
) -> None:
    application = run_batches(config, batches, plans)

    sent = [view for batch in batches for view in batch]
    copies = application.committed("copies")
    assert sorted((c["offer_id"], c["shown_at"], c["price"]) for c in copies) == sorted(sent)
    received = received_records(application)
    assert sorted(record for part in received for record in part) == sorted(sent)
    expected = [naive_windows(part) for part in received]
    windows = [(w["offer_id"], w["window_start"], w["views"], w["total"]) for w in application.committed("windows")]
    assert sorted(windows) == sorted(window for part, _ in expected for window in part)
    assert len(application.committed("late-views")) == sum(late for _, late in expected)


@dataclass(eq=False)
class _LosesOneCommit:
    """Clients whose first commit of the last step has its effect and no response."""

    target: Any
    lost: list[bool] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def sharing(self, _: Any) -> _LosesOneCommit:
        return self

    def transactional_producer(self, *arguments: Any, **settings: Any) -> Any:
        producer = self.target.transactional_producer(*arguments, **settings)
        send_offsets, commit = producer.send_offsets, producer.commit
        sent: list[Any] = []

        def note_and_send(*offsets: Any) -> None:
            sent.append(offsets)
            send_offsets(*offsets)

        def commit_and_fail() -> None:
            commit()
            if "per_offer" in str(sent) and not self.lost:
                self.lost.append(True)
                raise RetriableError("no answer", code="kafka.unreachable")

        producer.send_offsets, producer.commit = note_and_send, commit_and_fail
        return producer


def test_the_reason_of_a_failed_commit_ends_although_nothing_is_left_to_commit(
    make_application: MakeApplication,
) -> None:
    application = make_application(TEXT.partition("commit.interval.ms: 1\n")[2], {"impressions": 1})
    clients = _LosesOneCommit(application.broker)
    task = application.start(clients=cast("KafkaClients", clients))
    application.send("impressions", [{"offer_id": 1, "shown_at": 0, "price": 1}], [1])

    def recovered() -> bool:
        """the status has no reason any more"""
        return any(task.reasons) and task.reasons[-1] is None

    eventually(recovered, 20)
    assert clients.lost
    application.wait_until_processed()
    assert len(application.committed("copies")) == 1


def test_partitions_reassigned_between_tasks_keep_their_state(make_application: MakeApplication) -> None:
    application = make_application(TEXT.partition("commit.interval.ms: 1\n")[2], {"impressions": 4})

    def send(time: int) -> None:
        values = [{"offer_id": n % 7, "shown_at": time, "price": 1} for n in range(70)]
        application.send("impressions", values, list(range(70)))

    send(0)
    first = application.start(0)
    application.wait_until_processed()
    second = application.start(1)
    send(1)
    application.wait_until_processed()
    first.stop()
    send(2)
    application.wait_until_processed()
    third = application.start(2)
    send(100)
    application.wait_until_processed()
    for task in (second, third):
        task.stop()

    counts = sorted((w["offer_id"], w["views"]) for w in application.committed("windows"))
    assert counts == [(offer, 30) for offer in range(7)]
