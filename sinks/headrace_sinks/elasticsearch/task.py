"""Puts batches into Elasticsearch: encodes, sends, and tells which records were refused."""

from __future__ import annotations

from collections.abc import Sequence

from headrace import Linger, PendingPut, Rejection, RetryPolicy, SinkBatch, SinkContext, SinkTask
from headrace_sinks.elasticsearch.cluster.checks import require_elasticsearch
from headrace_sinks.elasticsearch.cluster.client import Client
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.readiness import Indices
from headrace_sinks.elasticsearch.indices.targets import Refused, Targets
from headrace_sinks.elasticsearch.sending.lines import LineEncoder
from headrace_sinks.elasticsearch.sending.pace import Pace
from headrace_sinks.elasticsearch.sending.put import Means, Outcome, Put
from headrace_sinks.elasticsearch.sending.writer import Writer


class ElasticsearchSinkTask(SinkTask):
    """One task."""

    takes_json_texts = True
    _client: Client | None = None
    _writer: Writer | None = None
    _documents = 0
    _conflicts = 0
    _told_beyond = False

    def start(self, context: SinkContext) -> None:
        self.stop()  # what a start that failed half-way took
        config = ElasticsearchSinkConfig.parse(context.properties)
        self._context, self._config = context, config
        self._client = Client(config)
        version = require_elasticsearch(self._client, streams=config.streams())
        most = config.max_in_flight_requests
        ordered = config.merges()
        self._writer = Writer(
            self._client,
            RetryPolicy(config.retry_backoff / 1000, tries=config.max_retries),
            context.stop_event,
            Pace(most, config.batch_size, config.bulk_size_bytes),
            most_requests=most,
            versioned=not ordered,
            pipeline=config.ingest_pipeline,
            name=str(context.task),
        )
        targets = Targets(config, context.log)
        indices = Indices(self._client, config, context.log, targets)
        indices.prepare()
        self._means = Means(
            config, targets, indices, LineEncoder(config), self._writer, ordered, context.set_status_reason, self._judge
        )
        self._open: list[Put] = []
        if config.linger:
            self.linger = Linger(config.linger / 1000, config.batch_size, max(0, config.bulk_size_bytes))
        context.log.info("connected to Elasticsearch", address=self._client.address, version=version)

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        return Put(self._means, batches).finish()

    def begin(self, batches: Sequence[SinkBatch]) -> PendingPut | None:
        if self._config.flush_synchronously:
            return None
        self._open = [put for put in self._open if not put.done]
        put = Put(self._means, batches)
        # Where Elasticsearch does not settle the order of two writes, the later waits for the earlier.
        if not self._means.ordered or not self._open:
            put.start()
        self._open.append(put)
        return put

    def stop(self) -> None:
        if self._writer is not None:
            self._writer.stop()
            self._context.log.info(
                "disconnected from Elasticsearch", documents=self._documents, already_there=self._conflicts
            )
        if self._client is not None:
            self._client.close()
        self._client = self._writer = None

    def _judge(self, outcome: Outcome) -> Sequence[Rejection]:
        self._count(outcome.documents, outcome.already_there)
        self._look_beyond(outcome)
        config = self._config
        rejections = [
            *self._rejections(outcome.unfit, drop=config.drop_invalid_message, what="records that make no document"),
            *self._rejections(
                outcome.malformed,
                drop=config.on_malformed_documents != "fail",
                what="documents that were refused",
            ),
        ]
        return sorted(rejections, key=lambda item: item[:2])

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

    def _look_beyond(self, outcome: Outcome) -> None:
        """Kafka's offsets are the versions: an index that is ahead of its topic takes new records for old ones."""
        if outcome.beyond is None:
            if self._told_beyond and outcome.documents > outcome.already_there:
                self._told_beyond = False
                self._context.set_status_reason(None)
            return
        topic_partition, offset, version = outcome.beyond
        reason = f"the index has newer versions than topic {topic_partition.topic} has records: they are not written"
        hint = "was the topic made anew, or the index written by somebody else? `headrace reindex` cures it"
        if not self._told_beyond:
            self._told_beyond = True
            first = f"{topic_partition} at offset {offset}"
            self._context.log.warning(
                "records are taken for old ones", first=first, version=version, reason=reason, next=hint
            )
        self._context.set_status_reason(f"{reason} → {hint}")

    def _rejections(self, refused: list[Refused], *, drop: bool, what: str) -> Sequence[Rejection]:
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
