"""Workers of one group are killed and stopped: others take over, no row is lost, and statuses say who runs what."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from headrace.broker.kafka_python import KafkaPythonClients
from headrace.testing.data_comparison import (
    Comparison,
    compare_index,
    compare_topic,
    index_entries,
    settle,
    table_rows,
    topic_entries,
)
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.worker_groups.statuses import owners_of_running

SEED = 20261130
BROKER = {"group.min.session.timeout.ms": "500", "group.initial.rebalance.delay.ms": "0"}
CONSUMER = {"consumer.override.session.timeout.ms": "1500", "consumer.override.heartbeat.interval.ms": "400"}
GROUP = {
    "group.id": "workers",
    "config.storage.topic": "workers-configs",
    "offset.storage.topic": "workers-offsets",
    "status.storage.topic": "workers-statuses",
    "session.timeout.ms": "3000",
    "heartbeat.interval.ms": "700",
    "scheduled.rebalance.max.delay.ms": "2000",
}
SOURCE = {
    "connector.class": "SqlSource",
    "poll.interval.ms": "50",
    "pk.mode": "primary_key",
    "topic.prefix": "shop.",
}


def connectors(database: str, search: str) -> dict[str, dict[str, str]]:
    return {
        "events": {
            **SOURCE,
            "connection.url": database,
            "table.whitelist": "events",
            "mode": "timestamp+incrementing",
            "timestamp.column.name": "updated_at",
            "incrementing.column.name": "id",
            "timestamp.delay.interval.ms": "300",
            "topic.creation.default.partitions": "3",
            "topic.creation.default.replication.factor": "1",
        },
        "journal": {
            **SOURCE,
            "connection.url": database,
            "table.whitelist": "journal",
            "mode": "incrementing",
            "incrementing.column.name": "id",
            "topic.creation.default.partitions": "2",
            "topic.creation.default.replication.factor": "1",
        },
        "search": {
            "connector.class": "ElasticsearchSink",
            "connection.url": search,
            "topics": "shop.events,shop.journal",
            "tasks.max": "2",
            "key.ignore": "false",
            "schema.ignore": "true",
            **CONSUMER,
        },
        "copies": {
            "connector.class": "Stream",
            "commit.interval.ms": "200",
            "inputs.changes": "shop.journal",
            "steps.doubled.add.twice": "version * 2",
            "outputs.copied": "doubled",
            **CONSUMER,
        },
    }


class WorkersOfGroup:
    """The workers, and what they show of the connectors."""

    def __init__(self, workers: list[Any], timeout: float) -> None:
        self.workers = workers
        self._timeout = timeout

    def alive(self) -> list[Any]:
        return [worker for worker in self.workers if worker.process.poll() is None]

    def owners(self, shown_by: Any) -> dict[str, str]:
        """Return the worker of each RUNNING task."""
        answer = HTTP.get(f"{shown_by.url}/connectors?expand=status")
        if answer.status_code != 200:
            return {}
        return owners_of_running(answer.json())

    def wait_until_all_run(self, tasks: int) -> dict[str, str]:
        """Wait until every living worker shows every task as RUNNING on a living worker; return the owners."""
        ids = {worker_id(worker) for worker in self.alive()}

        def settled() -> bool:
            shown = [self.owners(worker) for worker in self.alive()]
            return all(len(each) == tasks and set(each.values()) <= ids for each in shown) and all(
                each == shown[0] for each in shown
            )

        eventually(settled, self._timeout)
        return self.owners(self.alive()[0])

    def owner_of(self, task: str, owners: dict[str, str]) -> Any:
        return next(worker for worker in self.workers if worker_id(worker) == owners[task])


def worker_id(worker: Any) -> str:
    return str(worker.url).removeprefix("http://")


@pytest.mark.timeout(600)
def test_no_row_is_lost_when_workers_of_a_group_are_killed_and_stopped(
    private_stack: Callable[..., Any], make_worker: Callable[..., Any], load: Callable[..., Any], box: Any
) -> None:
    stack = private_stack(options={"kafka": {"settings": BROKER, "heap": "320m"}})
    database, search, bootstrap = stack.postgres.url, stack.elasticsearch.url, stack.kafka.bootstrap_servers
    writer = load(database, SEED)
    workers = [make_worker(bootstrap) for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.settings = {**GROUP, "kafka.client": ("confluent", "kafka-python", "confluent")[number]}
        worker.start(wait=False)
    for worker in workers:
        eventually(lambda worker=worker: worker.answers() and _ready(worker), box.timeout)  # type: ignore[misc]
    configs = connectors(database, search)
    for name, config in configs.items():  # through a worker that is not the leader, as another one is
        created = HTTP.post(f"{workers[1].url}/connectors", json={"name": name, "config": config})
        assert created.status_code == 201, created.text
    group = WorkersOfGroup(workers, box.timeout)
    owners = group.wait_until_all_run(5)
    assert len(set(owners.values())) >= 2, owners
    writer.start()

    killed = group.owner_of("journal-0", owners)
    killed.kill()
    owners = group.wait_until_all_run(5)
    stopped = group.owner_of("journal-0", owners)
    assert stopped.stop() == 0, stopped.log
    owners = group.wait_until_all_run(5)
    killed.start()
    eventually(lambda: _ready(killed), box.timeout)
    owners = group.wait_until_all_run(5)
    eventually(lambda: len(set(group.owners(killed).values())) == 2, box.timeout)
    writer.stop()

    with box.connect(database) as connection:
        events = table_rows(connection, "SELECT * FROM events", key="id")
        journal = table_rows(connection, "SELECT * FROM journal", key="id")
    assert len(journal) > 300, "the load was too small to prove anything"
    tables = {"shop.events": events, "shop.journal": journal}
    clients = KafkaPythonClients({"bootstrap.servers": bootstrap})

    def indexes() -> list[Comparison]:
        return [compare_index(rows, index_entries(search, name), side=name) for name, rows in tables.items()]

    settle(indexes, box.timeout)
    for name, rows in tables.items():
        assert compare_topic(rows, topic_entries(clients, name), side=f"topic {name}").complete
    source = len(topic_entries(clients, "shop.journal"))
    eventually(lambda: committed_records(clients, "copied") >= source, box.timeout)
    assert committed_records(clients, "copied") == source, "the stream application is exactly once"
    for worker in group.alive():
        assert worker.stop() == 0, worker.log


def committed_records(clients: KafkaPythonClients, topic: str) -> int:
    """Return the number of records that readers with read_committed see."""
    with closing(clients.admin({})) as admin, closing(clients.reader({})) as reader:
        ends = admin.end_offsets([topic])
        reader.assign(admin.begin_offsets([topic]))
        count = 0
        while any(reader.positions()[place] < end for place, end in ends.items()):
            count += sum(len(batch) for batch in reader.poll(1, 10_000))
        return count


def _ready(worker: Any) -> bool:
    return HTTP.get(f"{worker.url}/health").status_code == 200
