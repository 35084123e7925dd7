"""Read all rows of a table, records of a topic, or documents of an index, in comparable form."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from headrace.broker.interfaces import KafkaClients, RebalanceListener
from headrace.records import TopicPartition
from headrace.retries import RetryPolicy, retry

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
"""Expected rows by key."""
Key = str | Sequence[str] | Callable[[Row], str]
"""One column, several columns, or a function that returns the key's text."""

_PAGE = 5_000
_TIMEOUT = 120.0
_RETRIES = RetryPolicy(longest=1.0, timeout=_TIMEOUT)


@dataclass(frozen=True, slots=True)
class DataEntry:
    """One record or document. ``value`` None: deleted. ``place``: partition and offset, or document id."""

    key: str
    value: Any
    place: str


def key_text(*values: Any) -> str:
    """Return the text of a key; several values are joined as in document ids of the Elasticsearch sink."""
    texts = ["true" if value is True else "false" if value is False else str(value) for value in values]
    if len(texts) == 1:
        return texts[0]
    return "+".join(text.replace("\\", "\\\\").replace("+", "\\+") for text in texts)


def table_rows(connection: Any, query: str, *, key: Key) -> dict[str, dict[str, Any]]:
    """Return all rows of a query by key, from any DB-API connection. Raise ValueError when two rows share a key."""
    make_key = _key_of(key)
    cursor = connection.cursor()
    try:
        cursor.execute(query)
        names = [column[0] for column in cursor.description]
        rows: dict[str, dict[str, Any]] = {}
        count = 0
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            rows[make_key(row)] = row
            count += 1
    finally:
        cursor.close()
    if len(rows) != count:
        raise ValueError(f"{count} rows have only {len(rows)} keys: {query}")
    return rows


def topic_entries(kafka_clients: KafkaClients, topic: str, *, key: Key | None = None) -> list[DataEntry]:
    """Return all records of a topic up to its current end, in order within each partition; none without a topic.

    ``key``: taken from the value's fields instead of the record's key. JSON, with or without Connect's envelope.
    Retried while the broker does not respond in time, or is creating the topic.
    """
    return retry(lambda: _read_topic(kafka_clients, topic, key), policy=_RETRIES)


def _read_topic(kafka_clients: KafkaClients, topic: str, key: Key | None) -> list[DataEntry]:
    ends = _ends(kafka_clients, topic)
    make_key = _key_of(key) if key is not None else None
    entries = []
    for partition, offset, raw_key, raw_value in _records(kafka_clients, topic, ends):
        value = _payload(raw_value)
        if make_key is not None:
            text = make_key(value)
        else:
            found = _payload(raw_key)
            text = key_text(*found.values()) if isinstance(found, dict) else key_text(found)
        entries.append(DataEntry(text, value, f"{partition} at offset {offset}"))
    return entries


def _ends(kafka_clients: KafkaClients, topic: str) -> dict[TopicPartition, int]:
    admin = kafka_clients.admin({})
    try:
        return {partition: end for partition, end in admin.end_offsets([topic]).items() if end > 0}
    finally:
        admin.close()


def _records(
    kafka_clients: KafkaClients, topic: str, ends: Mapping[TopicPartition, int]
) -> Iterator[tuple[TopicPartition, int, bytes | None, bytes | None]]:
    open_ends = dict(ends)
    if not open_ends:
        return
    consumer = kafka_clients.consumer(f"exactness-{uuid.uuid4().hex}", {"isolation.level": "read_committed"})
    try:
        consumer.subscribe([topic], None, RebalanceListener(lambda _: None, lambda _: None))
        deadline = time.monotonic() + _TIMEOUT
        while open_ends:
            if time.monotonic() > deadline:
                raise AssertionError(f"the end of {', '.join(map(str, open_ends))} was not reached: {open_ends}")
            for batch in consumer.poll(0.5, _PAGE):
                partition = batch.topic_partition
                for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
                    if offset < ends.get(partition, 0):
                        yield partition, offset, key, value
                if batch.offsets and batch.offsets[-1] + 1 >= ends.get(partition, 0):
                    open_ends.pop(partition, None)
    finally:
        consumer.close()


def index_entries(url: str, index: str, *, key: Key | None = None) -> list[DataEntry]:
    """Return all documents of an index at one moment, after a refresh; none without an index.

    ``key``: taken from the document's fields instead of its id.
    """
    try:
        _ask(url, "POST", f"{index}/_refresh")
        pit = _ask(url, "POST", f"{index}/_pit?keep_alive=2m")["id"]
    except HTTPError as error:
        with error:
            if error.code == 404:
                return []
            raise
    make_key = _key_of(key) if key is not None else None
    entries: list[DataEntry] = []
    body: dict[str, Any] = {"size": _PAGE, "pit": {"id": pit, "keep_alive": "2m"}, "sort": ["_shard_doc"]}
    try:
        while hits := _ask(url, "POST", "_search", body)["hits"]["hits"]:
            entries.extend(
                DataEntry(
                    hit["_id"] if make_key is None else make_key(hit["_source"]),
                    hit["_source"],
                    f"{hit['_index']}/_doc/{hit['_id']}",
                )
                for hit in hits
            )
            body["search_after"] = hits[-1]["sort"]
    finally:
        _ask(url, "DELETE", "_pit", {"id": pit})
    return entries


def _ask(url: str, method: str, path: str, body: Any = None) -> Any:
    request = Request(
        f"{url.rstrip('/')}/{path}",
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=_TIMEOUT) as answer:
        return json.load(answer, parse_float=Decimal)


def _payload(raw: bytes | None) -> Any:
    if raw is None:
        return None
    parsed = json.loads(raw, parse_float=Decimal)
    return parsed["payload"] if isinstance(parsed, dict) and parsed.keys() == {"schema", "payload"} else parsed


def _key_of(key: Key) -> Callable[[Row], str]:
    if isinstance(key, str):
        return lambda row: key_text(row[key])
    if callable(key):
        return key
    return lambda row: key_text(*(row[name] for name in key))
