"""ExtractTopic: the topic is in the key, the value or a header of the record."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

from headrace import ColumnTransform, ConfigModel, DataError, RecordColumns, key
from headrace_transforms.simple_header_converter import header_value

_CONFLUENT, _AIVEN = "io.confluent.connect.transforms.", "io.aiven.kafka.connect.transforms."


class ExtractTopicConfig(ConfigModel):
    """Keys of Confluent's and Aiven's ExtractTopic."""

    field: str = key(
        "field", default="", doc="Field or header with the topic (Confluent); empty: the whole key or value is it."
    )
    field_name: str = key("field.name", default="", doc="The same, in Aiven's ExtractTopic.")
    header_name: str = key("header.name", default="", doc="Name of the header, in ExtractTopic$Header.")
    skip: bool = key(
        "skip.missing.or.null",
        default=False,
        doc="A record without it stays in its topic; false: it is refused.",
    )
    format: Literal["PLAIN"] = key(
        "field.format", default="PLAIN", doc="How the field is named; JSON paths are not supported."
    )


class ExtractTopic(ColumnTransform):
    """Routes records to the topic that they name."""

    config_model = ExtractTopicConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        config = ExtractTopicConfig.parse(properties)
        self._field, self._skip = config.field or config.field_name or config.header_name, config.skip

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        topics = [self._topic(value, batch.topic) for value in self._named(batch)]
        made = []
        start = 0
        for topic, run in groupby(topics):
            end = start + sum(1 for _ in run)
            part = batch if end - start == len(batch) else batch.between(start, end)
            made.append(replace(part, topic=topic))
            start = end
        return made

    @abstractmethod
    def _named(self, batch: RecordColumns) -> Sequence[Any]:
        """Return what each record names as its topic."""

    def _in(self, values: Sequence[Any]) -> Sequence[Any]:
        if not self._field:
            return values
        return [value.get(self._field) if isinstance(value, dict) else None for value in values]

    def _topic(self, value: Any, present: str) -> str:
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if self._skip and (value is None or value == ""):
            return present
        where = f"'{self._field}'" if self._field else "the record"
        raise DataError(
            f"ExtractTopic: {where} has no text for the topic",
            code="transform.bad_route",
            hint="skip.missing.or.null=true leaves such records in their topic",
        )


class ExtractTopicKey(ExtractTopic):
    """ExtractTopic for keys."""

    aliases = (f"{_CONFLUENT}ExtractTopic$Key", f"{_AIVEN}ExtractTopic$Key")
    reads_values = False

    def _named(self, batch: RecordColumns) -> Sequence[Any]:
        return self._in(batch.keys)


class ExtractTopicValue(ExtractTopic):
    """ExtractTopic for values."""

    aliases = (f"{_CONFLUENT}ExtractTopic$Value", f"{_AIVEN}ExtractTopic$Value")

    def _named(self, batch: RecordColumns) -> Sequence[Any]:
        return self._in(batch.values)


class ExtractTopicHeader(ExtractTopic):
    """ExtractTopic for headers: the last one of the name counts."""

    aliases = (f"{_CONFLUENT}ExtractTopic$Header",)
    reads_values = False

    def _named(self, batch: RecordColumns) -> Sequence[Any]:
        found = []
        for headers in batch.headers:
            named = [value for name, value in headers if name == self._field and value is not None]
            found.append(self._text(batch.topic, named[-1]) if named else None)
        return found

    def _text(self, topic: str, value: bytes) -> Any:
        if self.header_converter is None or self.header_converter.reads_texts:
            return value.decode(errors="replace")
        return header_value(self.header_converter, topic, self._field, value)
