"""``python -m demo exploration``: surveys are selected, convert, and teach. Described in docs/demo.md."""

from __future__ import annotations

import argparse
import json
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from rich.console import Console
from rich.live import Live

from demo.exploration.market import Market
from demo.exploration.traffic import SURVEYS_AT_FIRST, DemoTraffic, insert_survey
from demo.exploration.view import IndexedExperiment, lines, screen
from demo.loader import connect
from demo.worker import CONFIG, DemoWorker, free_port
from headrace.broker.bounded_read import read_between
from headrace.broker.client_choice import choose
from headrace.broker.interfaces import KafkaClients, NewTopic
from headrace.embedded import EmbeddedStack
from headrace.errors import InfrastructureError, TaskError

SCHEMA = Path(__file__).with_name("schema.sql")
APPLICATION = Path(__file__).with_name("config")
_TOPICS = ("requests", "selections", "labels", "scores", "counts", "history")
_LOOK = 1.0
_START = 90.0
"""Seconds until the application must decide."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m demo exploration", description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="end after --seconds; exit code 1 if a selection is not what was answered"
    )
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="of requests for --once (default 60)")
    parser.add_argument("--rate", type=float, default=20.0, metavar="N", help="requests a second (default 20)")
    parser.add_argument("--seed", type=int, default=7, help="of the outside world")
    return parser.parse_args(argv)


def run(chosen: argparse.Namespace, console: Console, stack: ExitStack) -> int:
    """Start all parts in order and show their progress. ``stack`` stops them in reverse order."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-exploration-")))
    console.print(f"starting Kafka, Elasticsearch and PostgreSQL in {folder} …")
    engines = EmbeddedStack(folder)
    stack.callback(engines.stop)
    engines.start()
    market = Market(chosen.seed)
    fill(engines.postgres.url, market)
    clients = choose("kafka-python").open({"bootstrap.servers": engines.kafka.bootstrap_servers})
    admin = clients.admin({})
    admin.create_topics([NewTopic(f"exploration.{name}", 1, -1) for name in (*_TOPICS, "survey_conversions")])
    admin.close()
    rest = f"http://127.0.0.1:{free_port(8083)}"
    worker = DemoWorker(
        {
            "KAFKA_BOOTSTRAP_SERVERS": engines.kafka.bootstrap_servers,
            "DATABASE_URL": engines.postgres.url,
            "ELASTICSEARCH_URL": engines.elasticsearch.url,
            "HEADRACE_LISTENERS": rest,
            "HEADRACE_REST_AUTHENTICATION": "none",
            "HEADRACE_DATA": str(folder),
        },
        folder / "worker.log",
        command=command(),
    )
    stack.callback(worker.stop)
    worker.start()
    traffic = DemoTraffic(rest, engines.postgres.url, market, chosen.rate)
    stack.callback(traffic.stop)
    indexed = IndexedExperiment(engines.elasticsearch.url)
    stack.callback(indexed.close)
    try:
        wait_for_decisions(rest, worker)
        console.print(f"REST API {rest}, Elasticsearch {engines.elasticsearch.url}, worker's log {worker.log}")
        traffic.start()
        watch(console, worker, traffic, indexed, until=time.monotonic() + chosen.seconds if chosen.once else None)
        return verify(console, worker, traffic, indexed, clients)
    except (InfrastructureError, TaskError):
        console.print(f"\nthe end of {worker.log}:\n{worker.tail()}\n")
        raise


def command() -> list[str]:
    """Return the command line of the worker."""
    program = Path(sysconfig.get_path("scripts")) / "headrace"
    files = sorted(APPLICATION.glob("*.yaml"))
    return [str(program), "run", str(CONFIG / "worker-standalone.yaml"), *map(str, files)]


