"""Interfaces of converters, transforms, predicates and config providers.

Instances of converters, transforms and predicates belong to one task. Their methods are called on the task's thread:
``configure`` once, then the work, then ``close`` once.

A RetriableError from the work means that a system behind the plugin (a schema registry, a lookup service) is
unavailable. The task shows the reason in its status, waits, and passes the same batch again. The records are neither
skipped nor written to the dead letter queue, whatever ``errors.tolerance`` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from headrace.config import ConfigModel
from headrace.errors import ConfigError, DataError, Finding
from headrace.records import BatchHeaders, Headers, JsonForm, Record, RecordColumns
from headrace.schema import Schema


class Decoded(NamedTuple):
    """Values of consecutive records with one schema: ``values[i]`` belongs to input ``start + i``."""

    start: int
    schema: Schema | None
    values: Sequence[Any]
    """A list, or JsonValues."""


class Converter(ABC):
    """Converts between bytes and values with a schema, a batch at a time. A task has one for keys, one for values and
    one for the values of headers, which is given columns of headers (``is_key`` is false, and there are no headers).

    Batches may come again, whole or in parts, so results must not depend on what was converted before.
    """

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()
    always_has_schemas: ClassVar[bool] = False
    """Whether the schema of each record is known when it is read, whatever the configuration."""

    @abstractmethod
    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        """Read the configuration, whose keys have no prefix (``schemas.enable``). Raise ConfigError."""

    @abstractmethod
    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders
    ) -> list[bytes | None]:
        """Encode the values of one topic; None stands for a null record value (a tombstone).

        ``headers`` are those of the same records; a converter may add some (``headers.add``), such as a schema's id.
        Keys are converted before values, so the value converter sees what the key converter added.

        Raise DataError when any value is bad: the framework then calls again with one value at a time, to find it.
        Raise RetriableError when a system that the converter needs is unavailable.
        """

    @abstractmethod
    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers]) -> list[Decoded]:
        """Decode into consecutive runs of one schema each, together covering the input.

        ``headers`` are those of the same records. Raise as :meth:`to_bytes`.
        """

    @property
    def reads_texts(self) -> bool:
        """Whether the bytes of a text are the text in UTF-8, so that headers need not be converted to be texts."""
        return False

    def json_form(self) -> JsonForm | None:
        """Return the form of ``JsonValues`` whose texts ``to_bytes`` passes on unchanged; None when there is none."""
        return None

    def close(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``configure`` and the conversions took. Called once, when the task ends."""


TransformResult = Record | Sequence[Record] | DataError | None
"""The result of one record: the record (changed, or another), several in order, None = dropped, or its DataError."""


