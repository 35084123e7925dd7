"""A sink's second generation: written from the topics while the sink writes the first, compared, switched.

The rebuild reads the topics itself, from their first record and on and on behind the sink. So live records go to both
generations without the sink's knowing of it, and no worker has to be told anything: the sink writes to a name, and the
switch is what changes the name's meaning. After the switch the rebuild reads on to what were the ends then; a record
that came just before the switch is thereby in the new generation too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.backoff import RetryPolicy
from headrace.errors import ConflictError, DataError, RetriableError, TaskError
from headrace.plugin import Rebuild, Rebuilder, SinkTask, StoredEntry
from headrace.records import SinkBatch, TopicPartition
from headrace.verification.history import History, Positions, Progress
from headrace.verification.spill import BUCKETS, Row, Spill

_KEEP_EVERY = 10.0
_NEAR = 1_000
"""Records: a rebuild that is as near to the ends is compared and switched."""
_ROUNDS = 5
_SHORT_ROUND = 10.0
"""Seconds; Elasticsearch remembers deletions for 60 (``index.gc_deletes``)."""
_CHUNK = 1_000
_PATIENCE = 300.0
"""Seconds that a system may be away before the rebuild stops, to be continued later."""

Expected = Callable[[SinkBatch], Sequence[StoredEntry | DataError | None]]
"""What records leave in the system: :meth:`headrace.Verifier.expected`."""
OpenWriter = Callable[[str, Mapping[str, str]], SinkTask]
"""Starts a task that writes one topic's records, from its configuration."""


@dataclass
class RebuildReport:
    """What a rebuild did."""

    resumed: bool = False
    records: int = 0
    refused: int = 0
    """Records that make no document, or that the new generation does not take."""
    refused_reason: str = ""
    compared: int = 0
    lost: int = 0
    """What only the previous generation has: its records are gone from the topic, or were refused."""
    samples: list[str] = field(default_factory=list)


def rebuild(
    rebuilder: Rebuilder,
    history: History,
    open_writer: OpenWriter,
    expected: Expected,
    *,
    back: bool = False,
    accept_lost: bool = False,
    samples: int = 5,
    progress: Progress = lambda *_: None,
) -> RebuildReport:
    """Begin or go on, to the end. ``back``: put the previous generation into its place again.

    Raises ConflictError when the new generation would lack something (``accept_lost``: switch all the same); all that
    was written is kept for the next try. Raises RetriableError, InfrastructureError, TaskError, CommandError.
    """
    begun = rebuilder.begin(history.topics(), back=back)
    report = RebuildReport(resumed=bool(begun.positions) or begun.switched)
    run = _Run(rebuilder, history, begun, open_writer, expected, report, progress)
    try:
        if not begun.switched:
            run.catch_up()
            run.compare(samples)
            if report.lost and not accept_lost:
                raise ConflictError(
                    f"{report.lost} documents would be lost: they are in the present generation and not in the new "
                    f"one ({', '.join(report.samples)}){_because(report)}",
                    code="reindex.would_lose",
                    hint="--accept-lost switches all the same (the present generation is kept); --abort undoes",
                )
            run.switch()
        run.settle()
        rebuilder.finish()
    finally:
        run.close()
    return report


