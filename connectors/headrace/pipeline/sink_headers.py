"""Header values of consumed records as texts, when ``header.converter`` writes them in another form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import DataError
from headrace.freshness import HEADER as HOPS
from headrace.pipeline.fault_policy import Failure, Stage
from headrace.pipeline.transformations import class_path
from headrace.plugin import Converter
from headrace.records import BatchHeaders, ConsumedBatch, Headers


@dataclass(frozen=True)
class HeaderTexts:
    """Converts header values to texts, a batch at a time. Transforms and sinks are given texts only."""

    converter: Converter
    """What the values were written by."""
    plain: Converter
    """Writes texts."""

    def texts_of(self, batch: ConsumedBatch, failures: list[Failure]) -> tuple[ConsumedBatch, list[Headers]]:
        """Return the records whose headers can be read, and their headers as texts. Raise RetriableError.

        The headers of the batch itself stay as they are: the converters of keys and values read them.
        """
        topic = batch.topic_partition.topic
        try:
            return batch, self._converted(topic, batch.headers)
        except DataError:
            pass  # find the records one at a time
        kept: list[int] = []
        made: list[Headers] = []
        for row, headers in enumerate(batch.headers):
            try:
                made += self._converted(topic, [headers])
                kept.append(row)
            except DataError as error:
                executor, offset = class_path(self.converter), batch.offsets[row]
                failures.append(Failure(Stage.HEADER_CONVERTER, executor, error, batch.topic_partition, offset))
        return batch.only(kept), made

    def _converted(self, topic: str, rows: list[Headers]) -> list[Headers]:
        values = [value for headers in rows for name, value in headers if _is_foreign(name, value)]
        if not values:
            return rows
        texts = iter(self._texts(topic, values))
        return [
            [(name, next(texts) if _is_foreign(name, value) else value) for name, value in headers] for headers in rows
        ]

    def _texts(self, topic: str, values: Sequence[bytes | None]) -> list[bytes | None]:
        texts: list[bytes | None] = []
        for run in self.converter.from_bytes(topic, values, [()] * len(values)):
            texts += self.plain.to_bytes(topic, run.schema, run.values, BatchHeaders(None, len(run.values)))
        return texts


def _is_foreign(name: str, value: bytes | None) -> bool:
    """Return whether the configured converter wrote the header: those of headrace are texts."""
    return value is not None and name != HOPS