def fill(database: str, market: Market) -> None:
    """Create the tables, with users and the first surveys."""
    with connect(database) as connection:
        connection.execute(SCHEMA.read_bytes())
        for number, (country, device) in market.users.items():
            row = (number, country, device)
            connection.execute("INSERT INTO users (user_id, country, device) VALUES (%s, %s, %s)", row)
        for _ in range(SURVEYS_AT_FIRST):
            insert_survey(connection, market.open_survey())


def wait_for_decisions(rest: str, worker: DemoWorker) -> None:
    """Wait until the application selects surveys. Raise InfrastructureError."""
    end, answer = time.monotonic() + _START, "no answer"
    probe = {"request_id": "probe", "user_id": 1, "asked_at": round(time.time() * 1000)}
    while time.monotonic() < end:
        if worker.ended:
            raise InfrastructureError("the worker ended while it started", code="demo.worker")
        try:
            found = httpx.post(f"{rest}/v1/streams/exploration/decide", json=probe, timeout=10)
        except httpx.TransportError as error:
            answer = str(error)
        else:
            answer = found.text
            if found.status_code == 200 and found.json()["selected"] is not None:
                return
        time.sleep(0.2)
    raise InfrastructureError(f"the application does not decide after {_START:.0f} s: {answer}", code="demo.worker")


def watch(
    console: Console, worker: DemoWorker, traffic: DemoTraffic, indexed: IndexedExperiment, until: float | None
) -> None:
    """Show progress until a time; None: until Ctrl+C. Raise TaskError if worker or traffic ended."""
    with Live(console=console, auto_refresh=False) if console.is_terminal else ExitStack() as live:
        while until is None or time.monotonic() < until:
            time.sleep(_LOOK)
            state = indexed.state()
            if isinstance(live, Live):
                current = state["decision"]["current"] if state else "v1"
                live.update(screen(traffic, state, indexed.best(current)), refresh=True)
            else:
                console.print(f"{sum(traffic.requests.values()):,} requests; {' | '.join(lines(traffic, state))}")
            if worker.ended:
                raise TaskError("the worker ended by itself", code="demo.worker")
            if traffic.error is not None:
                raise TaskError(f"the demo's own traffic failed: {traffic.error}", code="demo.failed")


def verify(
    console: Console, worker: DemoWorker, traffic: DemoTraffic, indexed: IndexedExperiment, clients: KafkaClients
) -> int:
    """Wait until every conversion is learned, and compare selections with answers. Return the exit code."""
    traffic.stop_requests()
    end = time.monotonic() + _START
    while traffic.open_conversions and time.monotonic() < end and not worker.ended:
        time.sleep(_LOOK)
    selected: dict[str, str] = {}
    repeated: Counter[str] = Counter()
    while time.monotonic() < end:
        selections = read(clients, "exploration.selections")
        repeated = Counter(item["request"] for item in selections)
        selected = {item["request"]: item["selected"] for item in selections}
        if traffic.answers.items() <= selected.items() and indexed.state() is not None:
            break
        time.sleep(_LOOK)
    state = indexed.state()
    console.print(screen(traffic, state, indexed.best(state["decision"]["current"] if state else "v1")))
    repeated.pop("probe", None)
    wrong = {name for name, survey in traffic.answers.items() if selected.get(name) != survey}
    twice = [name for name, count in repeated.items() if count > 1]
    console.print(
        f"{len(traffic.answers):,} answers; {len(wrong)} of them are not the selection in Kafka, "
        f"{len(twice)} are there twice"
    )
    return 1 if wrong or twice or state is None or not traffic.answers else 0


def read(clients: KafkaClients, topic: str) -> list[dict[str, str]]:
    """Return the committed values of a topic."""
    admin = clients.admin({})
    try:
        ends = admin.end_offsets([topic], committed=True)
    finally:
        admin.close()
    reader = clients.reader({"isolation.level": "read_committed"})
    try:
        batches = [batch for poll in read_between(reader, {}, ends) for batch in poll.batches]
    finally:
        reader.close()
    return [json.loads(value) for batch in batches for value in batch.values if value is not None]