class _Run:
    """One rebuild."""

    def __init__(
        self,
        rebuilder: Rebuilder,
        history: History,
        begun: Rebuild,
        open_writer: OpenWriter,
        expected: Expected,
        report: RebuildReport,
        progress: Progress,
    ) -> None:
        self._rebuilder = rebuilder
        self._history = history
        self._begun = begun
        self._open_writer = open_writer
        self._expected = expected
        self._report = report
        self._progress = progress
        self._positions: dict[TopicPartition, int] = dict(begun.positions)
        self._writers: dict[str, SinkTask] = {}
        self._kept = time.monotonic()

    def catch_up(self) -> None:
        """Until little is left between the positions and the ends."""
        while True:
            ends = self._history.ends()
            left = sum(max(0, end - self._positions.get(item, 0)) for item, end in ends.items())
            self.follow(ends, "writing the new generation")
            if left <= _NEAR:
                return

    def follow(self, until: Positions, title: str) -> None:
        """Write all records up to there."""
        for portion in self._history.read(self._positions, until):
            for failure in portion.failures:
                self._refuse(str(failure.error))
            self._write(portion.batches)
            self._positions.update(portion.positions)
            self._report.records += sum(map(len, portion.batches))
            self._progress(title, portion.read, portion.whole)
            if time.monotonic() - self._kept > _KEEP_EVERY:
                self._rebuilder.keep(self._positions)
                self._kept = time.monotonic()

    def compare(self, samples: int) -> None:
        """Find what only the present generation has. Names that are on their way are looked at again."""
        with tempfile.TemporaryDirectory(prefix="headrace-reindex-") as folder:
            present, new = Spill(Path(folder), "present"), Spill(Path(folder), "new")
            for spill, is_new in ((present, False), (new, True)):
                for entries in self._rebuilder.entries(new=is_new):
                    spill.add(Row(*entry) for entry in entries)
                    self._progress("comparing generations", present.rows + new.rows, 0)
            lost: list[bytes] = []
            for number in range(BUCKETS):
                there = {row.name for row in new.bucket(number)}
                lost += (row.name for row in present.bucket(number) if row.name not in there)
        self._report.compared = present.rows
        for _ in range(_ROUNDS):
            if not lost:
                break
            self.follow(self._history.ends(), "reading on")
            before, lost = lost, self._only_present(lost)
            if len(lost) == len(before):
                break
        if lost:
            lost = self._without_deleted(lost)
        self._report.lost = len(lost)
        self._report.samples = [name.decode(errors="backslashreplace") for name in lost[:samples]]

    def switch(self) -> None:
        # What the sink has committed by now is in the present generation: from there a way back has to catch up.
        written = self._history.committed()
        self._rebuilder.keep(self._positions)
        self._progress("switching", 0, 0)
        self._rebuilder.switch(written)

    def settle(self) -> None:
        """Until all is there that came before the switch, and the two writers have left no trace of each other.

        A system remembers a deletion's version for a while only. When a round is shorter than that, nothing older that
        it wrote can have brought back what the sink deleted meanwhile; what the sink deleted earlier is in the round.
        """
        while True:
            began = time.monotonic()
            self.follow(self._history.ends(), "writing what came before the switch")
            if time.monotonic() - began < _SHORT_ROUND:
                return

    def close(self) -> None:
        for writer in self._writers.values():
            writer.stop()

    def _without_deleted(self, names: Sequence[bytes]) -> list[bytes]:
        """Without those that the sink, which may be waiting or stopped, has only not deleted yet."""
        wanted, last_words = set(names), dict[bytes, bytes]()
        for portion in self._history.read(self._history.committed(), self._positions):
            for batch in portion.batches:
                for entry in self._expected(batch):
                    if isinstance(entry, StoredEntry) and entry.name in wanted:
                        last_words[entry.name] = entry.digest
            self._progress("reading what the connector has not written yet", portion.read, portion.whole)
        return [name for name in names if last_words.get(name) != b""]

    def _only_present(self, names: Sequence[bytes]) -> list[bytes]:
        left = []
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            new = self._rebuilder.look(chunk, new=True)
            present = self._rebuilder.look(chunk, new=False)
            left += [name for name in chunk if name in present and name not in new]
        return left

    def _write(self, batches: Sequence[SinkBatch]) -> None:
        by_topic: dict[str, list[SinkBatch]] = {}
        for batch in batches:
            by_topic.setdefault(batch.topic, []).append(batch)
        for topic, mine in by_topic.items():
            for rejection in self._put(topic, mine):
                self._refuse(str(rejection))

    def _put(self, topic: str, batches: Sequence[SinkBatch]) -> Sequence[object]:
        waits, end = RetryPolicy(longest=10.0).waits(), time.monotonic() + _PATIENCE
        while True:
            try:
                return [rejection.error for rejection in self._writer(topic).put(batches)]
            except RetriableError as error:
                if time.monotonic() > end:
                    raise
                self._progress(f"waiting: {error.message}", 0, 0)
                time.sleep(error.delay if error.delay is not None else next(waits))

    def _writer(self, topic: str) -> SinkTask:
        if topic not in self._writers:
            if topic not in self._begun.writers:
                raise TaskError(
                    f"a transform leads records to '{topic}', which is none of the connector's topics",
                    code="reindex.not_supported",
                    hint="only records that keep their topic can be rebuilt",
                )
            self._writers[topic] = self._open_writer(topic, self._begun.writers[topic])
        return self._writers[topic]

    def _refuse(self, reason: str) -> None:
        self._report.refused += 1
        self._report.refused_reason = self._report.refused_reason or reason


def _because(report: RebuildReport) -> str:
    if report.refused:
        return f"; {report.refused} records were refused: {report.refused_reason}"
    return "; their records are gone from the topic"
