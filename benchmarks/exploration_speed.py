"""Speed of the exploration model: scores, selections, updates, and decisions over HTTP.

    python -m benchmarks.exploration_speed [--only model libraries surveys http] [--seconds 3]

Next to it the same numbers of a bare numpy loop over prepared arrays, which has no features, no explanations and no
log, and of river and Vowpal Wabbit if they are installed (`pip install river vowpalwabbit`); they are no dependencies.
`http` starts the embedded Kafka and a worker.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from benchmarks.exploration_application import SHIPPED, SimulatedApplication
from headrace.broker.client_choice import choose
from headrace.broker.interfaces import NewTopic
from headrace.embedded import EmbeddedStack
from headrace.records import EncodedBatch
from headrace_streams.exploration.choice import propensity, seed_of, select
from headrace_streams.exploration.features import Term
from headrace_streams.exploration.logistic import LogisticModel
from headrace_streams.exploration.simulation import Size, World

CANDIDATES, FEATURES, LEVELS = 200, 30, 8
_TIMEOUT = 120.0


def measured(call: Callable[[], object], seconds: float) -> tuple[float, float, float]:
    """Return the CPU time of a call on this thread, and the median and the 99th percentile of its time, in seconds."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    used = time.thread_time()
    while time.perf_counter() < end or len(times) < 100:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return (time.thread_time() - used) / len(times), *_percentiles(times)


