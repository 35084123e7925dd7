"""Seeded rounds of faults against a worker group: workers are killed, suspended and cut off, and brokers are killed.

After each round all rows arrive, every task runs on one living worker, and all acknowledged configurations exist; at
the end no row is lost, no stored position has gone back, and takeovers took few generations.

``make test`` runs 10 rounds with one broker and three workers. ``make soak`` runs HEADRACE_SOAK_ROUNDS rounds with
three brokers and four workers.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.embedded.stack import EmbeddedStack
from headrace.embedded.tcp_ports import free_port
from headrace.testing.faults import TcpProxy
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.worker_groups import schedule
from tests.worker_groups.observer import Observer
from tests.worker_groups.requests import RestClient
from tests.worker_groups.schedule import Fault, Round

ROUNDS = int(os.environ.get("HEADRACE_SOAK_ROUNDS", "0"))
SEED = int(os.environ.get("HEADRACE_SOAK_SEED", "20261130"))
BROKERS, WORKERS = (3, 4) if ROUNDS else (1, 3)
TABLES = ("t0", "t1", "t2")
TOPICS = tuple(f"soak.{table}" for table in TABLES)
SETTLE = 120.0
"""Seconds; only a failure takes that long."""
GENERATIONS = 4
"""The most generations of the group for each change of its members: a fault, and its end."""
BROKER = {"group.min.session.timeout.ms": "500", "group.initial.rebalance.delay.ms": "0"}
GROUP = {
    "group.id": "soak",
    "config.storage.topic": "soak-configs",
    "offset.storage.topic": "soak-offsets",
    "status.storage.topic": "soak-statuses",
    "session.timeout.ms": f"{schedule.SESSION * 1000:.0f}",
    "heartbeat.interval.ms": "700",
    "scheduled.rebalance.max.delay.ms": "1000",
    "task.shutdown.graceful.timeout.ms": "2000",
}


class SoakedGroup:
    """The workers, each behind proxies of its own, and what strikes them."""

    def __init__(self, stack: EmbeddedStack, workers: list[Any], proxies: list[list[TcpProxy]]) -> None:
        self.kafka, self.workers, self.proxies = stack.kafka, workers, proxies
        self.database, self.bootstrap = stack.postgres.url, stack.kafka.bootstrap_servers
        self.struck: set[int] = set()
        self._broker = 0

    def urls(self) -> list[str]:
        return [worker.url for number, worker in enumerate(self.workers) if number not in self.struck]

    def leader(self) -> int | None:
        """Return the number of the leader, as a worker that is not struck knows it."""
        for url in self.urls():
            try:
                leader = HTTP.get(f"{url}/v1/workers", timeout=5).json().get("leader")
            except httpx.HTTPError:
                continue
            for number, worker in enumerate(self.workers):
                if worker.url.endswith(f"//{leader}"):
                    return number
        return None

    def take_victim(self, fault: Fault) -> int:
        """Return the worker that a fault strikes: the leader, or another one that is free."""
        leader = self.leader()
        free = [number for number in range(len(self.workers)) if number not in self.struck]
        chosen = leader if fault.leader and leader in free else None
        if chosen is None:
            chosen = next((number for number in reversed(free) if number != leader), free[0])
        self.struck.add(chosen)
        return chosen

    def strike_all(self, each: Round) -> None:
        """Carry out the faults of a round at the same time, and wait until all have ended."""
        ended = threading.Event()
        with ThreadPoolExecutor(len(each.faults)) as pool:
            victims = [None if fault.kind == schedule.BROKER else self.take_victim(fault) for fault in each.faults]
            running = [
                pool.submit(self.strike, fault, victim, ended)
                for fault, victim in zip(each.faults, victims, strict=True)
            ]
            for future in running:
                future.result()

    def strike(self, fault: Fault, number: int | None, ended: threading.Event) -> None:
        """Carry out a fault and end it: afterwards all workers run and are connected."""
        if number is None:
            broker = self.kafka.brokers[self._broker % len(self.kafka.brokers)]
            self._broker += 1
            broker.kill()
            ended.wait(fault.seconds)
            broker.start()
            return
        worker, proxies = self.workers[number], self.proxies[number]
        try:
            if fault.kind == schedule.KILL:
                worker.kill()
            elif fault.kind == schedule.TERMINATE:
                worker.process.send_signal(signal.SIGTERM)
                assert worker.process.wait(SETTLE) == 0, worker.log[-3000:]
            elif fault.kind == schedule.FREEZE:
                worker.pause()
            else:
                for proxy in proxies:
                    {
                        schedule.BLACKHOLE: proxy.blackhole,
                        schedule.HELD: proxy.hold_answers,
                        schedule.REFUSED: proxy.refuse,
                    }[fault.kind]()
            ended.wait(fault.seconds)
        finally:
            if fault.kind in schedule.ENDS:
                worker.start(wait=False)
            elif fault.kind == schedule.FREEZE:
                worker.resume()
            else:
                for proxy in proxies:
                    proxy.restore()
            self.struck.discard(number)

    def ready(self) -> bool:
        """Whether all workers are members of the group."""
        try:
            return all(HTTP.get(f"{worker.url}/health", timeout=5).status_code == 200 for worker in self.workers)
        except httpx.HTTPError:
            return False

    def settled(self) -> bool:
        """Whether all workers are ready and show every task as RUNNING on the same living workers."""
        ids = {worker.url.removeprefix("http://") for worker in self.workers}
        shown = []
        for worker in self.workers:
            try:
                answer = HTTP.get(f"{worker.url}/connectors?expand=status", timeout=10)
            except httpx.HTTPError:
                return False
            if answer.status_code != 200:
                return False
            found = {
                (name, task["id"]): (task["state"], task["worker_id"])
                for name, item in answer.json().items()
                for task in item["status"]["tasks"]
                if name in TABLES
            }
            shown.append(found)
        return all(
            each == shown[0]
            and len(each) == len(TABLES)
            and all(state == "RUNNING" and worker in ids for state, worker in each.values())
            for each in shown
        )

    def generation(self) -> int:
        """Return the newest generation that a worker has joined."""
        logs = "".join(worker.log for worker in self.workers)
        return max(map(int, re.findall(r"joined the group.*?generation=(\d+)", logs)))


class Writer:
    """Inserts rows into all tables, some times a second."""

    def __init__(self, connect: Callable[[str], Any], database: str) -> None:
        self.last = dict.fromkeys(TOPICS, 0)
        """By topic: the id of the newest row that is committed."""
        self._connect, self._database = connect, database
        with connect(database) as connection:
            for table in TABLES:
                connection.execute(f"CREATE TABLE {table} (id bigserial PRIMARY KEY, note text)")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._connect(self._database) as connection:
            while not self._stopping.wait(0.05):
                for table, topic in zip(TABLES, TOPICS, strict=True):
                    inserted = connection.execute(f"INSERT INTO {table} (note) VALUES ('row') RETURNING id").fetchone()
                    self.last[topic] = inserted[0]


@pytest.fixture
def group(tmp_path: Path, make_worker: Callable[..., Any]) -> Iterator[SoakedGroup]:
    """The workers of one group, started, each with listeners of the brokers that only it uses."""
    options = {"kafka": {"settings": BROKER, "heap": "320m"}}
    stack = EmbeddedStack(tmp_path / "stack", engines=("kafka", "postgres"), brokers=BROKERS, options=options)
    with ExitStack() as stop:
        proxies: list[list[TcpProxy]] = []
        for number in range(WORKERS):
            proxies.append([])
            for broker in stack.kafka.brokers:
                port = free_port()
                proxies[-1].append(stop.enter_context(TcpProxy(f"127.0.0.1:{port}")))
                broker.more_listeners[f"W{number}"] = (port, proxies[-1][-1].port)
        stop.enter_context(stack)
        workers = [make_worker(",".join(proxy.address for proxy in mine)) for mine in proxies]
        for number, worker in enumerate(workers):
            worker.settings = {**GROUP, "kafka.client": ("confluent", "kafka-python")[number % 2]}
            worker.start(wait=False)
        yield SoakedGroup(stack, workers, proxies)
        for worker in workers:
            worker.resume()


def create_sources(group: SoakedGroup) -> None:
    for table in TABLES:
        config = {
            "connector.class": "SqlSource",
            "connection.url": group.database,
            "table.whitelist": table,
            "mode": "incrementing",
            "incrementing.column.name": "id",
            "topic.prefix": "soak.",
            "poll.interval.ms": "50",
            "topic.creation.default.partitions": "1",
            "topic.creation.default.replication.factor": "-1",
        }
        made = HTTP.post(f"{group.workers[0].url}/connectors", json={"name": table, "config": config}, timeout=60)
        assert made.status_code == 201, made.text


@pytest.mark.timeout(600 + 60 * ROUNDS)
def test_a_group_keeps_its_promises_under_seeded_faults(group: SoakedGroup, box: Any) -> None:
    with ExitStack() as stop:
        _run_rounds(group, box, stop)


def _run_rounds(group: SoakedGroup, box: Any, stop: ExitStack) -> None:
    writer = Writer(box.connect, group.database)
    stop.callback(writer.stop)
    eventually(group.ready, SETTLE)
    create_sources(group)
    kafka = LibrdkafkaClients({"bootstrap.servers": group.bootstrap})
    observer = Observer(kafka, TOPICS, GROUP["offset.storage.topic"])
    stop.callback(observer.stop)
    writer.start()
    observer.wait_for_rows_after(dict.fromkeys(TOPICS, 0), SETTLE)
    eventually(group.settled, SETTLE)
    client = RestClient(group.urls, group.database, SEED)
    stop.callback(client.stop)
    recoveries: list[float] = []
    delayed = 0
    print(f"seed {SEED}")
    for each in schedule.rounds(ROUNDS or 10, SEED, brokers=BROKERS):
        steps, doubled, generation = dict(observer.steps_back), observer.doubled.total(), group.generation()
        requests = client.rebalancing
        began = time.monotonic()
        group.strike_all(each)
        eventually(group.settled, SETTLE)
        observer.wait_for_rows_after(dict(writer.last), SETTLE)
        recoveries.append(observer.longest_silence(began))
        delayed += sum(fault.kind in schedule.DELAYS for fault in each.faults)
        generations, requests = group.generation() - generation, client.rebalancing - requests
        print(
            f"{each}: longest silence {recoveries[-1]:.1f} s, settled after {time.monotonic() - began:.1f} s, "
            f"{generations} generations with {requests} creations and deletions, "
            f"{observer.doubled.total() - doubled} doubled",
            flush=True,
        )
        if each.changes_members:
            assert generations <= GENERATIONS * (2 * len(each.faults) + requests), str(each)
        for topic in TOPICS:
            assert observer.steps_back[topic] - steps.get(topic, 0) <= 3 * len(each.faults), f"{each}: {topic}"
        for url in group.urls():
            eventually(lambda url=url: client.wrong(url) == {}, SETTLE)  # type: ignore[misc]
    client.stop()
    writer.stop()
    for topic in TOPICS:
        eventually(lambda topic=topic: len(observer.arrived[topic]) == writer.last[topic], SETTLE)  # type: ignore[misc]
        assert set(observer.arrived[topic]) == set(range(1, writer.last[topic] + 1)), "a row is lost"
    observer.stop()
    # A request that is under way when the lease ends may reach the broker later, once for each task.
    assert len(observer.positions_back) <= delayed * len(TABLES), observer.positions_back
    assert client.acknowledged > 0
    ordered = sorted(recoveries)
    print(
        f"recovery: p50 {statistics.median(ordered):.1f} s, p99 {ordered[int(len(ordered) * 0.99)]:.1f} s; rows "
        f"{sum(writer.last.values())}, doubled {observer.doubled.total()}, positions back "
        f"{len(observer.positions_back)}; requests acknowledged {client.acknowledged}, unclear {client.unclear}"
    )
    for worker in group.workers:
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(SETTLE) == 0, worker.log[-3000:]
