"""The cost of each transform per record, without engines.

python -m benchmarks.transforms [--seconds N] [--jvm]    microseconds per record, best of the rounds

``no schema`` and ``schema``: the transform on a batch of parsed values. ``in a sink``: decoding of JSON records with
the transform, less the same without transforms, whose values stay texts: with the parsing that becomes necessary.
``--jvm``: also the same transforms of Kafka Connect; compiling needs a JDK (``javac`` on the PATH).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from benchmarks.kafka_connect import LOCK
from headrace import RecordColumns, Schema, Transform
from headrace import schema as schemas
from headrace.embedded.artifacts import locked
from headrace.embedded.jars import fetch
from headrace.embedded.optional_dependencies import java
from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.pipeline.transformations import Step, transform
from headrace.records import ConsumedBatch, TopicPartition
from headrace.registry import PluginKind, Registry
from headrace.runtime.stage_build import make_stages
from headrace.settings import WorkerSettings
from headrace.validation import Validator

_ROWS = 500
VALUE = {
    "id": 4711,
    "customer": "Li Na",
    "card": "4111 1111 1111 1111",
    "price": 19.9,
    "quantity": 3,
    "created": "2023-11-14 22:13:20",
    "address": {"street": "Long Street 5", "city": "Lyon", "country": "fr"},
    "note": "please ring twice, the bell is broken; leave it with the neighbour otherwise",
}
SCHEMA = schemas.struct(
    {
        "id": schemas.INT64,
        "customer": schemas.STRING,
        "card": schemas.STRING,
        "price": schemas.FLOAT64,
        "quantity": schemas.INT32,
        "created": schemas.STRING,
        "address": schemas.struct(dict.fromkeys(("street", "city", "country"), schemas.STRING)),
        "note": schemas.STRING.as_optional(),
    }
)
_TRANSFORMS: Mapping[str, Mapping[str, str]] = {
    "RegexRouter": {"regex": "(.*)", "replacement": "new-$1"},
    "TimestampRouter": {},
    "InsertHeader": {"header": "h", "value.literal": "x"},
    "ValueToKey": {"fields": "id"},
    "InsertField$Value": {"static.field": "source", "static.value": "shop", "offset.field": "offset"},
    "ReplaceField$Value": {"exclude": "note", "renames": "card:payment"},
    "MaskField$Value": {"fields": "card"},
    "Cast$Value": {"spec": "quantity:string,price:int32"},
    "ExtractField$Value": {"field": "address"},
    "HoistField$Value": {"field": "order"},
    "Flatten$Value": {},
    "TimestampConverter$Value": {"field": "created", "target.type": "Timestamp", "format": "yyyy-MM-dd HH:mm:ss"},
    "HeaderFrom$Value": {"fields": "id", "headers": "id", "operation": "move"},
    "Sql": {"select.total": "price * quantity", "where": "quantity > 0"},
}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each figure")
    parser.add_argument("--jvm", action="store_true", help="beside Kafka Connect's transforms")
    options = parser.parse_args()
    theirs = _jvm() if options.jvm else {}
    registry = Registry()
    texts = [json.dumps(VALUE).encode()] * _ROWS
    plain = _sink(registry, {})
    baseline = _cost(lambda: plain.decode(_consumed(texts), json_texts=True), options.seconds)
    print(f"records of {len(texts[0])} bytes in batches of {_ROWS}; microseconds per record")
    print(f"decoding without transforms: {baseline:.2f}\n")
    print(f"{'transform':28} {'no schema':>10} {'schema':>10} {'in a sink':>10}", end="")
    print(f" {'JVM, none':>10} {'JVM, schema':>12}" if theirs else "")
    for name, keys in _TRANSFORMS.items():
        step = Step(_made(registry, name, keys))
        schemaless = _cost(lambda step=step: transform([step], _columns(None), split=False), options.seconds)  # type: ignore[misc]
        described = _cost(lambda step=step: transform([step], _columns(SCHEMA), split=False), options.seconds)  # type: ignore[misc]
        stages = _sink(registry, {"type": name, **keys})
        whole = _cost(lambda stages=stages: stages.decode(_consumed(texts), json_texts=True), options.seconds)  # type: ignore[misc]
        compared = "".join(f" {cost:>10.2f}" for cost in theirs.get(name, ()))
        print(f"{name:28} {schemaless:10.2f} {described:10.2f} {whole - baseline:10.2f}{compared}")
    return 0


def _jvm() -> dict[str, list[float]]:
    """Return the costs of Kafka Connect's transforms, without and with a schema."""
    jars = os.pathsep.join(map(str, fetch(locked("connect", LOCK).jars)))
    names = [name for name in _TRANSFORMS if name != "Sql"]
    given = [{"class": name, "config": _TRANSFORMS[name], "value": VALUE} for name in names]
    with tempfile.TemporaryDirectory(prefix="connect-transforms-") as classes:
        source = Path(__file__).parent / "connect_transforms" / "TransformBenchmark.java"
        subprocess.run(["javac", "-d", classes, "-cp", jars, str(source)], check=True)
        done = subprocess.run(
            [java(), "-cp", os.pathsep.join([classes, jars]), "TransformBenchmark"],
            input="".join(f"{json.dumps(item)}\n" for item in given),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    costs = [[float(cost) for cost in line.split()] for line in done.stdout.splitlines()]
    return dict(zip(names, costs, strict=True))


def _made(registry: Registry, name: str, keys: Mapping[str, str]) -> Transform:
    made: Transform = registry.find(PluginKind.TRANSFORM, name).cls()
    made.configure(keys)
    return made


def _sink(registry: Registry, keys: Mapping[str, str]) -> Stages:
    """Return the stages of a sink with one transform, or with none."""
    properties = {"name": "bench", "connector.class": "ConsoleSink", "topics": "t", "key.converter": "StringConverter"}
    properties |= {"value.converter": "JsonConverter", "value.converter.schemas.enable": "false"}
    if keys:
        properties |= {"transforms": "t", **{f"transforms.t.{name}": value for name, value in keys.items()}}
    config = Validator(registry, make_interpolator(registry)).require_connector(properties)
    log = structlog.stdlib.get_logger("benchmark")
    policy = FaultPolicy(config.settings, lambda key: key, threading.Event(), log, TaskMetrics())
    return make_stages(registry, WorkerSettings.parse({"bootstrap.servers": "b:1"}), config.settings, policy)


def _columns(schema: Schema | None) -> RecordColumns:
    return RecordColumns(
        "orders",
        ["4711"] * _ROWS,
        [VALUE] * _ROWS,
        [1_700_000_000_000] * _ROWS,
        [()] * _ROWS,
        range(_ROWS),
        None,
        schema,
        0,
    )


def _consumed(texts: list[bytes]) -> ConsumedBatch:
    times = [1_700_000_000_000] * _ROWS
    return ConsumedBatch(
        TopicPartition("orders", 0), list(range(_ROWS)), [b"4711"] * _ROWS, [*texts], times, [()] * _ROWS
    )


def _cost(run: Callable[[], object], seconds: float) -> float:
    """Return microseconds per record: the best of all rounds within the time."""
    run()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best / _ROWS * 1e6


if __name__ == "__main__":
    sys.exit(main())
