"""Prints each record as a line of JSON: for looking into a topic, and as an example for sinks of your own."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import orjson

from headrace import ConfigModel, DataError, Rejection, SinkBatch, SinkConnector, SinkContext, SinkTask, key

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE


class ConsoleSinkConfig(ConfigModel):
    """Configuration of the console sink."""

    values: bool = key(
        "values", default=True, doc="Print the values of records. false: only topic, partition, offset and key."
    )


class ConsoleSinkTask(SinkTask):
    """Writes to standard output."""

    takes_split_records = True

    def start(self, context: SinkContext) -> None:
        self._config = ConsoleSinkConfig.parse(context.properties)

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        lines: list[bytes] = []
        rejections: list[Rejection] = []
        for batch in batches:
            partition = batch.topic_partition.partition
            for offset, record_key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
                line = {"topic": batch.topic, "partition": partition, "offset": offset, "key": record_key}
                if self._config.values:
                    line["value"] = value
                try:
                    lines.append(orjson.dumps(line, _text, _OPTIONS))
                except TypeError as error:
                    refusal = DataError(f"the record cannot be printed as JSON: {error}", code="console.not_json")
                    rejections.append(Rejection(batch.topic_partition, offset, refusal))
        # One write, so that lines of several tasks are not mixed.
        sys.stdout.write(b"".join(lines).decode())
        sys.stdout.flush()
        return rejections


class ConsoleSinkConnector(SinkConnector):
    """Prints records to standard output."""

    config_model = ConsoleSinkConfig
    task_class = ConsoleSinkTask


def _text(value: Any) -> str:
    """Return the text of a value for which JSON has no type."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (Decimal, date, datetime, time)):
        return str(value)
    raise TypeError
