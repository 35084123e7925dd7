"""Write a new generation of a sink's data from the topics, compare it with the current one, and switch to it.

The rebuild reads the topics itself, from their first record up to the newest, while the sink keeps writing to the
current generation. So both generations receive all records, and workers need no notification: the sink writes to an
alias, and the switch changes the target of the alias. After the switch, the rebuild reads up to the end offsets of
that moment, so that records that arrived just before the switch are in the new generation, too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from headrace.errors import ConflictError, DataError, TaskError
from headrace.plugin import Rebuild, Rebuilder, SinkTask, StoredEntry
from headrace.records import SinkBatch, TopicPartition
from headrace.retries import RetryPolicy, retry
from headrace.verification.disk_buckets import BUCKETS, DiskBuckets, EntryRow
from headrace.verification.history import History, Positions, Progress

T = TypeVar("T")
_SAVE_INTERVAL = 10.0
_NEAR = 1_000
"""Records: with so few left to read, the generations are compared and switched."""
_SHORT_ROUND = 10.0
"""Seconds; Elasticsearch keeps the versions of deletions for 60 (``index.gc_deletes``)."""
_CHUNK = 1_000
_NEWEST = 100
"""Records at the end of each partition that are read first: their schemas are the ones to come."""
_WRITE_RETRIES = RetryPolicy(longest=10.0, timeout=300.0)
"""``timeout``: seconds that the sink's system may be unavailable before the rebuild stops; a later run resumes it."""

Expected = Callable[[SinkBatch], Sequence[StoredEntry | DataError | None]]
"""Returns the entries that records write: :meth:`headrace.Verifier.expected_entries`."""
OpenWriter = Callable[[str, Mapping[str, str]], SinkTask]
"""Starts a task that writes the records of one topic, from its configuration."""


class _DefinitionChangedError(Exception):
    """The new generation has to be created again, because it cannot take all records."""


@dataclass
class RebuildReport:
    """Result of a rebuild."""

    resumed: bool = False
    records: int = 0
    refused: int = 0
    """Records that cannot be written, or that the new generation refused."""
    refused_reason: str = ""
    compared: int = 0
    lost: int = 0
    """Entries of the previous generation only: their records are gone from the topic, or were refused."""
    copied: int = 0
    """Entries without records that were copied from the previous generation."""
    samples: list[str] = field(default_factory=list)


def rebuild(
    rebuilder: Rebuilder,
    history: History,
    open_writer: OpenWriter,
    expected: Expected,
    *,
    rollback: bool = False,
    copy_lost: bool = False,
    accept_lost: bool = False,
    samples: int = 5,
    progress: Progress = lambda *_: None,
) -> RebuildReport:
    """Start or resume a rebuild and complete it. ``rollback``: return to the previous generation.

    ``copy_lost``: copy entries whose records the topics no longer have. Raises ConflictError when entries would be
    lost (``accept_lost``: switch nevertheless); what was written is kept for the next run. Raises RetriableError,
    InfrastructureError, TaskError, CommandError.
    """
    while True:
        begun = rebuilder.begin(history.topics(), rollback=rollback)
        report = RebuildReport(resumed=bool(begun.positions) or begun.switched)
        run = _RebuildRun(rebuilder, history, begun, open_writer, expected, report, progress)
        try:
            if not begun.switched:
                run.look_ahead()
                run.catch_up()
                run.compare(samples)
                if copy_lost:
                    run.copy_lost()
                if report.lost and not accept_lost:
                    raise _would_lose(report)
                run.switch()
            run.write_remaining()
            rebuilder.finish()
        except _DefinitionChangedError:
            progress("starting again with a definition that fits all records", 0, 0)
            continue
        finally:
            run.close()
        return report


