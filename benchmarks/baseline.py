"""Limits and baselines: the raw rate of the systems, and plain loops over the libraries that headrace uses.

The loops have no schemas, offsets, metrics or dead letters, and retry only overloaded bulk requests.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import orjson
from elastic_transport import HttpHeaders, NodeConfig, Urllib3HttpNode
from sqlalchemy import create_engine, text

from benchmarks.runners import Clock

FETCH = 1000
"""Rows of a fetch; the default of batch.max.rows."""
BULK = 2000
"""Documents of a request; the default of batch.size."""

Send = Callable[[bytes, bytes], None]


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value).encode())
    raise TypeError


def copy(clock: Clock, libpq: str, table: str) -> int:
    """Read ``COPY … TO STDOUT`` and discard it: the limit of PostgreSQL and its driver. Return the number of rows."""
    import psycopg

    count = 0
    with psycopg.connect(libpq) as connection, connection.cursor() as cursor:
        clock.start()
        with cursor.copy(f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT".encode()) as data:
            for block in data:
                count += bytes(block).count(b"\n")
        clock.stop()
    return count


def postgres(clock: Clock, database: str, table: str, client: str, bootstrap: str, topic: str) -> int:
    """Driver fetch → orjson → producer, until all records are acknowledged. Return the number of rows."""
    engine = create_engine(database)
    send, finish = _producer(client, bootstrap, topic)
    count = 0
    with engine.connect() as connection:
        result = connection.execution_options(stream_results=True, max_row_buffer=FETCH).execute(
            text(f"SELECT * FROM {table} ORDER BY id")
        )
        columns = list(result.keys())
        while rows := result.fetchmany(FETCH):
            clock.start()
            for row in rows:
                document = dict(zip(columns, row, strict=True))
                value = orjson.dumps(document, default=_default, option=orjson.OPT_UTC_Z)
                send(value, orjson.dumps({"id": document["id"]}))
            count += len(rows)
    finish()
    clock.stop()
    engine.dispose()
    return count


def sqlite(clock: Clock, path: str, client: str, bootstrap: str, topic: str) -> int:
    """Do the same from a SQLite file, without SQLAlchemy."""
    send, finish = _producer(client, bootstrap, topic)
    count = 0
    connection = sqlite3.connect(path)
    cursor = connection.execute("SELECT * FROM rows ORDER BY id")
    columns = [column[0] for column in cursor.description]
    while rows := cursor.fetchmany(FETCH):
        clock.start()
        for row in rows:
            document = dict(zip(columns, row, strict=True))
            send(orjson.dumps(document), orjson.dumps({"id": document["id"]}))
        count += len(rows)
    finish()
    clock.stop()
    connection.close()
    return count


def _producer(client: str, bootstrap: str, topic: str) -> tuple[Send, Callable[[], None]]:
    """Return ``send(value, key)``, and a function that waits for acknowledgements. Settings: headrace's."""
    if client == "kafka-python":
        from kafka import KafkaProducer

        slow = KafkaProducer(
            bootstrap_servers=bootstrap, acks="all", linger_ms=5, batch_size=262_144, metrics_enabled=False
        )
        futures: list[Any] = []

        def end() -> None:
            slow.flush()
            for future in futures:
                if future.exception is not None:
                    raise future.exception
            slow.close()

        return lambda value, key: futures.append(slow.send(topic, value, key)), end
    from confluent_kafka import Producer

    failures: list[Any] = []
    fast = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 262_144,
            "delivery.report.only.error": True,
            "queue.buffering.max.messages": 0,
        }
    )
    produce = fast.produce
    failed = lambda error, message: failures.append(error)  # noqa: E731

    def finish() -> None:
        fast.flush()
        if failures:
            raise RuntimeError(str(failures[0]))

    return lambda value, key: produce(topic, value, key, -1, failed), finish


def sink(clock: Clock, client: str, bootstrap: str, topic: str, count: int, host: str, port: int, index: str) -> int:
    """Consumer → ``_bulk``, one request after the other, until ``count`` documents are written. Return their number."""
    post = _poster(host, port)
    written = 0
    for records in _consumer(client, bootstrap, topic):
        clock.start()
        post(b"".join(_action(index, key, offset) + value + b"\n" for key, value, offset in records))
        written += len(records)
        if written >= count:
            break
    clock.stop()
    return written


def raw_bulk(
    clock: Clock, client: str, bootstrap: str, topic: str, count: int, host: str, port: int, index: str, threads: int
) -> int:
    """Send prepared bodies, ``threads`` at a time: the limit of Elasticsearch. Return the number of documents."""
    bodies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    written = 0
    for records in _consumer(client, bootstrap, topic):
        bodies.put(b"".join(_action(index, key, offset) + value + b"\n" for key, value, offset in records))
        written += len(records)
        if written >= count:
            break
    failures: list[BaseException] = []

    def work() -> None:
        post = _poster(host, port)
        try:
            while (body := bodies.get()) is not None:
                post(body)
        except BaseException as error:  # raised below, on the measuring thread
            failures.append(error)

    for _ in range(threads):
        bodies.put(None)
    clock.start()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    clock.stop()
    if failures:
        raise failures[0]
    return written


def _action(index: str, key: bytes, offset: int) -> bytes:
    return b'{"index":{"_index":"%b","_id":"%d","version":%d,"version_type":"external"}}\n' % (
        index.encode(),
        orjson.loads(key)["id"],
        offset,
    )


def _poster(host: str, port: int) -> Callable[[bytes], None]:
    node = Urllib3HttpNode(NodeConfig("http", host, port))
    headers = HttpHeaders({"content-type": "application/x-ndjson", "accept": "application/json"})

    def post(body: bytes) -> None:
        for wait in (0.1, 0.2, 0.5, 1.0, 2.0, None):
            meta, answer = node.perform_request(
                "POST", "/_bulk?filter_path=errors,error", body=body, headers=headers, request_timeout=60
            )
            if meta.status == 200:
                break
            if meta.status not in (429, 503) or wait is None:
                raise RuntimeError(f"HTTP {meta.status}: {answer[:500].decode(errors='replace')}")
            time.sleep(wait)  # overloaded
        if orjson.loads(answer)["errors"]:
            raise RuntimeError("a document was refused")

    return post


def _consumer(client: str, bootstrap: str, topic: str) -> Iterator[list[tuple[bytes, bytes, int]]]:
    """Yield key, value and offset of up to :data:`BULK` records at a time, from the beginning, without end."""
    if client == "kafka-python":
        from kafka import KafkaConsumer, TopicPartition

        slow = KafkaConsumer(
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=4_194_304,
            metrics_enabled=False,
        )
        slow.assign([TopicPartition(topic, number) for number in sorted(slow.partitions_for_topic(topic))])
        while True:
            for found in slow.poll(timeout_ms=500, max_records=BULK).values():
                yield [(record.key, record.value, record.offset) for record in found]
    import confluent_kafka

    fast = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "baseline", "enable.auto.commit": False, "check.crcs": True}
    )
    partitions = fast.list_topics(topic, timeout=30).topics[topic].partitions
    fast.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in partitions])
    while True:
        messages = fast.consume(BULK, 0.5)
        if messages:
            yield [(message.key(), message.value(), message.offset()) for message in messages]  # type: ignore[misc]