def _percentiles(times: list[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def line(name: str, call: Callable[[], object], seconds: float, rows: int) -> None:
    """Print the figures of a call that scores ``rows`` rows; 0: it is no score. Rates are those of the CPU time."""
    cpu, median, p99 = measured(call, seconds)
    rate = f"{rows / cpu:>11,.0f} scores/s" if rows else " " * 20
    times = f"CPU {cpu * 1e3:8.3f} ms  p50 {median * 1e3:8.3f} ms  p99 {p99 * 1e3:8.3f} ms"
    print(f"{name:58} {rate}  {times}", flush=True)


class LearnedExample:
    """A logistic model that has learned, and a request of 200 candidates with 30 features each."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        names = [f"f{number}" for number in range(FEATURES)]
        self.model = LogisticModel([*(Term(name, (name,)) for name in names), Term("survey", ("survey",))])
        self.rows: list[dict[str, Any]] = [
            {name: f"level{random.integers(LEVELS)}" for name in names} | {"survey": f"s{number}"}
            for number in range(CANDIDATES)
        ]
        for number in range(2_000):
            row = self.rows[int(random.integers(CANDIDATES))]
            self.model.update(row, float(number % 40 == 0), 1.0)
        self.ids = [str(row["survey"]) for row in self.rows]

    def decide(self) -> float:
        """Predict, draw, and compute the propensity, as ``pick`` does."""
        prediction = self.model.predict(self.rows)
        place = select(prediction, self.ids, seed_of("salt", "r1")).position
        return propensity(prediction, self.ids, place)


def model(seconds: float) -> None:
    """Scores and updates of the model, and the same arithmetic on prepared arrays."""
    example = LearnedExample()
    what = f"{CANDIDATES} candidates × {FEATURES} features"
    line(f"{what}: predict", lambda: example.model.predict(example.rows), seconds, CANDIDATES)
    line(f"{what}: predict, draw, propensity", example.decide, seconds, CANDIDATES)
    row = example.rows[0]
    line(f"update of {example.model.levels} weights", lambda: example.model.update(row, 0.0, 1.0), seconds, 0)
    size = example.model.levels + 1
    random = np.random.default_rng(2)
    slots = random.integers(0, size, (CANDIDATES, FEATURES + 2))
    weights, covariance = random.normal(size=size), np.eye(size)

    def bare() -> int:
        mean = weights[slots].sum(axis=1)
        variance = covariance[slots[:, :, None], slots[:, None, :]].sum(axis=(1, 2))
        return int((mean + np.sqrt(variance) * random.normal(size=CANDIDATES)).argmax())

    line("bare numpy: mean, variance and draw of prepared arrays", bare, seconds, CANDIDATES)

    def bare_update() -> None:
        gain = covariance[slots[0]].sum(axis=0)
        covariance[...] -= np.outer(gain, gain) * 1e-9

    line("bare numpy: update of prepared arrays", bare_update, seconds, 0)


def libraries(seconds: float) -> None:
    """River and Vowpal Wabbit on the same rows; both without a variance."""
    example = LearnedExample()
    try:
        linear = importlib.import_module("river.linear_model")
    except ImportError:
        print("river is not installed")
    else:
        regression = linear.LogisticRegression()
        encoded = [{f"{name}={value}": 1.0 for name, value in row.items()} for row in example.rows]
        for number in range(2_000):
            regression.learn_one(encoded[number % CANDIDATES], number % 40 == 0)
        line("river: predict_proba_one", lambda: [regression.predict_proba_one(row) for row in encoded], seconds, 200)
        line("river: learn_one", lambda: regression.learn_one(encoded[0], False), seconds, 0)
    try:
        vw = importlib.import_module("vowpalwabbit")
    except ImportError:
        print("Vowpal Wabbit is not installed")
        return
    workspace = vw.Workspace("--loss_function logistic --link logistic --quiet")
    texts = ["| " + " ".join(f"{name}_{value}" for name, value in row.items()) for row in example.rows]
    for number in range(2_000):
        workspace.learn(f"{1 if number % 40 == 0 else -1} {texts[number % CANDIDATES]}")
    line("Vowpal Wabbit: predict", lambda: [workspace.predict(text) for text in texts], seconds, CANDIDATES)
    line("Vowpal Wabbit: learn", lambda: workspace.learn(f"-1 {texts[0]}"), seconds, 0)


def surveys(seconds: float) -> None:
    """The step ``pick`` for one request, and for a batch of 100, with 1,000 and 10,000 surveys."""
    for count in (1_000, 10_000):
        size = Size(impressions=20_000, live_surveys=count, lifetime=1e9)
        application = SimulatedApplication(World(1, size), SHIPPED, "speed")
        application.offer(list(range(count)))
        numbers = iter(range(size.impressions))
        batch = _batches(numbers, 10)

        def one(application: SimulatedApplication = application, numbers: Iterator[int] = numbers) -> object:
            return application.select([next(numbers)], 0)

        def many(application: SimulatedApplication = application, batch: Iterator[list[int]] = batch) -> object:
            return application.select(next(batch), 0)

        rows = min(count, 1_000)  # the default of `most`
        line(f"step pick, {count:,} surveys, one request", one, seconds, rows)
        line(f"step pick, {count:,} surveys, 10 requests", many, seconds, 10 * rows)


def _batches(numbers: Iterator[int], size: int) -> Iterator[list[int]]:
    while True:
        yield [next(numbers) for _ in range(size)]


APPLICATION = """
name: surveys
connector.class: Stream
decide.enabled: true
key.converter: JsonConverter
key.converter.schemas.enable: false
value.converter: JsonConverter
value.converter.schemas.enable: false
inputs: {requests: requests, conversions: conversions}
tables: {surveys: surveys}
experiments:
  surveys:
    unit: user_id
    salt: speed
    candidate: survey
    current: v1
    objective.within: 1h
    versions: {v1: {model: logistic, features: [country, survey.category, country*survey.category]}}
steps:
  selections: {from: requests, pick: {experiment: surveys, candidates: surveys}}
  labelled:
    join: {type: left, left: selections, right: conversions, by: request, within: 1h, grace: 0, as: conversion}
  learned: {from: labelled, learn: {experiment: surveys}}
outputs: {selections: selections, scores: learned}
"""


def http(seconds: float) -> None:
    """Decisions over HTTP on real Kafka, one after the other on one connection."""
    with tempfile.TemporaryDirectory() as folder:
        stack = EmbeddedStack(Path(folder, "engines"), engines=["kafka"])
        stack.start()
        try:
            for client in ("confluent", "kafka-python"):
                _decide(Path(folder, client), stack.kafka.bootstrap_servers, client, seconds)
        finally:
            stack.stop()


def _decide(folder: Path, bootstrap: str, client: str, seconds: float) -> None:
    folder.mkdir()
    topics = {name: f"{client}-{name}" for name in ("requests", "conversions", "surveys", "selections", "scores")}
    _fill(bootstrap, topics)
    config = yaml.safe_load(APPLICATION)
    config["name"] = client
    config["inputs"] = {name: topics[name] for name in ("requests", "conversions")}
    config["tables"] = {"surveys": topics["surveys"]}
    config["outputs"] = {topics["selections"]: "selections", topics["scores"]: "learned"}
    config["experiments"]["surveys"]["log.topic"] = f"{client}-log"
    Path(folder, "application.yaml").write_text(json.dumps(config))
    url = "http://127.0.0.1:18083"
    worker = {
        "bootstrap.servers": bootstrap,
        "kafka.client": client,
        "listeners": url,
        "offset.storage.file.filename": str(folder / "offsets.jsonl"),
        "key.converter": "JsonConverter",
        "value.converter": "JsonConverter",
    }
    Path(folder, "worker.yaml").write_text(json.dumps(worker))
    program = Path(sysconfig.get_path("scripts")) / "headrace"
    with Path(folder, "worker.log").open("wb") as log:
        command = [str(program), "run", str(folder / "worker.yaml"), str(folder / "application.yaml")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=url, timeout=30) as session:
            numbers = iter(range(10**9))

            def decide() -> httpx.Response:
                number = next(numbers)
                body = {"request_id": f"r{number}", "user_id": number, "country": f"c{number % 20}"}
                return session.post(f"/v1/streams/{client}/decide", json=body)

            _wait_for(decide, Path(folder, "worker.log"))
            refused: list[int] = []

            def measured_decide() -> None:
                answer = decide()
                if answer.status_code != 200:
                    refused.append(answer.status_code)

            line(f"HTTP decide, {CANDIDATES} candidates, {client}", measured_decide, seconds, 0)
            if refused:
                raise RuntimeError(f"{len(refused)} decisions were refused: {set(refused)}")
    finally:
        process.terminate()
        process.wait(60)


def _fill(bootstrap: str, topics: dict[str, str]) -> None:
    clients = choose("kafka-python").open({"bootstrap.servers": bootstrap})
    admin = clients.admin({})
    admin.create_topics([NewTopic(topic, 1, 1) for topic in topics.values()])
    admin.close()
    producer = clients.producer({})
    values: list[bytes | None] = [b'{"category": "c%d"}' % (number % 8) for number in range(CANDIDATES)]
    producer.send(EncodedBatch(topics["surveys"], values, [b'"s%d"' % number for number in range(CANDIDATES)]))
    if not producer.flush(_TIMEOUT):
        raise RuntimeError("the surveys could not be written")
    producer.close(10)


def _wait_for(decide: Callable[[], httpx.Response], log: Path) -> None:
    end = time.monotonic() + _TIMEOUT
    while time.monotonic() < end:
        try:
            if decide().status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the worker does not decide: {log.read_text()[-3000:]}")


PARTS: dict[str, Callable[[float], None]] = {"model": model, "libraries": libraries, "surveys": surveys, "http": http}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure")
    options = parser.parse_args()
    for name in options.only:
        PARTS[name](options.seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
