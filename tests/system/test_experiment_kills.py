"""kill -9 of a worker that selects, decides over HTTP and learns: one selection for each request, one label for each
selection, and a model state that equals a clean replay of the log of the experiment.

``make test`` runs a round with each client. ``make soak`` runs HEADRACE_SOAK_ROUNDS rounds.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
import yaml
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from headrace.files import parse_config_file
from headrace.pipeline.stream import state_codec
from headrace.pipeline.stream.state import StreamState
from headrace.testing.waiting import eventually
from headrace_streams.connector import StreamApplicationConfig
from headrace_streams.operators.learn import Learn
from headrace_streams.operators.open_selections import MODELS
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.engines import canaries
from tests.unit.streams.exploration.applications import APPLICATION, MINUTE, OFFERS

CLIENTS = ("confluent", "kafka-python")
ROUNDS = max(len(CLIENTS), int(os.environ.get("HEADRACE_SOAK_ROUNDS", "0")))
REQUESTS = 300
"""Of each round."""
SEED = int(os.environ.get("HEADRACE_SOAK_SEED", "20261130"))
Records = list[tuple[bytes, bytes]]


@pytest.mark.timeout(400 + 60 * ROUNDS)
def test_selections_labels_and_models_are_exact_after_kill_9(
    kafka: Any, make_worker: Callable[..., Any], unique_name: str, box: Any
) -> None:
    server = kafka.bootstrap_servers
    names = {name: f"{unique_name}-{name}" for name in ("requests", "conversions", "offers", "selections", "labels")}
    admin = KafkaAdminClient(bootstrap_servers=server)
    admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "-1"}) for topic in names.values()])
    admin.close()
    config = yaml.safe_load(APPLICATION)
    config["inputs"]["requests"]["topic"], config["inputs"]["conversions"]["topic"] = (
        names["requests"],
        names["conversions"],
    )
    config["tables"]["offers"] = names["offers"]
    config["outputs"] = {names["selections"]: "selections", names["labels"]: "labelled"}
    config["experiments"]["surveys"]["log.topic"] = f"{unique_name}-log"
    config["steps"]["selections"]["pick"]["where"] = "offer.active"
    worker = make_worker(server, consumer_session_timeout_ms="6000")
    config |= {"connector.class": "Stream", "commit.interval.ms": "100", "decide.enabled": "true"}
    config["repartition.purge.interval.ms"] = "1h"  # the whole log is replayed
    path = worker.write(unique_name, config)
    send(server, names["offers"], [{"id": n, **offer} for n, offer in enumerate(OFFERS)], "id")

    chance = random.Random(SEED)
    shown: set[str] = set()

    def convert() -> None:
        made = []
        for value in values(server, names["selections"]):
            if value["request"] not in shown:
                shown.add(value["request"])
                if chance.random() < 0.3:
                    moment = value["selected_at"] + chance.randrange(50 * MINUTE)
                    made.append({"request": value["request"], "converted_at": moment})
        send(server, names["conversions"], made, "request")

    answers: dict[str, str] = {}
    for number in range(ROUNDS):
        worker.settings["kafka.client"] = CLIENTS[number % len(CLIENTS)]
        known = len(values(server, names["selections"]))
        part = range(number * REQUESTS, (number + 1) * REQUESTS)
        requests = [{"request_id": f"r{n}", "user_id": n % 97, "country": "de", "asked_at": n * 100} for n in part]
        send(server, names["requests"], requests, "request_id")
        worker.start()
        deciding = threading.Thread(target=decide_until_killed, args=(worker.url, unique_name, number, answers))
        deciding.start()
        eventually(partial(has_more, server, names["selections"], known), box.timeout)
        convert()
        eventually(partial(has_answers, answers, number), box.timeout)
        threading.Event().wait(chance.uniform(0, 0.3))
        worker.kill()
        deciding.join(60)
    worker.start()
    total = ROUNDS * REQUESTS
    wanted = {*(f"r{n}" for n in range(total)), *answers}
    eventually(lambda: wanted <= requests_of(server, names["selections"]), box.timeout)
    convert()
    total = len(requests_of(server, names["selections"]))
    end = [{"request": f"end-{n}", "converted_at": 400 * MINUTE} for n in range(20)]
    send(server, names["conversions"], end, "request")
    eventually(lambda: len(values(server, names["labels"])) >= total, box.timeout)
    operator = learner(unique_name, parse_config_file(path).properties)
    experiment = operator.experiment
    log = f"{unique_name}-learned-repartition"
    done = partial(is_learned, server, log, experiment.models_topic, operator)
    eventually(done, box.timeout)
    assert worker.stop() == 0

    selections = values(server, names["selections"])
    selected = Counter(value["request"] for value in selections)
    assert set(selected.values()) == {1}
    # A decision may be written without an answer: the worker died between the two.
    assert wanted <= selected.keys()
    assert all(name in wanted or name.startswith("d") for name in selected)
    made = {value["request"]: value["selected"] for value in selections}
    assert {name: made[name] for name in answers} == answers
    assert Counter(value["request"] for value in values(server, names["labels"])) == selected
    assert done()


def decide_until_killed(url: str, name: str, number: int, answers: dict[str, str]) -> None:
    """Ask for decisions one after the other, and note the answers; at most 200, and until the worker is gone."""
    headers = {"Authorization": f"Bearer {canaries.REST_TOKEN}"}
    with httpx.Client(base_url=url, headers=headers, timeout=10) as client:
        for asked in range(200):
            request = f"d{number}-{asked}"
            body = {"request_id": request, "user_id": asked, "country": "de", "asked_at": number * 30_000}
            try:
                answer = client.post(f"/v1/streams/{name}/decide", json=body)
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                answers[request] = answer.json()["selected"]
            else:
                assert answer.status_code in (404, 503), answer.text
                threading.Event().wait(0.05)


def has_answers(answers: dict[str, str], number: int) -> bool:
    return sum(name.startswith(f"d{number}-") for name in list(answers)) >= 5


def requests_of(server: str, topic: str) -> set[str]:
    return {value["request"] for value in values(server, topic)}


def has_more(server: str, topic: str, known: int) -> bool:
    return len(values(server, topic)) > known


def is_learned(server: str, log: str, models: str, operator: Learn) -> bool:
    """Whether the topic of the models has what a replay of the whole log gives."""
    found = {key.decode(): json.loads(value) for key, value in read(server, models)}
    return bool(found) and found == replay(read(server, log), operator)


def replay(records: Records, operator: Learn) -> dict[str, Any]:
    decoded = [state_codec.decode(value) for _, value in records]
    state = StreamState({"learned": "changelog"}, {"learned": ("log",)})
    place = TopicPartition("log", 0)
    rows = Rows([None] * len(decoded), [row for _, row in decoded], [time for time, _ in decoded], [-1] * len(decoded))
    made = operator.process(rows, {operator.log_table: {}}, state.of(place)["learned"])
    return dict(made.changes[MODELS])


def learner(name: str, properties: dict[str, str]) -> Learn:
    sections = ("inputs", "tables", "experiments", "steps", "outputs")
    own = {key: text for key, text in properties.items() if key.split(".")[0] in sections}
    plan, _ = make_plan(name, StreamApplicationConfig.parse(own))
    operator = next(step.operator for step in plan.steps if step.name == "learned")
    assert isinstance(operator, Learn)
    return operator


def send(server: str, topic: str, records: list[dict[str, Any]], key: str) -> None:
    producer = KafkaProducer(bootstrap_servers=server, linger_ms=5)
    try:
        for record in records:
            producer.send(topic, key=orjson.dumps(record[key]), value=orjson.dumps(record))
        producer.flush(60)
    finally:
        producer.close()


def values(server: str, topic: str) -> list[dict[str, Any]]:
    """Return the committed values of a topic."""
    return [json.loads(value) for _, value in read(server, topic)]


def read(server: str, topic: str) -> Records:
    """Return the committed keys and values of a topic, partition by partition."""
    consumer = KafkaConsumer(bootstrap_servers=server, isolation_level="read_committed", enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if not places:
            return []
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found: Records = []
        while any(consumer.position(place) < ends[place] for place in places):
            for batch in consumer.poll(timeout_ms=500).values():
                found += [(record.key, record.value) for record in batch]
        return found
    finally:
        consumer.close()
