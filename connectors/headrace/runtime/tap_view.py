"""Records of a tap as texts, without what must not be shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.errors import DataError, NotFoundError
from headrace.pipeline.tap import TappedBatch, TaskTap
from headrace.pipeline.transformations import sink_batch
from headrace.plugin import Previewer
from headrace.records import JsonValues
from headrace.redaction import HIDDEN, Redact, is_secret_key
from headrace.schema import Schema
from headrace.states import TaskId

_LONGEST = 4_000
"""Characters of one text."""


@dataclass(frozen=True)
class TapQuery:
    """What to show of a task: at which stage, at most how much, for how long."""

    stage: str
    records: int
    size: int
    """Characters of all texts together."""
    seconds: float
    mask: tuple[str, ...] = ()
    """Fields whose contents are hidden: names, or paths with dots."""


@dataclass(frozen=True)
class TappedRecord:
    """A record at a stage. Texts are JSON where the value is an object."""

    topic: str
    partition: int | None
    offset: int | None
    timestamp: int | None
    key: str | None
    value: str | None
    schema: str | None
    headers: Sequence[tuple[str, str | None]]
    write: str | None = None
    """Of a sink that tells: what it does, such as ``index orders/42``; the value is then what it writes."""


@dataclass(frozen=True)
class TapView:
    """Records that passed a stage, and how many are left out because the texts before them have the allowed size."""

    records: Sequence[TappedRecord]
    left_out: int


class Mask:
    """Hides the contents of fields: those that are named, and those whose names are names of secrets."""

    def __init__(self, fields: Collection[str], redact: Redact) -> None:
        """``fields``: names at any depth, or paths with dots. ``redact`` hides the connector's secrets."""
        self._fields = frozenset(fields)
        self._redact = redact

    def value(self, value: Any) -> str | None:
        """Return the text of a value. What is no JSON object is hidden when fields are: they cannot be found in it."""
        return self._text(value, hides_texts=bool(self._fields))

    def key(self, value: Any) -> str | None:
        """Return the text of a key. A printable text is shown, other bytes are hidden when fields are."""
        return self._text(value, hides_texts=False)

    def header(self, name: str, value: bytes | None) -> str | None:
        """Return the text of a header's value."""
        return HIDDEN if value is not None and self.hides(name, name) else self.key(value)

    def _text(self, value: Any, *, hides_texts: bool) -> str | None:
        if value is None:
            return None
        if isinstance(value, str):
            value = value.encode(errors="surrogatepass")
        if isinstance(value, (bytes, bytearray)):
            return self._of_bytes(bytes(value), hides_texts=hides_texts)
        if isinstance(value, Mapping) and value.keys() == {"schema", "payload"}:
            value = {**value, "payload": self._masked(value["payload"], "")}  # paths begin in the payload
        return self._shortened(json.dumps(self._masked(value, ""), ensure_ascii=False, default=_plain))

    def hides(self, name: str, path: str) -> bool:
        return name in self._fields or path in self._fields or is_secret_key(name)

    def _of_bytes(self, value: bytes, *, hides_texts: bool) -> str:
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            parsed = None
        if isinstance(parsed, (dict, list)):
            return self._text(parsed, hides_texts=hides_texts) or ""
        text = _printable(value)
        if hides_texts or (text is None and self._fields):
            return f"{HIDDEN} ({len(value)} bytes that are no JSON object)"
        return self._shortened(text if text is not None else f"base64 {base64.b64encode(value).decode()}")

    def _masked(self, value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {
                str(name): HIDDEN
                if self.hides(str(name), inner := f"{path}.{name}" if path else str(name))
                else self._masked(item, inner)
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._masked(item, path) for item in value]
        return value

    def _shortened(self, text: str) -> str:
        shown = self._redact(text)
        return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}… ({len(shown):,} characters)"


def tap_task(
    tap: TaskTap | None, task: TaskId, query: TapQuery, redact: Redact, previewer: Previewer | None
) -> TapView:
    """Return the next records of a task. Blocks. ``tap`` None: this worker does not run the task: NotFoundError.

    Raise CommandError, ConflictError as :meth:`TaskTap.collect`.
    """
    if tap is None:
        hint = f"`headrace connectors status {task.connector}` lists its tasks"
        raise NotFoundError(f"task {task} does not run", code="tap.not_running", hint=hint)
    found = tap.collect(query.stage, query.records, query.seconds)
    return tap_view(found, Mask(query.mask, redact), query.size, previewer)


def tap_view(tapped: Sequence[TappedBatch], mask: Mask, size: int, previewer: Previewer | None = None) -> TapView:
    """Return the records as texts, of at most about ``size`` characters together."""
    records: list[TappedRecord] = []
    used = left_out = 0
    for record in (item for batch in tapped for item in _records(batch, mask, previewer)):
        used += sum(map(len, filter(None, (record.key, record.value, *(text for _, text in record.headers)))))
        if used > size and records:
            left_out += 1
        else:
            records.append(record)
    return TapView(records, left_out)


def _records(batch: TappedBatch, mask: Mask, previewer: Previewer | None) -> Iterator[TappedRecord]:
    columns = batch.columns
    place = batch.topic_partition
    values = columns.values.texts if isinstance(columns.values, JsonValues) else columns.values
    writes = previewer.writes(sink_batch(place, columns)) if previewer is not None and place is not None else None
    for row, value in enumerate(values):
        shown, write = mask.value(value), None
        if writes is not None:
            found = writes[row]
            if found is None:
                write = "nothing"
            elif isinstance(found, DataError):
                write, shown = f"refused: {found.code}", HIDDEN
            else:
                write = f"{found.action} {found.target}"
                shown = mask.value(found.content) if found.content else None
        yield TappedRecord(
            columns.topic,
            place.partition if place is not None else None,
            columns.places[row] if place is not None else None,
            columns.timestamps[row],
            mask.key(columns.keys[row]),
            shown,
            _schema_name(columns.value_schema),
            [(name, mask.header(name, text)) for name, text in columns.headers[row]],
            write,
        )


def _schema_name(schema: Schema | None) -> str | None:
    return None if schema is None else schema.name or schema.type.value


def _plain(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else str(value)


def _printable(value: bytes) -> str | None:
    """Return the bytes as text; None when they are none, as values of Avro are not."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return None if any(sign < " " and sign not in "\t\r\n" for sign in text) else text
