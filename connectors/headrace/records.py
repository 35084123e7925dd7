"""Batches of records: shared fields once, fields of each record as columns.

Batches stay batches on their whole path, so per-record cost is a list element, not an object. A single
:class:`Record` exists only where a transform or predicate asks for one.

::

    SourceBatch ──converters──▶ EncodedBatch ──producer──▶ Kafka ──consumer──▶ ConsumedBatch ──converters──▶ SinkBatch
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, overload

from headrace.errors import DataError
from headrace.schema import Schema

Headers = Sequence[tuple[str, bytes | None]]
"""Ordered, names may repeat."""


class BatchHeaders(Sequence[Headers]):
    """The headers of a batch's records, row by row, as a converter reads and extends them.

    A batch without headers costs nothing until a header is added. The batch that the headers come from is not changed.
    """

    __slots__ = ("_extended", "_given", "_headers", "_rows")

    def __init__(self, column: list[Headers] | None, rows: int) -> None:
        self._given = column
        self._rows = rows
        self._headers = column
        self._extended = False

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, row: int) -> Headers: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Headers]: ...
    def __getitem__(self, row: int | slice) -> Headers | Sequence[Headers]:
        if self._headers is None:
            self._headers = [()] * self._rows
        return self._headers[row]

    def add(self, row: int, name: str, value: bytes | None) -> None:
        """Append a header to the record of ``row``."""
        if not self._extended:
            self._headers = list(self[:])
            self._extended = True
        assert self._headers is not None
        self._headers[row] = [*self._headers[row], (name, value)]

    def column(self) -> list[Headers] | None:
        """Return the headers of all rows; None when the batch has none and none was added."""
        return self._headers if self._extended else self._given


SourcePartition = Mapping[str, Any]
"""What a source task reads, as a JSON object of primitives. The order of its keys is part of its identity."""

SourceOffset = Mapping[str, Any]
"""The position in a source partition, as a JSON object of primitives."""


class TopicPartition(NamedTuple):
    """A Kafka partition."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, eq=False)
class JsonForm:
    """How one converter writes values as JSON, for a source whose system can write rows the same way.

    Two forms are the same only when they are one object.
    """

    decimals_as_numbers: bool
    """Else base64 of the unscaled bytes."""
    write: Callable[[Schema | None, Sequence[Any]], list[bytes | None]]
    """Encodes values byte for byte as the converter does; None stays None. Raises DataError."""
    read: Callable[[Schema | None, Sequence[bytes | None]], list[Any]]
    """Decodes; what the form cannot express, such as microseconds of a Timestamp, is lost. Raises DataError."""


class JsonValues(Sequence[Any]):
    """Values as JSON texts, which are parsed only when a value is read.

    A converter of the same form, or a sink that writes JSON, passes the texts on. ``texts`` must not be changed; each
    is one object on one line (see :func:`are_json_objects`), None is a null value (a tombstone). Reading a value raises
    DataError when a text is not valid JSON. Slices stay text.
    """

    __slots__ = ("_parsed", "form", "schema", "texts")

    def __init__(self, texts: Sequence[bytes | None], schema: Schema | None, form: JsonForm) -> None:
        self.texts = texts
        self.schema = schema
        self.form = form
        self._parsed: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> JsonValues: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return JsonValues(self.texts[place], self.schema, self.form)
        return self.parsed()[place]

    def __eq__(self, other: object) -> bool:
        """Compare as the list of the values."""
        return isinstance(other, Sequence) and self.parsed() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def only(self, rows: Sequence[int]) -> JsonValues:
        """Return the values of these rows, still as text."""
        return JsonValues([self.texts[row] for row in rows], self.schema, self.form)

    def parsed(self) -> list[Any]:
        """Return the values. Raise DataError."""
        if self._parsed is None:
            self._parsed = self.form.read(self.schema, self.texts)
        return self._parsed


_OPEN, _CLOSE = b"{}"
_LARGE = 2048
"""Bytes of a text above which copying it costs more than searching it in place."""


def are_json_objects(texts: Sequence[bytes | None]) -> bool:
    """Return whether each text (null values aside) begins and ends as an object, is on one line and has no comment.

    This is far cheaper than parsing; what is between the braces is not checked. Comments are looked for because
    Elasticsearch accepts and stores them, and other readers of the document fail on them.
    """
    present = [text for text in texts if text]
    if {text[0] for text in present} - {_OPEN} or {text[-1] for text in present} - {_CLOSE}:
        return False
    return not _any_odd(present)


