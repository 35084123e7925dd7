"""Puts batches into Elasticsearch: encodes, sends, and tells which records were refused."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from headrace import DataError, Rejection, RetryPolicy, SinkBatch, SinkContext, SinkTask, TopicPartition
from headrace_sinks.elasticsearch.bulk import LineEncoder, Lines, cut
from headrace_sinks.elasticsearch.client import Client
from headrace_sinks.elasticsearch.cluster import require_elasticsearch
from headrace_sinks.elasticsearch.config import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices import Indices
from headrace_sinks.elasticsearch.writer import Delivery, Request, Writer


class ElasticsearchSinkTask(SinkTask):
    """One task."""

    takes_json_texts = True
    _client: Client | None = None
    _writer: Writer | None = None
    _documents = 0
    _conflicts = 0

    def start(self, context: SinkContext) -> None:
        self.stop()  # what a start that failed half-way took
        config = ElasticsearchSinkConfig.parse(context.properties)
        self._context, self._config = context, config
        self._client = Client(config)
        version = require_elasticsearch(self._client)
        self._indices = Indices(self._client, config, context.log)
        self._indices.prepare()
        self._encoder = LineEncoder(config)
        self._ordered = config.write_method == "upsert"
        self._writer = Writer(
            self._client,
            RetryPolicy(config.retry_backoff / 1000, tries=config.max_retries),
            context.stop_event,
            most_requests=config.max_in_flight_requests,
            versioned=not self._ordered,
            name=str(context.task),
        )
        context.log.info("connected to Elasticsearch", address=self._client.address, version=version)

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        assert self._writer is not None
        unfit: list[tuple[TopicPartition, int, DataError]] = []
        targets = [(batch, index) for batch in batches if batch.offsets and (index := self._target(batch, unfit))]
        delivery = self._writer.begin()
        put = _Put(self._writer, delivery, self._config)
        for batch, index in targets:
            start = 0
            while start < len(batch):
                # What is encoded is sent while the next is being encoded.
                end = min(len(batch), start + (len(batch) if self._ordered else put.room()))
                lines = self._encoder.encode(batch, index, start, end)
                unfit.extend((lines.topic_partition, offset, error) for offset, error in lines.refused)
                put.add(lines)
                start = end
        put.submit_rest(ordered=self._ordered)
        try:
            for reason in self._writer.finish(delivery):
                self._context.explain(reason)
        finally:
            if delivery.missing_index:
                self._indices.forget()
        self._count(put.rows, sum(delivery.conflicts))
        malformed = [(*put.place(row), error) for row, error in sorted(delivery.refused.items())]
        rejections = [
            *self._rejections(unfit, drop=self._config.drop_invalid_message, what="records that make no document"),
            *self._rejections(
                malformed, drop=self._config.on_malformed_documents != "fail", what="documents that were refused"
            ),
        ]
        return sorted(rejections, key=lambda item: item[:2])

    def stop(self) -> None:
        if self._writer is not None:
            self._writer.stop()
            self._context.log.info(
                "disconnected from Elasticsearch", documents=self._documents, already_there=self._conflicts
            )
        if self._client is not None:
            self._client.close()
        self._client = self._writer = None

    def _target(self, batch: SinkBatch, unfit: list[tuple[TopicPartition, int, DataError]]) -> str | None:
        try:
            return self._indices.ensure(batch)
        except DataError as error:
            unfit.extend((batch.topic_partition, offset, error) for offset in batch.offsets)
            return None

    def _count(self, documents: int, conflicts: int) -> None:
        if conflicts and not self._conflicts:
            self._context.log.info(
                "documents are already there",
                count=conflicts,
                reason="the index has them in the same or a newer version",
                next="expected after a restart; if a topic was created anew, delete its index too",
            )
        self._documents += documents - conflicts
        self._conflicts += conflicts

    def _rejections(
        self, refused: list[tuple[TopicPartition, int, DataError]], *, drop: bool, what: str
    ) -> Sequence[Rejection]:
        """To the framework, unless the user wants them dropped and no dead letter queue can have them."""
        if not refused:
            return ()
        if not drop or self._config.errors_tolerance == "all":
            return [Rejection(*item) for item in refused]
        topic_partition, offset, error = refused[0]
        self._context.log.warning(
            f"{what} are dropped",
            count=len(refused),
            first=f"{topic_partition} at offset {offset}",
            code=error.code,
            reason=error.message,
            next="errors.tolerance: all with errors.deadletterqueue.topic.name keeps them",
        )
        return ()


class _Put:
    """Lines of one put on their way into requests; ``rows`` counts them and numbers them."""

    def __init__(self, writer: Writer, delivery: Delivery, config: ElasticsearchSinkConfig) -> None:
        self._writer, self._delivery, self._config = writer, delivery, config
        self._lines: list[bytes] = []
        self._ids: list[bytes] = []
        self._runs: list[Lines] = []
        self._starts: list[int] = []
        self.rows = 0

    def room(self) -> int:
        """How many more lines the next request may have."""
        return self._config.batch_size - len(self._lines)

    def add(self, run: Lines) -> None:
        """Send them once there are enough for a request."""
        self._runs.append(run)
        self._starts.append(self.rows)
        self.rows += len(run.lines)
        self._lines += run.lines
        self._ids += run.ids
        if not self._ids and not self.room():
            self._submit()

    def submit_rest(self, *, ordered: bool) -> None:
        """Send what is left."""
        if not ordered:
            self._submit()
            return
        lanes: list[list[int]] = [[] for _ in range(self._config.max_in_flight_requests)]
        for row, ident in enumerate(self._ids):
            lanes[hash(ident) % len(lanes)].append(row)
        for lane in lanes:
            whole = Request(lane, [self._lines[row] for row in lane], [self._ids[row] for row in lane])
            if lane:
                ranges = cut(whole.lines, self._config.batch_size, self._config.bulk_size_bytes)
                self._writer.submit(self._delivery, [whole.half(start, end) for start, end in ranges])

    def place(self, row: int) -> tuple[TopicPartition, int]:
        """Where the record comes from."""
        run = bisect_right(self._starts, row) - 1
        return self._runs[run].topic_partition, self._runs[run].offsets[row - self._starts[run]]

    def _submit(self) -> None:
        first = self.rows - len(self._lines)
        for start, end in cut(self._lines, self._config.batch_size, self._config.bulk_size_bytes):
            request = Request(range(first + start, first + end), self._lines[start:end])
            self._writer.submit(self._delivery, [request])
        self._lines = []
