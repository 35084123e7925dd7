"""The bare loops: what a programmer would write in an afternoon with the same libraries, and nothing else in them.

No schema, no positions, no retries, no metrics, no dead letters. They are the limit, not a product.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
from elastic_transport import HttpHeaders, NodeConfig, Urllib3HttpNode
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import create_engine, text

FETCH = 1000


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value).encode())
    raise TypeError


def source(database: str, table: str, bootstrap: str, topic: str) -> int:
    """Driver fetch → orjson → producer; returns when all is acknowledged. The number of rows."""
    engine = create_engine(database)
    # What headrace's own producer uses, so that only the framework differs.
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=5, batch_size=262_144, metrics_enabled=False
    )
    count = 0
    try:
        with engine.connect() as connection:
            result = connection.execution_options(stream_results=True, max_row_buffer=FETCH).execute(
                text(f"SELECT * FROM {table} ORDER BY id")
            )
            columns = list(result.keys())
            futures = []
            while rows := result.fetchmany(FETCH):
                for row in rows:
                    document = dict(zip(columns, row, strict=True))
                    value = orjson.dumps(document, default=_default, option=orjson.OPT_UTC_Z)
                    futures.append(producer.send(topic, value, orjson.dumps({"id": document["id"]})))
                count += len(rows)
        producer.flush()
        for future in futures:
            if future.exception is not None:
                raise future.exception
    finally:
        producer.close()
        engine.dispose()
    return count


def sink(bootstrap: str, topic: str, count: int, host: str, port: int, index: str) -> int:
    """Consumer → raw ``_bulk``; returns when ``count`` documents are answered. The number of documents."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4_194_304,
        metrics_enabled=False,
    )
    node = Urllib3HttpNode(NodeConfig("http", host, port))
    headers = HttpHeaders({"content-type": "application/x-ndjson", "accept": "application/json"})
    written = 0
    try:
        consumer.assign([TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))])
        while written < count:
            lines = []
            for records in consumer.poll(timeout_ms=500, max_records=2000).values():
                for record in records:
                    action = b'{"index":{"_index":"%b","_id":"%d","version":%d,"version_type":"external"}}\n' % (
                        index.encode(),
                        orjson.loads(record.key)["id"],
                        record.offset,
                    )
                    lines.append(action + record.value + b"\n")
            if lines:
                _, answer = node.perform_request(
                    "POST", "/_bulk?filter_path=errors", body=b"".join(lines), headers=headers, request_timeout=60
                )
                if orjson.loads(answer)["errors"]:
                    raise RuntimeError("a document was refused")
                written += len(lines)
    finally:
        consumer.close(autocommit=False)
        node.close()
    return written