def which_are_json_objects(texts: Sequence[bytes | None]) -> list[bool]:
    """Return the result of :func:`are_json_objects` for each text."""
    which = [not text or (text[0] == _OPEN and text[-1] == _CLOSE) for text in texts]
    if _any_odd([text for text in texts if text]):
        return [fits and not (text and _is_odd(text)) for text, fits in zip(texts, which, strict=True)]
    return which


def _any_odd(texts: Sequence[bytes]) -> bool:
    # One search in a joined text is faster than many searches, as long as little has to be copied.
    if sum(map(len, texts)) > _LARGE * len(texts):
        return any(map(_is_odd, texts))
    return _is_odd(b"".join(texts))


def _is_odd(text: bytes) -> bool:
    # A search for one byte runs at the speed of memory, a search for two does not.
    return b"\n" in text or (b"*" in text and b"/*" in text)


@dataclass(slots=True)
class Record:
    """One record, as transforms and predicates are given it."""

    topic: str
    value: Any
    value_schema: Schema | None = None
    key: Any = None
    key_schema: Schema | None = None
    timestamp: int | None = None  # epoch milliseconds
    headers: Headers = ()
    partition: int | None = None  # Kafka partition, when known
    offset: int | None = None  # Kafka offset, sinks only


@dataclass(slots=True)
class RecordColumns:
    """Records of one topic with one pair of schemas, in order, as columns of equal length: what transforms change.

    Columns are never changed in place: a transform returns a batch with other ones (``dataclasses.replace``).
    """

    topic: str
    keys: Sequence[Any]
    values: Sequence[Any]
    """:class:`JsonValues` only where no transform of the task reads values (``ColumnTransform.reads_values``)."""
    timestamps: Sequence[int | None]
    headers: Sequence[Headers]
    places: Sequence[int]
    """Where each record comes from: its row in a source's batch, its Kafka offset in a sink."""
    key_schema: Schema | None = None
    value_schema: Schema | None = None
    partition: int | None = None
    """The Kafka partition that the records were read from; None in a source."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def offsets(self) -> Sequence[int] | None:
        """Kafka offsets; None in a source."""
        return None if self.partition is None else self.places

    def between(self, start: int, end: int) -> RecordColumns:
        """Return the batch with only the records of the rows from ``start`` to before ``end``."""
        part = slice(start, end)
        return replace(
            self,
            keys=self.keys[part],
            values=self.values[part],
            timestamps=self.timestamps[part],
            headers=self.headers[part],
            places=self.places[part],
        )


class SourceRejection(NamedTuple):
    """A row that a source task cannot turn into a record, with the reason."""

    row: str
    """What identifies the row to the user: the table and its key, the file and its line. It goes to logs and to the
    task's status, so it holds no other contents of the row."""
    error: DataError


@dataclass(slots=True)
class SourceBatch:
    """The rows that one ``poll`` read from one source partition, in order.

    ``source_offset`` is the position *after the whole batch*: once every record is acknowledged, the task may
    resume there. None = nothing to store. ``keys`` None = all keys null; ``timestamps`` (epoch ms) None = the
    producer's clock. ``values`` may be :class:`JsonValues`. ``more_offsets`` are further positions to store with it,
    of other partitions or of its own; an offset of None there deletes the stored position.

    ``rejections`` are rows of the same read that cannot become records. The position after the batch covers them
    too. The framework applies ``errors.tolerance`` to them before it sends the batch: with ``none`` the task fails,
    the status names the first row, and the position stays before the batch, so that a restart reads the row again;
    with ``all`` they are counted, logged (``errors.log.enable``) and skipped, as Kafka Connect does with records that
    a source's converter refuses. A batch may consist of rejections alone (``values`` empty). ``len`` counts records.
    """

    topic: str
    values: Sequence[Any]
    value_schema: Schema | None = None
    keys: list[Any] | None = None
    key_schema: Schema | None = None
    source_partition: SourcePartition | None = None
    source_offset: SourceOffset | None = None
    timestamps: list[int] | None = None
    headers: list[Headers] | None = None
    more_offsets: Sequence[tuple[SourcePartition, SourceOffset | None]] = ()
    rejections: Sequence[SourceRejection] = ()
    identity: Sequence[str] = ()
    """Fields of the values that identify a row to the user, such as the primary key; empty = the record's key does."""
    changed: int | None = None
    """When the newest row of the batch changed in its system, epoch milliseconds, if the rows say so. The age of the
    data counts from it, else from the read."""
    unfinished: bool = False
    """Whether the position does not cover all rows of this batch, because further rows have the same position. A
    transaction (``exactly.once.source.support``) then goes on until a batch of the partition that is finished."""

    def positions(self) -> list[tuple[SourcePartition, SourceOffset | None]]:
        """Return the positions to store, in this order, once every record is acknowledged."""
        if self.source_partition is None or self.source_offset is None:
            return list(self.more_offsets)
        return [(self.source_partition, self.source_offset), *self.more_offsets]

    def __len__(self) -> int:
        return len(self.values)


