"""Routes records to an index, alias or data stream by topic or contents."""

from __future__ import annotations

import time
from collections.abc import Iterator

import structlog

from headrace import DataError, SinkBatch, TaskError, TopicPartition
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.naming.name_rules import data_stream_name, index_name
from headrace_sinks.elasticsearch.naming.name_templates import NameTemplate, parsed_values
from headrace_sinks.elasticsearch.timings import SinkTimings

RefusedRecord = tuple[TopicPartition, int, DataError]


class IndexRouter:
    """Routes batches; caches the names of topics, so that a batch costs one dictionary lookup."""

    def __init__(
        self,
        config: ElasticsearchSinkConfig,
        log: structlog.stdlib.BoundLogger,
        limit_period: float = SinkTimings.index_limit_period,
    ) -> None:
        self._config = config
        self._log = log
        self._limit_period = limit_period
        self._resources = config.resources()
        self._template = config.name_template()
        self._names: dict[str, str | None] = {}
        self._chosen: dict[str, float] = {}
        """Index → when it was last chosen (monotonic)."""

    def split(self, batch: SinkBatch, refused: list[RefusedRecord]) -> Iterator[tuple[SinkBatch, str]]:
        """Yield parts of the batch with their index, each in offset order; append records without index to ``refused``.

        Raise TaskError when no index is configured for the topic.
        """
        try:
            name = self.of_topic(batch.topic)
        except DataError as error:
            refused.extend((batch.topic_partition, offset, error) for offset in batch.offsets)
            return
        if name is not None:
            yield batch, name
            return
        assert self._template is not None
        yield from self._by_record(self._template, batch, refused)

    def of_topic(self, topic: str) -> str | None:
        """Return the index of all records of the topic; None when records choose it. Raise DataError, TaskError."""
        if topic not in self._names:
            name = self._named(topic)
            for other, taken in self._names.items():
                if taken == name and name is not None and not self._resources:
                    self._log.warning(
                        "two topics write to one index",
                        index=name,
                        topics=[other, topic],
                        next="equal keys are one document",
                    )
            self._names[topic] = name
        return self._names[topic]

    def topics_of_index(self, topic: str) -> list[str]:
        """Return all topics seen so far that write to the index of this topic."""
        name = self._names.get(topic)
        return [other for other, taken in self._names.items() if taken == name] if name is not None else [topic]

    def pattern(self, topic: str) -> str:
        """Return a wildcard for the names of the topic's indices. Raise DataError, TaskError."""
        return self.of_topic(topic) or (self._template.pattern(topic) if self._template is not None else "")

    def _named(self, topic: str) -> str | None:
        config = self._config
        if self._resources:
            if topic not in self._resources:
                raise TaskError(
                    f"'topic.to.external.resource.mapping' names no index for topic '{topic}'",
                    code="elasticsearch.unmapped_topic",
                    hint=f"add {topic}:<index>",
                )
            return self._resources[topic]
        if config.data_stream_type != "NONE":
            return data_stream_name(
                config.data_stream_type, config.data_stream_dataset, config.data_stream_namespace, topic
            )
        if self._template is not None:
            return self._template.of_topic(topic)
        return index_name(topic)

    def _by_record(
        self, template: NameTemplate, batch: SinkBatch, refused: list[RefusedRecord]
    ) -> Iterator[tuple[SinkBatch, str]]:
        try:
            namer = template.namer(batch.topic)
        except DataError as error:
            refused.extend((batch.topic_partition, offset, error) for offset in batch.offsets)
            return
        values = parsed_values(batch) if template.needs_values else None
        rows: dict[str, list[int]] = {}
        now = time.monotonic()
        self._chosen = {name: at for name, at in self._chosen.items() if now - at <= self._limit_period}
        for row, offset in enumerate(batch.offsets):
            try:
                name = namer(batch, values, row)
                self._count_index(name, now)
            except DataError as error:
                refused.append((batch.topic_partition, offset, error))
            else:
                rows.setdefault(name, []).append(row)
        for name, places in rows.items():
            yield (batch if len(places) == len(batch) else batch.only(places)), name

    def _count_index(self, name: str, now: float) -> None:
        """Raise DataError when records have chosen too many indices, because each costs the cluster memory."""
        if name not in self._chosen and len(self._chosen) >= self._config.index_name_limit:
            raise DataError(
                f"the records have chosen {len(self._chosen)} indices within a day already",
                code="elasticsearch.too_many_indices",
                hint="a coarser 'index.name', or raise 'index.name.limit'",
            )
        self._chosen[name] = now
