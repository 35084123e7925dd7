"""Letters of a dead letter queue as their headers describe them; ours and those of Kafka Connect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from headrace.pipeline.dead_letters import CONNECT_PREFIX, OUR_PREFIX, RETRIES, TIME, without_reasons
from headrace.records import ConsumedBatch, Headers, TopicPartition

_FIELD = re.compile(r"field (?:'([^']+)'|\[([^\]]+)\])")
_CONTENT = re.compile(r"(Preview of field's value:|with the value|For input string:) .*", re.DOTALL)
"""Words after which Elasticsearch repeats what the field contains."""
NO_CODE = "unknown"
"""The code of letters without headers, which Kafka Connect writes by default."""


class LetterGroup(NamedTuple):
    """What letters have in common: the error's code, and the field when the reason names one."""

    code: str
    field: str

    def __str__(self) -> str:
        return f"{self.code}:{self.field}" if self.field else self.code

    def matches(self, wanted: str | None) -> bool:
        """Return whether a user who names ``wanted`` (a code, or ``code:field``) means this group."""
        return wanted is None or wanted in (self.code, str(self))


class RecordPlace(NamedTuple):
    """Where a record is in Kafka."""

    topic_partition: TopicPartition
    offset: int

    def __str__(self) -> str:
        return f"{self.topic_partition} at offset {self.offset}"


class Letter(NamedTuple):
    """One record of a dead letter queue."""

    place: RecordPlace
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers

    def connector(self) -> str | None:
        return self._text(CONNECT_PREFIX + "connector.name")

    def group(self) -> LetterGroup:
        code = self._text(OUR_PREFIX + "code") or self._text(CONNECT_PREFIX + "exception.class.name") or NO_CODE
        found = _FIELD.search(self._text(CONNECT_PREFIX + "exception.message") or "")
        return LetterGroup(code, (found[1] or found[2]) if found else "")

    def reason(self) -> str:
        """Return the reason without contents of the record."""
        message = self._text(CONNECT_PREFIX + "exception.message") or "the letter has no headers that say why"
        return _CONTENT.sub(r"\1 …", message)

    def hint(self) -> str:
        return self._text(OUR_PREFIX + "hint") or ""

    def refused_at(self) -> int:
        """Return when the record was refused, epoch milliseconds; without our header the record's own timestamp."""
        return _number(self._text(OUR_PREFIX + TIME)) or self.timestamp

    def retries(self) -> int:
        return _number(self._text(OUR_PREFIX + RETRIES)) or 0

    def origin(self) -> RecordPlace | None:
        """Return where a sink read the record; None when no header says so."""
        topic = self._text(CONNECT_PREFIX + "topic")
        partition, offset = (_number(self._text(CONNECT_PREFIX + name)) for name in ("partition", "offset"))
        if topic is None or partition is None or offset is None:
            return None
        return RecordPlace(TopicPartition(topic, partition), offset)

    def original_headers(self) -> Headers:
        """Return the headers that the record had before it was refused."""
        return without_reasons(self.headers)

    def _text(self, name: str) -> str | None:
        # The last one counts: a queue of a queue adds its reasons at the end.
        found = next((value for header, value in reversed(self.headers) if header == name), None)
        return None if found is None else found.decode(errors="replace")


def letters_of(batch: ConsumedBatch) -> Iterator[Letter]:
    """Yield the records of a batch as letters."""
    columns = (batch.offsets, batch.keys, batch.values, batch.timestamps, batch.headers)
    for offset, key, value, timestamp, headers in zip(*columns, strict=True):
        yield Letter(RecordPlace(batch.topic_partition, offset), key, value, timestamp, headers)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None