_AROUND_A_RECORD = 250
"""Bytes: two bytes objects, their places in lists, and what librdkafka keeps for each message."""


@dataclass(slots=True)
class EncodedBatch:
    """Records of one topic in wire form, ready to be produced in order."""

    topic: str
    values: list[bytes | None]
    keys: list[bytes | None] | None = None
    timestamps: list[int] | None = None
    headers: list[Headers] | None = None
    rows: Sequence[int] = ()
    """For each record, its row in the batch that it was made of; empty when it was made of none."""

    def __len__(self) -> int:
        return len(self.values)

    def size(self) -> int:
        """Return the approximate size in memory: keys, values, and what Python and the Kafka client add per record."""
        total = len(self.values) * _AROUND_A_RECORD + sum(map(len, filter(None, self.values)))
        return total + (sum(map(len, filter(None, self.keys))) if self.keys else 0)


@dataclass(slots=True)
class ConsumedBatch:
    """Consecutive records of one Kafka partition, as they were consumed. All columns have equal length."""

    topic_partition: TopicPartition
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    headers: list[Headers]
    end_offset: int | None = None  # the partition's high watermark when it was read; lag = end_offset - last offset - 1

    def __len__(self) -> int:
        return len(self.values)

    def only(self, rows: Sequence[int]) -> ConsumedBatch:
        """Return the batch with only the records of these rows, in this order."""
        return ConsumedBatch(
            self.topic_partition,
            [self.offsets[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
            [self.timestamps[row] for row in rows],
            [self.headers[row] for row in rows],
            self.end_offset,
        )


@dataclass(slots=True)
class SinkBatch:
    """Records of one topic with one pair of schemas, converted, in offset order, as ``put`` receives them.

    ``topic_partition`` and ``offsets`` are where the records come from and identify them in a
    :class:`Rejection`; ``topic`` is where they go (a transform may have changed it). ``values`` are
    :class:`JsonValues` only for tasks that say ``takes_json_texts``, and only when no transform has touched them.
    ``end_offset`` is the partition's end when they were read, None when it is not known.
    """

    topic_partition: TopicPartition
    topic: str
    offsets: list[int]
    keys: list[Any]
    values: Sequence[Any]
    timestamps: list[int]
    headers: list[Headers]
    key_schema: Schema | None = None
    value_schema: Schema | None = None
    end_offset: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    def between(self, start: int, end: int) -> SinkBatch:
        """Return the batch with only the records of the rows from ``start`` to before ``end``."""
        return SinkBatch(
            self.topic_partition,
            self.topic,
            self.offsets[start:end],
            self.keys[start:end],
            self.values[start:end],
            self.timestamps[start:end],
            self.headers[start:end],
            self.key_schema,
            self.value_schema,
            self.end_offset,
        )

    def only(self, rows: Sequence[int]) -> SinkBatch:
        """Return the batch with only the records of these rows, in this order. JSON texts stay texts."""
        values = self.values
        return SinkBatch(
            self.topic_partition,
            self.topic,
            [self.offsets[row] for row in rows],
            [self.keys[row] for row in rows],
            values.only(rows) if isinstance(values, JsonValues) else [values[row] for row in rows],
            [self.timestamps[row] for row in rows],
            [self.headers[row] for row in rows],
            self.key_schema,
            self.value_schema,
            self.end_offset,
        )


class Rejection(NamedTuple):
    """A record that a sink or a stage refused, with the reason. All others of the batch are durable."""

    topic_partition: TopicPartition
    offset: int
    error: DataError


@dataclass(frozen=True, slots=True)
class NotWritten:
    """Records of a put that the sink neither wrote nor rejected, and need not write again."""

    cause: str
    """A stable code such as ``version_conflict``."""
    count: int
    example: str = ""
    """One of them, for the user: its place and what is special about it."""
    skipped: bool = False
    """Whether the sink dropped them because its configuration says so. False: the system has them already."""


class PutResult(tuple[Rejection, ...]):
    """The rejections of a put, and the records that were not written for another reason.

    A sink that writes every record it does not reject returns the rejections only.
    """

    not_written: tuple[NotWritten, ...]

    def __new__(cls, rejections: Iterable[Rejection] = (), not_written: Iterable[NotWritten] = ()) -> Self:
        """Causes with a count of 0 are left out."""
        result = super().__new__(cls, rejections)
        result.not_written = tuple(item for item in not_written if item.count)
        return result
