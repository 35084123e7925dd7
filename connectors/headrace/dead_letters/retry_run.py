"""Retry the open letters of a sink through its configuration as it is now.

Letters are written with their original topic, partition and offset, so a sink that compares versions keeps what is
newer. A chunk of letters is written first; then their marks and the letters that were refused again are committed in
one transaction. A process that is killed in between writes the chunk again, with the same versions: without effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.broker.interfaces import TransactionalProducer
from headrace.dead_letters.letter_queue import LetterQueue, Progress
from headrace.dead_letters.letters import Letter, LetterGroup, RecordPlace
from headrace.dead_letters.marks import LetterMark, marks_batch
from headrace.dead_letters.newer_records import NewerRecords
from headrace.errors import RetriableError
from headrace.pipeline.dead_letters import RETRIES, reason_headers
from headrace.pipeline.fault_policy import Failure, Stage
from headrace.pipeline.stages import Stages
from headrace.records import ConsumedBatch, EncodedBatch, Rejection, SinkBatch, TopicPartition
from headrace.redaction import Redact, unredacted
from headrace.states import TaskId

_CHUNK_RECORDS = 500
_CHUNK_BYTES = 8 << 20
NOT_RETRIABLE = "left open"
"""Outcome of a letter that does not say where its record was, or whose topic does not exist any more."""


class LetterWriter(Protocol):
    """Writes records to the sink's system, or says what would be refused."""

    executor: str

    def write(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        """Return when all records are durable, with the refused ones. Raises RetriableError."""
        ...

    def close(self) -> None: ...


@dataclass
class GroupOutcome:
    """What became of the letters of one group."""

    counts: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    """The first reason of a letter that was refused again or left open."""


Outcomes = dict[LetterGroup, GroupOutcome]


@dataclass
class RetryRun:
    """One retry or discard. Used from one thread.

    ``producer``: None for a run that only says what would happen. Its ``init`` has been called, so that no other run
    can mark letters while this one works.
    """

    queue: LetterQueue
    producer: TransactionalProducer | None
    group: str | None
    progress: Progress
    stopping: Callable[[], bool]
    outcomes: Outcomes = field(default_factory=dict)
    redact: Redact = unredacted
    """Takes secrets out of the reasons that letters and outcomes name."""

    def discard(self) -> None:
        """Mark open letters as discarded."""
        until, marks = self.queue.ends(), self.queue.marks()
        for page in self._open(until, marks):
            self._mark({letter.place: (letter, LetterMark.DISCARDED) for letter in page}, [])

    def retry(
        self,
        stages: Stages,
        writer: LetterWriter,
        newer_records: Callable[[Iterable[tuple[RecordPlace, bytes | None]]], NewerRecords],
        *,
        splits: bool,
    ) -> None:
        """Write open letters. Raises RetriableError when the sink's system is unavailable: no mark is written then."""
        # Letters that this run sends back are behind the end: they are not retried again.
        until, marks = self.queue.ends(), self.queue.marks()
        origins = [
            (origin, letter.key)
            for page in self._open(until, marks, every_group=True)
            for letter in page
            if (origin := letter.origin()) is not None
        ]
        newer = newer_records(origins)
        for page in self._open(until, marks):
            for chunk in _chunks(page):
                newer.read_to_end(self.progress)
                self._retry(chunk, stages, writer, newer, splits=splits)
                if self.stopping():
                    raise RetriableError(
                        "the worker is stopping; letters without a mark were not retried", code="dlq.stopped"
                    )

    def _retry(
        self, chunk: Sequence[Letter], stages: Stages, writer: LetterWriter, newer: NewerRecords, *, splits: bool
    ) -> None:
        marked: dict[RecordPlace, tuple[Letter, LetterMark]] = {}
        by_origin: dict[RecordPlace, list[Letter]] = {}
        for letter in chunk:
            origin = letter.origin()
            if origin is None or newer.unknown(origin):
                self._count(letter, NOT_RETRIABLE, _why_not(origin))
            elif newer.supersede(letter, origin):
                marked[letter.place] = (letter, LetterMark.SUPERSEDED)
            else:
                by_origin.setdefault(origin, []).append(letter)  # a killed task may have written a letter twice
        batches, failures = _decoded(stages, by_origin, splits=splits)
        if batches:
            failures += [
                Failure(Stage.TASK_PUT, writer.executor, item.error, item.topic_partition, item.offset)
                for item in writer.write(batches)
            ]
        written = {RecordPlace(batch.topic_partition, offset) for batch in batches for offset in batch.offsets}
        refused = {RecordPlace(failure.topic_partition, failure.offset): failure for failure in failures}
        again = []
        for origin, letters in by_origin.items():
            failure = refused.get(origin)
            outcome = LetterMark.RETRIED if origin in written else LetterMark.FILTERED
            for letter in letters:
                marked[letter.place] = (letter, LetterMark.REFUSED if failure is not None else outcome)
            if failure is not None:
                self._outcome(letters[0]).reason = self._outcome(letters[0]).reason or self.redact(
                    failure.error.message
                )
                again.append(self._letter(letters[0], failure))
        self._mark(marked, again)

    def _mark(self, marked: Mapping[RecordPlace, tuple[Letter, LetterMark]], again: Sequence[EncodedBatch]) -> None:
        if marked and self.producer is not None:
            self.producer.begin()
            for batch in again:
                self.producer.send(batch)
            self.producer.send(
                marks_batch(self.queue.topic, {place: mark for place, (_, mark) in marked.items()}), partition=0
            )
            self.producer.commit()
        for letter, mark in marked.values():
            self._count(letter, mark.value)

    def _letter(self, letter: Letter, failure: Failure) -> EncodedBatch:
        task = TaskId(self.queue.connector, 0)
        reasons = reason_headers(failure, task, self.redact, **{RETRIES: str(letter.retries() + 1)})
        headers = [*letter.original_headers(), *reasons]
        return EncodedBatch(self.queue.topic, [letter.value], [letter.key], [letter.timestamp], [headers])

    def _open(
        self, until: Mapping[TopicPartition, int], marks: Mapping[RecordPlace, LetterMark], *, every_group: bool = False
    ) -> Iterator[list[Letter]]:
        wanted = None if every_group else self.group
        for page in self.queue.letters(until, self.progress):
            yield [letter for letter in page if letter.place not in marks and letter.group().matches(wanted)]

    def _outcome(self, letter: Letter) -> GroupOutcome:
        return self.outcomes.setdefault(letter.group(), GroupOutcome())

    def _count(self, letter: Letter, outcome: str, reason: str = "") -> None:
        counted = self._outcome(letter)
        counted.counts[outcome] += 1
        counted.reason = counted.reason or self.redact(reason)


def _why_not(origin: RecordPlace | None) -> str:
    if origin is None:
        return (
            "the letter does not say where its record was: "
            "errors.deadletterqueue.context.headers.enable was false when it was written"
        )
    return f"{origin} does not exist: the topic was deleted, so the record's version means nothing any more"


def _decoded(
    stages: Stages, by_origin: Mapping[RecordPlace, Sequence[Letter]], *, splits: bool
) -> tuple[list[SinkBatch], list[Failure]]:
    partitions: dict[TopicPartition, list[tuple[int, Letter]]] = {}
    for origin, letters in sorted(by_origin.items(), key=lambda item: item[0]):
        partitions.setdefault(origin.topic_partition, []).append((origin.offset, letters[0]))
    batches: list[SinkBatch] = []
    failures: list[Failure] = []
    for item, rows in partitions.items():
        consumed = ConsumedBatch(
            item,
            [offset for offset, _ in rows],
            [letter.key for _, letter in rows],
            [letter.value for _, letter in rows],
            [letter.timestamp for _, letter in rows],
            [letter.original_headers() for _, letter in rows],
        )
        decoded, refused = stages.decode(consumed, split_records=splits)
        batches += decoded
        failures += refused
    return batches, failures


def _chunks(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    chunk: list[Letter] = []
    size = 0
    for letter in letters:
        if chunk and (len(chunk) >= _CHUNK_RECORDS or size > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(letter)
        size += len(letter.value or b"")
    if chunk:
        yield chunk
