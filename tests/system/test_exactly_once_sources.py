"""Exactly once into Kafka: workers of a group are killed and frozen, and a woken leader cannot write configurations.

Afterwards a reader with read_committed finds every row once, and the stored position is that of the last row. One
worker starts with each Kafka client. ``make test`` runs a round of two kinds; ``make soak`` runs HEADRACE_SOAK_ROUNDS
seeded rounds.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import orjson
import pytest

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.worker_groups.statuses import owners_of_running

ROUNDS = int(os.environ.get("HEADRACE_SOAK_ROUNDS", "0"))
SEED = int(os.environ.get("HEADRACE_SOAK_SEED", "20261130"))
KINDS = ("kill the owner", "freeze the owner", "freeze the leader")
BROKER = {"group.min.session.timeout.ms": "500", "group.initial.rebalance.delay.ms": "0"}
GROUP = {
    "group.id": "once",
    "config.storage.topic": "once-configs",
    "offset.storage.topic": "once-offsets",
    "status.storage.topic": "once-statuses",
    "session.timeout.ms": "3000",
    "heartbeat.interval.ms": "700",
    "scheduled.rebalance.max.delay.ms": "0",
    "exactly.once.source.support": "enabled",
    "task.shutdown.graceful.timeout.ms": "2000",
}
SOURCE = {
    "connector.class": "SqlSource",
    "exactly.once.support": "required",
    "poll.interval.ms": "50",
    "pk.mode": "primary_key",
    "topic.prefix": "once.",
    "topic.creation.default.partitions": "2",
    "topic.creation.default.replication.factor": "1",
}
CONNECTORS = {
    "journal": {**SOURCE, "table.whitelist": "journal", "mode": "incrementing", "incrementing.column.name": "id"},
    "events": {
        **SOURCE,
        "table.whitelist": "events",
        "mode": "timestamp+incrementing",
        "timestamp.column.name": "updated_at",
        "incrementing.column.name": "id",
        "transaction.boundary": "interval",
        "transaction.boundary.interval.ms": "200",
    },
}
TASKS = {"journal-0", "events-0"}


class GroupOfTwo:
    """The workers, and what they show."""

    def __init__(self, workers: list[Any], timeout: float) -> None:
        self.workers = workers
        self._timeout = timeout

    def owners(self, shown_by: Any) -> dict[str, str]:
        """Return the worker of each RUNNING task."""
        try:
            answer = HTTP.get(f"{shown_by.url}/connectors?expand=status")
        except httpx.TransportError:
            return {}
        if answer.status_code != 200:
            return {}
        return owners_of_running(answer.json())

    def wait_until_all_run(self, *shown_by: Any, on: Any = None) -> dict[str, str]:
        """Wait until the tasks run, on one worker if it is given; return the owners."""

        def settled() -> bool:
            shown = [self.owners(worker) for worker in shown_by or self.workers]
            ids = {str(on.url).removeprefix("http://")} if on is not None else None
            return all(set(each) == TASKS and (ids is None or set(each.values()) == ids) for each in shown)

        eventually(settled, self._timeout)
        return self.owners((shown_by or self.workers)[0])

    def owner(self, task: str, owners: dict[str, str]) -> Any:
        return next(worker for worker in self.workers if str(worker.url).endswith(owners[task]))

    def leader(self) -> Any:
        """Return the worker that all workers have last joined as their leader."""
        eventually(lambda: len(self._leaders()) == 1, self._timeout)
        (url,) = self._leaders()
        return next(worker for worker in self.workers if worker.url == url)

    def _leaders(self) -> set[str]:
        return {match for worker in self.workers for match in re.findall(r"leader=(http://[\d.:]+)", worker.log)[-1:]}

    def other(self, worker: Any) -> Any:
        return next(each for each in self.workers if each is not worker)


@pytest.fixture
def stack(private_stack: Callable[..., Any]) -> Any:
    return private_stack("kafka", "postgres", options={"kafka": {"settings": BROKER, "heap": "320m"}})


@pytest.fixture
def group(stack: Any, make_worker: Callable[..., Any], box: Any) -> Iterator[GroupOfTwo]:
    workers = [make_worker(stack.kafka.bootstrap_servers) for _ in range(2)]
    for client, worker in zip(("confluent", "kafka-python"), workers, strict=True):
        worker.settings = {**GROUP, "kafka.client": client}
        worker.start(wait=False)
    for worker in workers:
        eventually(lambda worker=worker: worker.answers() and _ready(worker), box.timeout)  # type: ignore[misc]
    yield GroupOfTwo(workers, box.timeout)
    for worker in workers:
        worker.resume()  # a frozen one cannot end


@pytest.mark.timeout(600 + 60 * ROUNDS)
def test_every_row_is_in_kafka_once_whatever_happens_to_the_workers(
    stack: Any, group: GroupOfTwo, load: Callable[..., Any], box: Any
) -> None:
    database = stack.postgres.url
    writer = load(database, SEED)
    for name, config in CONNECTORS.items():
        body = {**config, "connection.url": database}
        created = HTTP.put(f"{group.workers[1].url}/connectors/{name}/config", json=body)
        assert created.status_code == 201, created.text
    group.wait_until_all_run()
    for name in CONNECTORS:
        assert group.workers[0].get(f"/connectors/{name}/status")["delivery"] == "exactly-once"
    writer.start()
    chosen = random.Random(SEED)
    # A worker that leads for a second time has not answered a change of configuration within a minute in one of about
    # eight such rounds (docs/exactly-once-sources.md, limits): the soak finds it, ``make test`` leaves the kind out.
    kinds = [chosen.choice(KINDS) for _ in range(ROUNDS)] if ROUNDS else KINDS[:2]
    for number, kind in enumerate(kinds):
        print(f"round {number}: {kind}")
        owners = group.wait_until_all_run()
        task = chosen.choice(sorted(TASKS))
        victim = group.leader() if kind == "freeze the leader" else group.owner(task, owners)
        if kind == "kill the owner":
            _kill(group, victim, box)
        else:
            _freeze(group, victim, number)
    group.wait_until_all_run()
    writer.stop()

    with box.connect(database) as connection:
        journal = {row[0] for row in connection.execute("SELECT id FROM journal")}
        versions = dict(connection.execute("SELECT id, version FROM events").fetchall())
    assert len(journal) > 300, "the load was too small to prove anything"
    clients = KafkaPythonClients({"bootstrap.servers": stack.kafka.bootstrap_servers})

    def sent() -> Counter[int]:
        return Counter(value["id"] for value in committed_values(clients, "once.journal"))

    eventually(lambda: len(sent()) >= len(journal), box.timeout)
    assert sent() == Counter(journal)

    def seen() -> Counter[tuple[int, int]]:
        return Counter((value["id"], value["version"]) for value in committed_values(clients, "once.events"))

    eventually(lambda: set(versions.items()) <= set(seen()), box.timeout)
    assert max(seen().values()) == 1, "a version of a row was sent twice"
    (position,) = group.workers[0].get("/connectors/journal/offsets")["offsets"]
    assert position["offset"] == {"incrementing": max(journal)}
    for worker in group.workers:
        assert worker.stop() == 0, worker.log


def _kill(group: GroupOfTwo, victim: Any, box: Any) -> None:
    victim.kill()
    group.wait_until_all_run(group.other(victim), on=group.other(victim))
    victim.start()
    eventually(lambda: _ready(victim), box.timeout)


def _freeze(group: GroupOfTwo, victim: Any, number: int) -> None:
    """Freeze a worker for longer than its session. What it does first when it wakes up is a change of configuration."""
    other = group.other(victim)
    config = other.get("/connectors/journal")["config"]
    victim.pause()
    answers: list[int] = []

    def change() -> None:
        body = {**config, "custom.zombie": str(number)}
        url = f"{victim.url}/connectors/journal/config?forward=false"
        answers.append(HTTP.put(url, json=body, timeout=60).status_code)

    zombie = threading.Thread(target=change)
    zombie.start()
    group.wait_until_all_run(other, on=other)
    changed = HTTP.put(f"{other.url}/connectors/journal/config", json={**config, "custom.round": str(number)})
    assert changed.status_code == 200, changed.text
    victim.resume()
    zombie.join()
    assert answers[0] >= 400, "a worker that was replaced has accepted a configuration"
    group.wait_until_all_run()
    for worker in group.workers:
        eventually(lambda worker=worker: _shown(worker).get("custom.round") == str(number), 30)  # type: ignore[misc]
        assert _shown(worker).get("custom.zombie") == config.get("custom.zombie")


def _shown(worker: Any) -> dict[str, str]:
    """Return the configuration that a worker shows. One that has just woken up still reads what it has missed."""
    config: dict[str, str] = worker.get("/connectors/journal")["config"]
    return config


def committed_values(clients: KafkaPythonClients, topic: str) -> list[Any]:
    """Return what a reader with read_committed sees."""
    with closing(clients.admin({})) as admin, closing(clients.reader({})) as reader:
        ends = admin.end_offsets([topic])
        reader.assign(admin.begin_offsets([topic]))
        values: list[Any] = []
        while any(reader.positions()[place] < end for place, end in ends.items()):
            values += [orjson.loads(value) for batch in reader.poll(1, 10_000) for value in batch.values if value]
        return values


def _ready(worker: Any) -> bool:
    try:
        return HTTP.get(f"{worker.url}/health").status_code == 200
    except httpx.TransportError:
        return False
