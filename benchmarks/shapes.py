"""Kafka → Elasticsearch by the shape of documents: small rows, 10 kB of text, a hundred fields.

The limit is ``_bulk`` with prepared bodies, at the number of concurrent requests with the highest rate in this run.
headrace uses the same number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from benchmarks import paths
from benchmarks.engines import CLIENTS, Engines, line
from benchmarks.report import Line
from headrace.broker.client_choice import choose
from headrace.records import EncodedBatch

_CHUNK = 1_000


def _digest(number: int) -> str:
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()


def row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"customer {number}",
        "email": f"{_digest(number)}@example.com",
        "amount": number % 100_000 / 100,
        "active": number % 7 == 0,
        "placed_at": "2026-01-01T00:00:00.000000",
        "note": _digest(number * 7) * 4,
    }


def text(number: int) -> dict[str, Any]:
    return {"id": number, "text": " ".join(_digest(number + word)[:6] for word in range(1450))}


def fields(number: int) -> dict[str, Any]:
    return {"id": number, **{f"f{n}": n * number if n % 2 else f"value {n * number}" for n in range(100)}}


SHAPES: dict[str, tuple[Callable[[int], dict[str, Any]], float]] = {
    "rows": (row, 1.0),
    "10 kB": (text, 0.1),
    "100 fields": (fields, 0.2),
}
"""The document of each shape, and its share of ``--rows``."""


def shapes(engines: Engines) -> list[Line]:
    """Measure each shape with the faster client."""
    lines = []
    for title, (make, part) in SHAPES.items():
        count = max(2_000, round(engines.rows * part))
        topic = engines.name()
        size = _fill(engines, topic, make, count)
        best = paths.best_concurrency(engines, topic, count)
        found = engines.measure(
            {
                "raw _bulk": partial(paths.raw_bulk, engines, topic, best, count),
                "headrace": partial(paths.sink, engines, topic, CLIENTS[0], best, count),
            }
        )
        label = f"Kafka → Elasticsearch, {title} ({size:,} B) : raw _bulk, {best} at a time"
        lines.append(line(label, found["headrace"], found["raw _bulk"]))
    return lines


def _fill(engines: Engines, topic: str, make: Callable[[int], dict[str, Any]], count: int) -> int:
    """Fill the topic; return the average size of a document in bytes."""
    engines.make_topic(topic)
    producer = choose("auto").open({"bootstrap.servers": engines.bootstrap}).producer({})
    size = 0
    for first in range(0, count, _CHUNK):
        numbers = range(first, min(first + _CHUNK, count))
        values: list[bytes | None] = [orjson.dumps(make(number)) for number in numbers]
        size += sum(len(value or b"") for value in values)
        producer.send(EncodedBatch(topic, values, [orjson.dumps({"id": number}) for number in numbers]))
    if not producer.flush(300):
        raise RuntimeError("the topic could not be filled")
    producer.close(10)
    return size // count