class _RebuildRun:
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
        self._saved = time.monotonic()
        self._lost: list[bytes] = []
        self._samples = 0

    def look_ahead(self) -> None:
        """Prepare the new generation for the newest records, so that older schemas have to fit into theirs."""
        ends = self._history.ends()
        pages = self._history.read({item: max(0, end - _NEWEST) for item, end in ends.items()}, ends)
        self._prepare([batch for page in pages for batch in page.batches][::-1])

    def catch_up(self) -> None:
        """Write until few records are left before the end offsets."""
        while True:
            ends = self._history.ends()
            left = sum(max(0, end - self._positions.get(item, 0)) for item, end in ends.items())
            self.follow(ends, "writing the new generation")
            if left <= _NEAR:
                return

    def follow(self, until: Positions, title: str) -> None:
        """Write all records before ``until``."""
        for page in self._history.read(self._positions, until):
            for failure in page.failures:
                self._refuse(str(failure.error))
            self._prepare(page.batches)
            self._write(page.batches)
            self._positions.update(page.positions)
            self._report.records += sum(map(len, page.batches))
            self._progress(title, page.read, page.whole)
            if time.monotonic() - self._saved > _SAVE_INTERVAL:
                self._rebuilder.save_positions(self._positions)
                self._saved = time.monotonic()

    def compare(self, samples: int) -> None:
        """Find entries that only the current generation has."""
        with tempfile.TemporaryDirectory(prefix="headrace-reindex-") as folder:
            present, new = DiskBuckets(Path(folder), "present"), DiskBuckets(Path(folder), "new")
            for buckets, is_new in ((present, False), (new, True)):
                for entries in self._rebuilder.entries(new=is_new):
                    buckets.add(EntryRow(*entry) for entry in entries)
                    self._progress("comparing generations", present.rows + new.rows, 0)
            candidates: list[bytes] = []
            for number in range(BUCKETS):
                there = {row.name for row in new.bucket(number)}
                candidates += (row.name for row in present.bucket(number) if row.name not in there)
        self._report.compared = present.rows
        self._samples = samples
        self._set_lost(self._confirmed(candidates) if candidates else [])

    def copy_lost(self) -> None:
        """Copy the entries that only the current generation has."""
        before = self._lost
        for start in range(0, len(before), _CHUNK):
            for error in self._retried(partial(self._rebuilder.copy, before[start : start + _CHUNK])):
                self._refuse(str(error))
            self._progress("copying documents without records", start, len(before))
        present, new = self._lookup(before, new=False), self._lookup(before, new=True)
        self._set_lost([name for name in before if name in present and name not in new])
        self._report.copied = len(before) - len(self._lost)

    def switch(self) -> None:
        # The current generation contains what the sink has committed by now: a rollback starts there.
        written = self._history.committed()
        self._rebuilder.save_positions(self._positions)
        self._progress("switching", 0, 0)
        self._rebuilder.switch(written)

    def write_remaining(self) -> None:
        """Write all records that arrived before the switch, until one round is short enough.

        The system remembers the version of a deletion for a limited time. A round that is shorter than that cannot
        have restored an entry that the sink deleted during it; what the sink deleted earlier is part of the round.
        """
        while True:
            began = time.monotonic()
            self.follow(self._history.ends(), "writing the records before the switch")
            if time.monotonic() - began < _SHORT_ROUND:
                return

    def close(self) -> None:
        for writer in self._writers.values():
            writer.stop()

    def _set_lost(self, names: list[bytes]) -> None:
        self._lost = names
        self._report.lost = len(names)
        self._report.samples = [name.decode(errors="backslashreplace") for name in names[: self._samples]]

    def _prepare(self, batches: Sequence[SinkBatch]) -> None:
        if not self._retried(lambda: self._rebuilder.prepare(batches)):
            raise _DefinitionChangedError

    def _confirmed(self, candidates: Sequence[bytes]) -> list[bytes]:
        """Return the candidates that would be lost, while the sink writes and records arrive.

        The order of the steps is what makes it exact. The current generation contains at least the records before the
        offsets that were committed before it is looked up, and at most those before the end offsets that are read
        afterwards; the new generation, which is looked up last, contains exactly the records before these end offsets.
        So an entry that only the current generation has is lost unless one of the records in between deletes it.
        """
        committed = self._history.committed()
        present = self._lookup(candidates, new=False)
        self.follow(self._history.ends(), "reading newer records")
        new = self._lookup(list(present), new=True)
        missing = [name for name in present if name not in new]
        return self._without_deleted(missing, committed) if missing else []

    def _without_deleted(self, names: Sequence[bytes], committed: Positions) -> list[bytes]:
        """Leave out entries whose deletion the sink, which may be waiting or stopped, had not committed."""
        wanted, last = set(names), dict[bytes, StoredEntry]()
        for page in self._history.read(committed, self._positions):
            for batch in page.batches:
                for entry in self._expected(batch):
                    if isinstance(entry, StoredEntry) and entry.name in wanted:
                        known = last.get(entry.name)
                        if known is None or entry.version < 0 or entry.version >= known.version:
                            last[entry.name] = entry
            self._progress("reading the records that the connector has not written", page.read, page.whole)
        return [name for name in names if name not in last or last[name].digest]

    def _lookup(self, names: Sequence[bytes], *, new: bool) -> dict[bytes, StoredEntry]:
        found: dict[bytes, StoredEntry] = {}
        for start in range(0, len(names), _CHUNK):
            found.update(self._rebuilder.lookup(names[start : start + _CHUNK], new=new))
        return found

    def _write(self, batches: Sequence[SinkBatch]) -> None:
        by_topic: dict[str, list[SinkBatch]] = {}
        for batch in batches:
            by_topic.setdefault(batch.topic, []).append(batch)
        for topic, mine in by_topic.items():
            for rejection in self._put(topic, mine):
                self._refuse(str(rejection))

    def _put(self, topic: str, batches: Sequence[SinkBatch]) -> Sequence[object]:
        return [rejection.error for rejection in self._retried(lambda: self._writer(topic).put(batches))]

    def _retried(self, call: Callable[[], T]) -> T:
        return retry(
            call,
            policy=_WRITE_RETRIES,
            on_failure=lambda error, failures: self._progress(f"waiting: {error.message}", 0, 0),
        )

    def _writer(self, topic: str) -> SinkTask:
        if topic not in self._writers:
            if topic not in self._begun.writers:
                raise TaskError(
                    f"a transform sends records to '{topic}', which is not one of the connector's topics",
                    code="reindex.not_supported",
                    hint="only records that keep their topic can be rebuilt: remove the transform",
                )
            self._writers[topic] = self._open_writer(topic, self._begun.writers[topic])
        return self._writers[topic]

    def _refuse(self, reason: str) -> None:
        self._report.refused += 1
        self._report.refused_reason = self._report.refused_reason or reason


def _would_lose(report: RebuildReport) -> ConflictError:
    text = (
        f"{report.lost} documents would be lost: they are in the current generation and not in the new one "
        f"({', '.join(report.samples)})"
    )
    if report.refused:
        text += f"; {report.refused} records were refused: {report.refused_reason}"
        cure = "change the configuration so that the new generation takes them, and run the command again"
    else:
        text += "; their records are gone from the topic"
        cure = (
            "run the command again with --copy-lost, which copies them, or after a second source connector has sent "
            "their rows again"
        )
    return ConflictError(
        text,
        code="reindex.would_lose",
        hint=f"{cure}; --accept-lost switches without them (the current generation is kept), --abort undoes",
    )
