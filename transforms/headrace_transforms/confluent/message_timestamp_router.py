"""MessageTimestampRouter: another topic by a timestamp in the value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from headrace import ColumnTransform, ConfigModel, DataError, Finding, RecordColumns, key
from headrace_transforms.java_dates import JavaDateFormat
from headrace_transforms.keys import Names, invalid
from headrace_transforms.times import current_year


class MessageTimestampRouterConfig(ConfigModel):
    """Keys of Confluent's MessageTimestampRouter. Formats and fields have no defaults, so that none is guessed."""

    topic_format: str = key(
        "topic.format",
        default="${topic}-${timestamp}",
        doc="The new topic, in which `${topic}` and `${timestamp}` are replaced.",
        importance="high",
    )
    keys: Names = key(
        "message.timestamp.keys",
        doc="Fields with the timestamp; the first that is there counts.",
        importance="high",
    )
    message_format: str = key(
        "message.timestamp.format", doc="Pattern of the field, of Java's SimpleDateFormat.", importance="high"
    )
    timestamp_format: str = key(
        "topic.timestamp.format", doc="Pattern of the timestamp in the topic.", importance="high"
    )

    def problems(self) -> Iterable[Finding]:
        for name, pattern in (
            ("message.timestamp.format", self.message_format),
            ("topic.timestamp.format", self.timestamp_format),
        ):
            try:
                JavaDateFormat(pattern, current_year)
            except ValueError as error:
                yield invalid(name, pattern, str(error), "see Java's SimpleDateFormat")


class MessageTimestampRouter(ColumnTransform):
    """Makes topics of timestamps that are texts in maps or structs."""

    config_model = MessageTimestampRouterConfig
    aliases = ("io.confluent.connect.transforms.MessageTimestampRouter",)

    def configure(self, properties: Mapping[str, str]) -> None:
        config = MessageTimestampRouterConfig.parse(properties)
        self._keys, self._topic_format = config.keys, config.topic_format
        self._read = JavaDateFormat(config.message_format, current_year)
        self._write = JavaDateFormat(config.timestamp_format, current_year)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        with_topic = self._topic_format.replace("${topic}", batch.topic)
        made = []
        start = 0
        for text, run in groupby(map(self._text, batch.values)):
            end = start + sum(1 for _ in run)
            part = batch if end - start == len(batch) else batch.between(start, end)
            made.append(replace(part, topic=with_topic.replace("${timestamp}", text)))
            start = end
        return made

    def _text(self, value: Any) -> str:
        fields = value if isinstance(value, dict) else {}
        found = next((fields[name] for name in self._keys if fields.get(name) is not None), None)
        if not isinstance(found, str):
            raise DataError(
                f"MessageTimestampRouter: the value has no text in {', '.join(self._keys)}",
                code="transform.no_timestamp",
            )
        try:
            return self._write.format(self._read.parse(found))
        except ValueError as error:
            raise DataError(f"MessageTimestampRouter: {error}", code="transform.bad_timestamp") from error
