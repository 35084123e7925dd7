"""One put: routes batches to indices, encodes and submits them, and collects the result of each record."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace import PendingPut, Rejection, RetriableError, SinkBatch, TopicPartition
from headrace_sinks.elasticsearch.bulk.line_encoder import BulkLineEncoder, BulkLines, split_by_size
from headrace_sinks.elasticsearch.bulk.writer import BulkRequest, BulkWriter
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.provisioner import IndexProvisioner
from headrace_sinks.elasticsearch.indices.router import IndexRouter, RefusedRecord

_RETRY_AFTER_PROGRESS = 0.2
"""Seconds until the next attempt of a put that makes progress."""


class VersionConflict(NamedTuple):
    """A record whose document has a version that its partition had no record for when the record was read."""

    topic_partition: TopicPartition
    offset: int
    version: int


@dataclass(frozen=True)
class PutOutcome:
    """Result of a finished put."""

    documents: int
    """Documents written or already present in this or a newer version."""
    already_there: int
    version_conflict: VersionConflict | None
    """The first one."""
    unusable: list[RefusedRecord]
    """Records that cannot be encoded as a document."""
    malformed: list[RefusedRecord]
    """Records whose documents Elasticsearch refused."""


@dataclass(frozen=True)
class PutContext:
    """The collaborators that all puts of a task share."""

    config: ElasticsearchSinkConfig
    router: IndexRouter
    provisioner: IndexProvisioner
    encoder: BulkLineEncoder
    writer: BulkWriter
    ordered: bool
    """Writes carry no external version, so writes to one document are sent one after another."""
    explain: Callable[[str | None], None]
    report: Callable[[PutOutcome], Sequence[Rejection]]
    """Return the rejections of an outcome; called once per put."""
    repeat_deletes_after: float
    """Seconds after which deletes are sent a second time."""


class ElasticsearchPut(PendingPut):
    """Sends from :meth:`start` on; after a failure :meth:`finish` resumes with the remaining requests."""

    def __init__(self, means: PutContext, batches: Sequence[SinkBatch]) -> None:
        self._shared = means
        self._batches = [batch for batch in batches if batch.offsets]
        self._ends = {batch.topic_partition: batch.end_offset for batch in self._batches}
        self._delivery = means.writer.begin()
        self._unusable_records: list[RefusedRecord] = []
        self._started = self._failed = self.done = False
        self._revoked: set[TopicPartition] = set()
        self._sent_to: list[tuple[SinkBatch, str]] = []
        # Rows are numbered in the order in which they are encoded; these map a row to its record.
        self._rows = self._settled = 0
        self._starts: list[int] = []
        self._places: list[tuple[TopicPartition, list[int]]] = []
        # The request that is being filled.
        self._lines: list[bytes] = []
        self._ids: list[bytes] = []
        self._since = 0.0
        self._deletes: list[tuple[int, bytes]] = []
        self._already_there: int | None = None

    def start(self) -> None:
        """Encode and submit without waiting. Raise when an index cannot be provisioned; then nothing is sent."""
        if self._started:
            return
        self._sent_to = targets = self._routed_batches()
        self._started, self._since = True, time.monotonic()
        most = self._shared.config.batch_size
        for batch, index in targets:
            start = 0
            while start < len(batch):
                # A full request is sent while the next one is being encoded.
                end = len(batch) if self._shared.ordered else min(len(batch), start + most - len(self._lines))
                self._add(self._shared.encoder.encode(batch, index, start, end))
                start = end
        self._submit_rest()

    def finish(self) -> Sequence[Rejection]:
        if self._failed:
            if self._delivery.missing_index:
                for batch, name in self._sent_to:
                    self._shared.provisioner.ensure(batch, name)
            self._failed = False
            self._shared.writer.resume(self._delivery)
        self.start()
        try:
            self._wait()
            if self._already_there is None:
                self._already_there = sum(self._delivery.conflicts)
            if self._deletes and time.monotonic() - self._since > self._shared.repeat_deletes_after:
                self._delete_again()
                self._wait()
        except BaseException as error:
            self._failed = True
            if self._delivery.missing_index:
                self._shared.provisioner.forget()
            if isinstance(error, RetriableError) and self._delivery.settled > self._settled:
                error.delay = error.delay or _RETRY_AFTER_PROGRESS  # it makes progress: retry soon
            self._settled = self._delivery.settled
            raise
        self.done = True
        refused = self._delivery.refused.items()
        malformed = [(*self._place(row), error) for row, error in sorted(refused, key=lambda item: item[0])]
        written = self._rows - len(malformed)
        outcome = PutOutcome(
            written,
            self._already_there,
            self._version_conflict(),
            self._still_ours(self._unusable_records),
            self._still_ours(malformed),
        )
        return self._shared.report(outcome)

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        self._revoked.update(partitions)
        self._batches = [batch for batch in self._batches if batch.topic_partition not in self._revoked]
        # Do not touch the queues: the sending threads own them and may be returning one now.
        self._delivery.dropped = frozenset(
            row
            for start, (topic_partition, offsets) in zip(self._starts, self._places, strict=True)
            if topic_partition in self._revoked
            for row in range(start, start + len(offsets))
        )

    def _wait(self) -> None:
        for reason in self._shared.writer.finish(self._delivery):
            self._shared.explain(reason)

    def _delete_again(self) -> None:
        deletes, self._deletes = self._deletes, []
        lines, config = [line for _, line in deletes], self._shared.config
        for start, end in split_by_size(lines, config.batch_size, config.bulk_size_bytes):
            request = BulkRequest([row for row, _ in deletes[start:end]], lines[start:end])
            self._shared.writer.submit(self._delivery, [request])

    def _routed_batches(self) -> list[tuple[SinkBatch, str]]:
        """Return each batch with its provisioned index."""
        targets = []
        self._unusable_records.clear()
        for batch in self._batches:
            for part, name in self._shared.router.split(batch, self._unusable_records):
                if self._shared.provisioner.ensure(part, name):
                    targets.append((part, name))
                else:  # only tombstones, and no index: nothing to delete, but some may have to be refused
                    refused = self._shared.encoder.encode(part, name, 0, len(part)).refused
                    self._unusable_records.extend((part.topic_partition, offset, error) for offset, error in refused)
        return targets

    def _add(self, run: BulkLines) -> None:
        self._unusable_records.extend((run.topic_partition, offset, error) for offset, error in run.refused)
        self._starts.append(self._rows)
        self._deletes.extend((self._rows + place, run.lines[place]) for place in run.deletes)
        self._places.append((run.topic_partition, run.offsets))
        self._rows += len(run.lines)
        self._lines += run.lines
        self._ids += run.ids
        if not self._shared.ordered and len(self._lines) >= self._shared.config.batch_size:
            self._submit()

    def _submit_rest(self) -> None:
        config = self._shared.config
        if not self._shared.ordered:
            self._submit()
            return
        queues: list[list[int]] = [[] for _ in range(config.max_in_flight_requests)]
        for row, ident in enumerate(self._ids):
            queues[hash(ident) % len(queues)].append(row)
        for rows in queues:
            whole = BulkRequest(rows, [self._lines[row] for row in rows], [self._ids[row] for row in rows])
            if rows:
                ranges = split_by_size(whole.lines, config.batch_size, config.bulk_size_bytes)
                self._shared.writer.submit(self._delivery, [whole.half(start, end) for start, end in ranges])
        self._lines, self._ids = [], []

    def _submit(self) -> None:
        first, config = self._rows - len(self._lines), self._shared.config
        for start, end in split_by_size(self._lines, config.batch_size, config.bulk_size_bytes):
            request = BulkRequest(range(first + start, first + end), self._lines[start:end])
            self._shared.writer.submit(self._delivery, [request])
        self._lines = []

    def _place(self, row: int) -> tuple[TopicPartition, int]:
        run = bisect_right(self._starts, row) - 1
        topic_partition, offsets = self._places[run]
        return topic_partition, offsets[row - self._starts[run]]

    def _version_conflict(self) -> VersionConflict | None:
        if self._shared.config.external_version_header:
            return None  # versions are not offsets
        for row, version in sorted(self._delivery.newer):
            topic_partition, offset = self._place(row)
            end = self._ends.get(topic_partition)
            if end is not None and version >= end:
                return VersionConflict(topic_partition, offset, version)
        return None

    def _still_ours(self, refused: list[RefusedRecord]) -> list[RefusedRecord]:
        return [item for item in refused if item[0] not in self._revoked]