class Transform(ABC):
    """A single message transform. Implement :meth:`apply`, and :meth:`apply_batch` where a batch is cheaper.

    A record and its headers may be changed in place. Its key and value must not be: the batch is given again, with the
    same keys and values, after a RetriableError.
    """

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()
    header_converter: Converter | None = None
    """What the bytes of header values are made by. The framework sets it before ``configure``; None: they are texts."""

    @property
    def reads_values(self) -> bool:
        """Whether values are read. If no transform of a task reads them, JSON values are not parsed."""
        return True

    @abstractmethod
    def configure(self, properties: Mapping[str, str]) -> None:
        """Read the configuration, whose keys have no prefix. Raise ConfigError."""

    @abstractmethod
    def apply(self, record: Record) -> Record | Sequence[Record] | None:
        """Return the changed record, several records in the order to send them, or None to drop it.

        Several come from one record only in sources, and in sinks whose task says ``takes_split_records``.
        Raise DataError when the record is bad, RetriableError when a system that the transform needs is unavailable.
        """

    def apply_batch(self, records: Sequence[Record]) -> Sequence[TransformResult]:
        """Return the result of each record, in their order; a bad record's result is its DataError.

        Called by the framework with the records that the transform's predicate selects. By default the records go
        through :meth:`apply` one by one. Raise RetriableError as there.
        """
        results: list[TransformResult] = []
        for record in records:
            try:
                results.append(self.apply(record))
            except DataError as error:
                results.append(error)
        return results

    def close(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``configure`` and the work took. Called once, when the task ends."""


class ColumnTransform(Transform):
    """A transform that changes whole columns, which costs a fraction of one that is given record by record."""

    @abstractmethod
    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        """Return the changed records, in order, as batches of one topic and one pair of schemas.

        ``places`` of the results are those of the records that they were made from, each at most once: a record is
        changed or dropped, and never split. Raise DataError when any record is bad: the framework then calls again with
        fewer records, to find it. Raise RetriableError when a system that the transform needs is unavailable.
        """

    def apply(self, record: Record) -> Record | None:
        columns = RecordColumns(
            record.topic,
            [record.key],
            [record.value],
            [record.timestamp],
            [record.headers],
            [record.offset if record.offset is not None else 0],
            record.key_schema,
            record.value_schema,
            record.partition,
        )
        made = next((batch for batch in self.apply_columns(columns) if len(batch)), None)
        if made is None:
            return None
        return Record(
            made.topic,
            made.values[0],
            made.value_schema,
            made.keys[0],
            made.key_schema,
            made.timestamps[0],
            made.headers[0],
            record.partition,
            record.offset,
        )


class Predicate(ABC):
    """Decides whether a transform applies to a record."""

    config_model: ClassVar[type[ConfigModel]]
    aliases: ClassVar[tuple[str, ...]] = ()

    @property
    def reads_values(self) -> bool:
        """As :attr:`Transform.reads_values`."""
        return True

    @abstractmethod
    def configure(self, properties: Mapping[str, str]) -> None:
        """Read the configuration, whose keys have no prefix. Raise ConfigError."""

    @abstractmethod
    def test(self, record: Record) -> bool:
        """Return whether the predicate holds for the record, which must not be changed.

        Raise DataError or RetriableError as :meth:`Transform.apply`.
        """

    def close(self) -> None:  # noqa: B027 (optional by contract)
        """Release what ``configure`` and the work took. Called once, when the task ends."""


class ColumnPredicate(Predicate):
    """A predicate that decides for a batch at a time."""

    @abstractmethod
    def select(self, batch: RecordColumns) -> Sequence[bool]:
        """Return for each record whether the predicate holds. It raises no DataError. Raise RetriableError."""

    def test(self, record: Record) -> bool:
        columns = RecordColumns(
            record.topic, [record.key], [record.value], [record.timestamp], [record.headers], [record.offset or 0]
        )
        return self.select(columns)[0]


class ConfigProvider(ABC):
    """Gives values for the placeholders ``${name:path:key}`` of configurations."""

    aliases: ClassVar[tuple[str, ...]] = ()
    allow_list: ClassVar[str] = "allow.list"
    """The parameter that lists what configurations may use, for messages."""

    def configure(self, parameters: Mapping[str, str]) -> None:
        """Read the worker's keys below ``config.providers.<name>.param.``. Raise ConfigError, also for unknown ones."""
        if parameters:
            name = next(iter(parameters))
            text = f"unknown configuration key '{name}': this config provider has no parameters"
            raise ConfigError(findings=[Finding("config.unknown_key", text, name, "remove it")])

    def allows(self, path: str, key: str) -> bool | None:
        """Return whether configurations may use this value; None = the operator gave no list.

        Without a list, only files on the worker's command line may use it, and no configuration that comes over REST.
        The default is for providers whose system decides what the worker may read.
        """
        return True

    def hint(self, path: str, key: str) -> str:
        """Return what to do about a value that :meth:`get` does not find."""
        return "check the provider, the path and the key"

    @abstractmethod
    def get(self, path: str, key: str) -> str:
        """Return the value. Raise KeyError with a sentence that says what was looked for, and where."""
