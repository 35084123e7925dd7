"""The sink task: starts puts and reports refused records and version conflicts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from headrace import (
    HeadraceError,
    Linger,
    NotWritten,
    PendingPut,
    PutResult,
    Rejection,
    RetryPolicy,
    SinkBatch,
    SinkContext,
    SinkTask,
    StatusReasons,
)
from headrace_sinks.elasticsearch.bulk.adaptive_limiter import AdaptiveConcurrencyLimiter
from headrace_sinks.elasticsearch.bulk.line_encoder import BulkLineEncoder
from headrace_sinks.elasticsearch.bulk.put import ElasticsearchPut, PutContext, PutOutcome, VersionConflict
from headrace_sinks.elasticsearch.bulk.writer import BulkWriter
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.preflight import require_elasticsearch
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.provisioner import IndexProvisioner
from headrace_sinks.elasticsearch.indices.router import IndexRouter, RefusedRecord
from headrace_sinks.elasticsearch.timings import DEFAULT_TIMINGS, SinkTimings

_NUMBERS = re.compile(r"\d+")
_LOG_INTERVAL = 60.0
"""Seconds between two log lines of the same reason to wait."""
# Causes of status reasons.
_DELIVERY, _KNOWN_KEYS, _OUTDATED = "delivery", "known keys", "outdated records"


class ElasticsearchSinkTask(SinkTask):
    """Writes the records of its partitions; puts may overlap unless ``flush.synchronously`` is set."""

    takes_json_texts = True

    def __init__(
        self,
        timings: SinkTimings = DEFAULT_TIMINGS,
        connect: Callable[[ElasticsearchSinkConfig], ElasticsearchClient] = ElasticsearchClient,
    ) -> None:
        self._timings, self._connect = timings, connect

    _client: ElasticsearchClient | None = None
    _writer: BulkWriter | None = None
    _documents = 0
    _conflicts = 0
    _unconfirmed_conflict: VersionConflict | None = None
    """A version conflict that could not be confirmed, because Kafka did not answer."""

    def start(self, context: SinkContext) -> None:
        self.stop()  # release what an earlier, failed start opened
        config = ElasticsearchSinkConfig.parse(context.properties)
        self._context, self._config = context, config
        self._reasons = StatusReasons(context.set_status_reason)
        self._logged_waits: dict[str, float] = {}  # when, by reason without its numbers
        self._client = self._connect(config)
        version = require_elasticsearch(self._client, streams=config.streams())
        most = config.max_in_flight_requests
        ordered = config.merges()
        self._writer = BulkWriter(
            self._client,
            RetryPolicy(config.retry_backoff / 1000, tries=config.max_retries),
            context.stop_event,
            AdaptiveConcurrencyLimiter(most, config.batch_size, config.bulk_size_bytes),
            most_requests=most,
            versioned=not ordered,
            pipeline=config.ingest_pipeline,
            name=str(context.task),
            timings=self._timings,
        )
        router = IndexRouter(config, context.log, self._timings.index_limit_period)
        provisioner = IndexProvisioner(
            self._client,
            config,
            context.log,
            router,
            raise_condition=context.raise_condition,
            check_interval=self._timings.index_check_interval,
        )
        provisioner.prepare()
        self._shared = PutContext(
            config,
            router,
            provisioner,
            BulkLineEncoder(config),
            self._writer,
            ordered,
            self._report_wait,
            self._report,
            self._timings.repeat_deletes_after,
        )
        self._open: list[ElasticsearchPut] = []
        if config.linger:
            self.linger = Linger(config.linger / 1000, config.batch_size, max(0, config.bulk_size_bytes))
        context.log.info("connected to Elasticsearch", address=self._client.address, version=version)

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        return ElasticsearchPut(self._shared, batches).finish()

    def begin(self, batches: Sequence[SinkBatch]) -> PendingPut | None:
        if self._config.flush_synchronously:
            return None
        self._open = [put for put in self._open if not put.done]
        put = ElasticsearchPut(self._shared, batches)
        # Without external versions a later put waits for the earlier one.
        if not self._shared.ordered or not self._open:
            put.start()
        self._open.append(put)
        return put

    def idle(self) -> None:
        self._shared.provisioner.check_written()

    def stop(self) -> None:
        if self._writer is not None:
            self._writer.stop()
            self._context.log.info(
                "disconnected from Elasticsearch", documents=self._documents, already_there=self._conflicts
            )
        if self._client is not None:
            self._client.close()
        self._client = self._writer = None

    def _report_wait(self, reason: str | None) -> None:
        """Set the status reason of the delivery, and log it when it is another one or has not been logged for long."""
        self._reasons.set(_DELIVERY, reason)
        if reason is None:
            return
        kind, now = _NUMBERS.sub("#", reason), time.monotonic()
        if now - self._logged_waits.get(kind, -_LOG_INTERVAL) >= _LOG_INTERVAL:
            self._logged_waits = {each: at for each, at in self._logged_waits.items() if now - at < _LOG_INTERVAL}
            self._logged_waits[kind] = now
            self._context.log.warning("waiting for Elasticsearch", reason=reason)

    def _report(self, outcome: PutOutcome) -> PutResult:
        self.searchable_after = self._shared.provisioner.searchable_after
        self._count(outcome.documents, outcome.already_there)
        self._report_version_conflict(outcome)
        config = self._config
        unusable, malformed = outcome.unusable, outcome.malformed
        not_written = [NotWritten("duplicate" if config.streams() else "version_conflict", outcome.already_there)]
        if self._drops(unusable, configured=config.drop_invalid_message):
            not_written.append(self._dropped(unusable, "records that cannot be encoded as documents"))
            unusable = []
        if self._drops(malformed, configured=config.on_malformed_documents != "fail"):
            not_written.append(self._dropped(malformed, "documents that were refused"))
            malformed = []
        rejections = sorted((Rejection(*item) for item in [*unusable, *malformed]), key=lambda item: item[:2])
        return PutResult(rejections, not_written)

    def _count(self, documents: int, conflicts: int) -> None:
        if conflicts and not self._conflicts and not self._config.streams():
            self._context.log.info(
                "documents are already present",
                count=conflicts,
                reason="the index has them in the same or a newer version",
                next="expected after a restart; if the topic was deleted and created again, run `headrace reindex`",
            )
        if conflicts and self._config.streams() and not self._config.key_ignore:
            reason = (
                f"{self._conflicts + conflicts} records were not written: the data stream has documents with their "
                "keys, and keeps the first record of a key (after a restart some are repeats)"
            )
            hint = "key.ignore: true writes every record"
            if not self._conflicts:
                self._context.log.warning("records of known keys are not written", reason=reason, next=hint)
            self._reasons.set(_KNOWN_KEYS, f"{reason} → {hint}")
        self._documents += documents - conflicts
        self._conflicts += conflicts

    def _report_version_conflict(self, outcome: PutOutcome) -> None:
        """Report version conflicts: offsets are the versions, so records behind the index are ignored as outdated."""
        conflict = self._confirmed(outcome.version_conflict or self._unconfirmed_conflict)
        if conflict is None:
            if outcome.documents > outcome.already_there:
                self._reasons.set(_OUTDATED, None)
            return
        topic_partition, offset, version = conflict
        topic = topic_partition.topic
        others = sorted(set(self._shared.router.topics_of_index(topic)) - {topic})
        reason = f"the index has newer versions than {topic_partition} has records: they are not written"
        if others:
            reason += f", because topic {', '.join(others)} writes to the same index and offsets are the versions"
            hint = "give each topic its own index, or set 'external.version.header'"
        else:
            hint = (
                "if the topic was deleted and created again, or another program wrote to the index, run "
                "`headrace reindex NAME FILE…` (--copy-lost keeps documents whose records the topic lacks); if keys "
                "move between partitions, for example since partitions were added, set 'external.version.header', "
                "because offsets of two partitions cannot be compared"
            )
        if _OUTDATED not in self._reasons:
            first = f"{topic_partition} at offset {offset}"
            self._context.log.warning(
                "records are ignored as outdated", first=first, version=version, reason=reason, next=hint
            )
        self._reasons.set(_OUTDATED, f"{reason} → {hint}")

    def _confirmed(self, conflict: VersionConflict | None) -> VersionConflict | None:
        """Return the conflict, unless Kafka has a record with the document's version by now.

        The end that came with the records may be an old one. The document is then one that was written from a newer
        record of the same partition, before this record was read or sent again.
        """
        self._unconfirmed_conflict = None
        if conflict is None or _OUTDATED in self._reasons:
            return conflict
        try:
            end = self._context.end_offset(conflict.topic_partition)
        except HeadraceError as error:
            self._context.log.info("version conflict not confirmed yet", code=error.code, reason=error.message)
            self._unconfirmed_conflict = conflict  # until the next put
            return None
        return conflict if end is None or conflict.version >= end else None

    def _drops(self, refused: list[RefusedRecord], *, configured: bool) -> bool:
        """Whether refused records are dropped: when configured, and no dead letter queue can receive them."""
        return bool(refused) and configured and self._config.errors_tolerance != "all"

    def _dropped(self, refused: list[RefusedRecord], what: str) -> NotWritten:
        topic_partition, offset, error = refused[0]
        self._context.log.warning(
            f"{what} are dropped",
            count=len(refused),
            first=f"{topic_partition} at offset {offset}",
            code=error.code,
            reason=error.message,
            next="errors.tolerance: all with errors.deadletterqueue.topic.name keeps them",
        )
        example = f"the record of {topic_partition} at offset {offset}: {error.message}"
        return NotWritten(error.code, len(refused), example, skipped=True)
