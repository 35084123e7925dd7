"""One put: records on their way from batches over lines into requests, and what became of them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from headrace import PendingPut, Rejection, RetriableError, SinkBatch, TopicPartition
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.readiness import Indices
from headrace_sinks.elasticsearch.indices.targets import Refused, Targets
from headrace_sinks.elasticsearch.sending.lines import LineEncoder, Lines, cut
from headrace_sinks.elasticsearch.sending.writer import Request, Writer

_GETTING_ON = 0.2
"""Seconds to the next try while a put gets on."""
DELETES_AGAIN_AFTER = 30.0
"""Seconds: a put that took longer sends its deletes once more. Elasticsearch remembers the version of what it deleted
for 60 (``index.gc_deletes``); later an older write that was sent back all the while would make the document anew."""


@dataclass(frozen=True)
class Outcome:
    """Of a finished put."""

    documents: int
    """Written, or already there."""
    already_there: int
    beyond: tuple[TopicPartition, int, int] | None
    """The first record (and offset) for which the index has a version that its partition has not reached."""
    unfit: list[Refused]
    """Records that make no document."""
    malformed: list[Refused]
    """Documents that Elasticsearch refused."""


@dataclass(frozen=True)
class Means:
    """What all puts of a task share."""

    config: ElasticsearchSinkConfig
    targets: Targets
    indices: Indices
    encoder: LineEncoder
    writer: Writer
    ordered: bool
    """Elasticsearch does not settle which of two writes to a document is newer: they go one after another."""
    explain: Callable[[str | None], None]
    judge: Callable[[Outcome], Sequence[Rejection]]
    """What of it the framework is told; called once per put."""


class Put(PendingPut):
    """Sends from :meth:`start` on; after a failure :meth:`finish` goes on with what is left."""

    def __init__(self, means: Means, batches: Sequence[SinkBatch]) -> None:
        self._means = means
        self._batches = [batch for batch in batches if batch.offsets]
        self._ends = {batch.topic_partition: batch.end_offset for batch in self._batches}
        self._delivery = means.writer.begin()
        self._unfit: list[Refused] = []
        self._started = self._failed = self.done = False
        self._gone: set[TopicPartition] = set()
        self._sent_to: list[tuple[SinkBatch, str]] = []
        # Where rows come from: they are numbered in the order they are encoded.
        self._rows = self._settled = 0
        self._starts: list[int] = []
        self._places: list[tuple[TopicPartition, list[int]]] = []
        # Of the request that is being filled.
        self._lines: list[bytes] = []
        self._ids: list[bytes] = []
        self._since = 0.0
        self._deletes: list[tuple[int, bytes]] = []
        self._already_there: int | None = None

    def start(self) -> None:
        """Encode and send; waits for no answer. Raises what keeps an index from being ready: then nothing is sent."""
        if self._started:
            return
        self._sent_to = targets = self._targets()
        self._started, self._since = True, time.monotonic()
        most = self._means.config.batch_size
        for batch, index in targets:
            start = 0
            while start < len(batch):
                # What is encoded is sent while the next is being encoded.
                end = len(batch) if self._means.ordered else min(len(batch), start + most - len(self._lines))
                self._add(self._means.encoder.encode(batch, index, start, end))
                start = end
        self._submit_rest()

    def finish(self) -> Sequence[Rejection]:
        if self._failed:
            if self._delivery.missing_index:
                for batch, name in self._sent_to:
                    self._means.indices.ensure(batch, name)
            self._failed = False
            self._means.writer.resume(self._delivery)
        self.start()
        try:
            self._wait()
            if self._already_there is None:
                self._already_there = sum(self._delivery.conflicts)
            if self._deletes and time.monotonic() - self._since > DELETES_AGAIN_AFTER:
                self._delete_again()
                self._wait()
        except BaseException as error:
            self._failed = True
            if self._delivery.missing_index:
                self._means.indices.forget()
            if isinstance(error, RetriableError) and self._delivery.settled > self._settled:
                error.delay = error.delay or _GETTING_ON  # slow is not the same as away
            self._settled = self._delivery.settled
            raise
        self.done = True
        refused = self._delivery.refused.items()
        malformed = [(*self._place(row), error) for row, error in sorted(refused, key=lambda item: item[0])]
        written = self._rows - len(malformed)
        outcome = Outcome(
            written, self._already_there, self._beyond(), self._still_ours(self._unfit), self._still_ours(malformed)
        )
        return self._means.judge(outcome)

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        self._gone.update(partitions)
        self._batches = [batch for batch in self._batches if batch.topic_partition not in self._gone]
        # Only this: the lanes belong to the threads that send, which may be giving one back right now.
        self._delivery.dropped = frozenset(
            row
            for start, (topic_partition, offsets) in zip(self._starts, self._places, strict=True)
            if topic_partition in self._gone
            for row in range(start, start + len(offsets))
        )

    def _wait(self) -> None:
        for reason in self._means.writer.finish(self._delivery):
            self._means.explain(reason)

    def _delete_again(self) -> None:
        deletes, self._deletes = self._deletes, []
        lines, config = [line for _, line in deletes], self._means.config
        for start, end in cut(lines, config.batch_size, config.bulk_size_bytes):
            request = Request([row for row, _ in deletes[start:end]], lines[start:end])
            self._means.writer.submit(self._delivery, [request])

    def _targets(self) -> list[tuple[SinkBatch, str]]:
        """Each batch with its index, which is ready for it."""
        targets = []
        self._unfit.clear()
        for batch in self._batches:
            for part, name in self._means.targets.split(batch, self._unfit):
                self._means.indices.ensure(part, name)
                targets.append((part, name))
        return targets

    def _add(self, run: Lines) -> None:
        self._unfit.extend((run.topic_partition, offset, error) for offset, error in run.refused)
        self._starts.append(self._rows)
        self._deletes.extend((self._rows + place, run.lines[place]) for place in run.deletes)
        self._places.append((run.topic_partition, run.offsets))
        self._rows += len(run.lines)
        self._lines += run.lines
        self._ids += run.ids
        if not self._means.ordered and len(self._lines) >= self._means.config.batch_size:
            self._submit()

    def _submit_rest(self) -> None:
        config = self._means.config
        if not self._means.ordered:
            self._submit()
            return
        lanes: list[list[int]] = [[] for _ in range(config.max_in_flight_requests)]
        for row, ident in enumerate(self._ids):
            lanes[hash(ident) % len(lanes)].append(row)
        for lane in lanes:
            whole = Request(lane, [self._lines[row] for row in lane], [self._ids[row] for row in lane])
            if lane:
                ranges = cut(whole.lines, config.batch_size, config.bulk_size_bytes)
                self._means.writer.submit(self._delivery, [whole.half(start, end) for start, end in ranges])
        self._lines, self._ids = [], []

    def _submit(self) -> None:
        first, config = self._rows - len(self._lines), self._means.config
        for start, end in cut(self._lines, config.batch_size, config.bulk_size_bytes):
            request = Request(range(first + start, first + end), self._lines[start:end])
            self._means.writer.submit(self._delivery, [request])
        self._lines = []

    def _place(self, row: int) -> tuple[TopicPartition, int]:
        run = bisect_right(self._starts, row) - 1
        topic_partition, offsets = self._places[run]
        return topic_partition, offsets[row - self._starts[run]]

    def _beyond(self) -> tuple[TopicPartition, int, int] | None:
        if self._means.config.external_version_header:
            return None  # versions are no offsets
        for row, version in sorted(self._delivery.newer):
            topic_partition, offset = self._place(row)
            end = self._ends.get(topic_partition)
            if end is not None and version >= end:
                return topic_partition, offset, version
        return None

    def _still_ours(self, refused: list[Refused]) -> list[Refused]:
        return [item for item in refused if item[0] not in self._gone]
