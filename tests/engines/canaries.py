"""Passwords and keys that are recognized wherever they appear: no output of a worker may contain one.

The engines of the tests have these passwords, and every worker of a system test has all of them in its configuration.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import kafka as kafka_python

from headrace.rest.passwords import hash_token

MARKER = "c4nary"


def _canary(kind: str) -> str:
    return f"{MARKER}-{kind}-{uuid.uuid4().hex[:8]}"


DATABASE_PASSWORD = _canary("database")
"""In the URLs of PostgreSQL and MariaDB."""
KAFKA_PASSWORD = _canary("kafka")
TLS_KEY_PASSWORD = _canary("tls-key")
API_KEY = _canary("api-key")
API_KEY_VARIABLE = "HEADRACE_TEST_API_KEY"
"""The variable of the placeholder that names :data:`API_KEY`."""
REST_TOKEN = _canary("rest-token")
"""Of the REST API of every worker: each request of a test and of a command sends it."""
USERS = f"tests admin {hash_token(REST_TOKEN)}\n"
"""The users file of every worker."""


def _encoded() -> Iterator[bytes]:
    """Yield what base64 makes of the marker at each position within three bytes, as in the header of a request."""
    for before in range(3):
        encoded = base64.b64encode(b"-" * before + MARKER.encode())
        # The first and last characters also depend on the bytes around the marker.
        yield encoded[4 if before else 0 :].rstrip(b"=")[:-1]


_FORMS = re.compile(b"|".join([rb"%b[\w-]*" % MARKER.encode(), *map(re.escape, _encoded())]))


def require_none(place: str, content: str | bytes) -> None:
    """Assert that an output contains no secret, whether it is escaped, percent-encoded or base64."""
    raw = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if found := _FORMS.search(raw):
        around = raw[max(0, found.start() - 200) : found.end() + 200]
        raise AssertionError(f"{place} contains a secret: {found[0]!r} in {around!r}")


def require_none_in_topics(bootstrap: str, topics: Sequence[str]) -> None:
    """Assert that no key, value or header of topics contains a secret."""
    consumer = kafka_python.KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        places = [
            kafka_python.TopicPartition(topic, partition)
            for topic in topics
            for partition in consumer.partitions_for_topic(topic) or ()
        ]
        consumer.assign(places)
        ends = consumer.end_offsets(places) if places else {}
        while any(consumer.position(place) < end for place, end in ends.items()):
            for place, records in consumer.poll(1000).items():
                for record in records:
                    for part in _parts(record):
                        require_none(f"{place.topic} at offset {record.offset}", part)
    finally:
        consumer.close()


def _parts(record: Any) -> Iterable[bytes]:
    yield from filter(None, (record.key, record.value))
    for name, value in record.headers:
        yield name.encode()
        yield value or b""
