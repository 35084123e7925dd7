"""Compares what the topics say with what a sink's system holds, and repairs what differs.

Both sides are read once and cut into ranges of hashed names, so that memory is bounded by one range. In each range the
last record of every name is compared with what is there. What differs is looked at again, together with the records
that came meanwhile: a verification beside a running connector reports nothing that is only on its way.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from headrace.errors import ConflictError, DataError
from headrace.plugin import StoredEntry, Verifier
from headrace.records import SinkBatch, TopicPartition
from headrace.verification.history import History, Positions, Progress
from headrace.verification.spill import BUCKETS, Row, Spill

T = TypeVar("T")
MISSING, STALE, EXTRA = "missing", "stale", "extra"
MOST_DIFFERENCES = 500_000
"""Beyond so many they are counted, but neither looked at again nor repaired in the same run."""
_CHUNK = 1_000
_GRACE = 2.0


class Difference(NamedTuple):
    """One name under which the system does not hold what it should. ``record`` is the last word on it, if any."""

    kind: str
    name: bytes
    expected: StoredEntry | None
    present: StoredEntry | None
    record: tuple[TopicPartition, int] | None

    @property
    def title(self) -> str:
        return self.name.decode(errors="backslashreplace")


@dataclass
class Report:
    """What a verification found. ``equal`` is its verdict."""

    records: int = 0
    names: int = 0
    """Different names that records speak of."""
    found: int = 0
    """What the system holds."""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((MISSING, STALE, EXTRA), 0))
    samples: list[Difference] = field(default_factory=list)
    unusable: int = 0
    """Records that cannot be converted or written."""
    unusable_reason: str = ""
    ahead: int = 0
    """Equal contents under a version above the record's: later records with a lower version will be ignored."""
    behind: int = 0
    """Records that the connector has not written yet; they are not judged."""
    expired: bool = False
    """Retention has removed records: what no record speaks of may come from one of them, and is never removed."""
    unexamined: int = 0
    repaired: int = 0
    unrepaired: int = 0
    unrepaired_reason: str = ""

    @property
    def differences(self) -> int:
        return sum(self.counts.values())

    @property
    def equal(self) -> bool:
        return self.differences == self.repaired


def verify(
    verifier: Verifier,
    history: History,
    *,
    to_end: bool = False,
    repair: bool = False,
    samples: int = 5,
    progress: Progress = lambda *_: None,
) -> Report:
    """Up to the positions that the connector committed; ``to_end``: up to the last record.

    Raises RetriableError, InfrastructureError, TaskError, NotFoundError.
    """
    ends = history.ends()
    until = ends if to_end else history.committed()
    if not until and any(ends.values()):
        raise ConflictError(
            f"the connector has not committed any position yet (group {history.group})",
            code="verify.no_positions",
            hint="let it run first; or --to-end compares with all records",
        )
    report = Report(
        behind=sum(end - until.get(item, 0) for item, end in ends.items()),
        expired=any(history.reader.beginnings(list(ends)).values()),
    )
    with tempfile.TemporaryDirectory(prefix="headrace-verify-") as folder:
        run = _Run(verifier, history, report, Path(folder), progress)
        run.read_topics(until)
        run.read_system()
        found = run.examine(run.compare(), until)
        report.samples = _some_of_each(found, samples)
        for difference in found:
            report.counts[difference.kind] += 1
        if repair:
            run.repair(found)
    return report


class _Run:
    """One verification."""

    def __init__(self, verifier: Verifier, history: History, report: Report, folder: Path, progress: Progress) -> None:
        self._verifier = verifier
        self._history = history
        self._report = report
        self._progress = progress
        self._expected = Spill(folder, "expected")
        self._found = Spill(folder, "found")
        self._places: list[TopicPartition] = []
        self._numbers: dict[TopicPartition, int] = {}

    def read_topics(self, until: Positions) -> None:
        for portion in self._history.read({}, until):
            self._report.records = portion.read
            for failure in portion.failures:
                self._count_unusable(failure.error)
            for batch in portion.batches:
                self._expected.add(self._rows(batch))
            self._progress("reading topics", portion.read, portion.whole)

    def read_system(self) -> None:
        for entries in self._verifier.found():
            self._found.add(Row(*entry) for entry in entries)
            self._progress("reading what is there", self._found.rows, self._report.names)
        self._report.found = self._found.rows

    def compare(self) -> Iterator[Difference]:
        """Candidates: what differs at first sight."""
        for number in range(BUCKETS):
            self._progress("comparing", number, BUCKETS)
            last: dict[bytes, Row] = {}
            for row in self._expected.bucket(number):
                before = last.get(row.name)
                if before is None or row.version < 0 or row.version >= before.version:
                    last[row.name] = row
            self._report.names += len(last)
            for present in self._found.bucket(number):
                wanted = last.pop(present.name, None)
                digest = wanted.digest if wanted is not None else b""
                if digest != present.digest:
                    yield self._difference(present.name, wanted, StoredEntry(*present[:3]))
                elif wanted is not None and present.version > wanted.version >= 0:
                    self._report.ahead += 1
            for wanted in last.values():
                if wanted.digest:
                    yield self._difference(wanted.name, wanted, None)

    def examine(self, at_first_sight: Iterator[Difference], until: Positions) -> list[Difference]:
        """Look again, and at the records that came meanwhile: what is there must be the last or any later word."""
        candidates = list(islice(at_first_sight, MOST_DIFFERENCES))
        for difference in at_first_sight:
            self._report.unexamined += 1
            self._report.counts[difference.kind] += 1
        if not candidates:
            return []
        present = self._look([difference.name for difference in candidates])
        # Ends are asked for after the look: whatever has been seen came before them.
        later = self._later({difference.name for difference in candidates}, until, self._history.ends())
        confirmed = []
        for difference in candidates:
            now, words = present.get(difference.name), later.get(difference.name, [])
            digest = now.digest if now is not None else b""
            wanted = difference.expected.digest if difference.expected is not None else b""
            if digest == wanted or any(digest == word.digest for word in words):
                continue
            if words:
                confirmed.append(self._difference(difference.name, words[-1], now))
            else:
                confirmed.append(difference._replace(present=now, kind=_kind(difference.expected, now)))
        return confirmed

    def repair(self, differences: Sequence[Difference]) -> None:
        """Write the records that are missing or stale, remove what is extra; then look whether it is so."""
        left = self._repair_once(differences)
        if left and (patience := self._verifier.patience()):
            end = time.monotonic() + patience + _GRACE
            while (seconds := end - time.monotonic()) > 0:
                self._progress("waiting until older versions are forgotten, seconds left", round(seconds), 0)
                time.sleep(min(seconds, 1.0))
            left = self._repair_once(left)
        self._report.unrepaired = len(left)
        self._report.repaired = len(differences) - len(left)
        if left and not self._report.unrepaired_reason:
            expired = "retention has removed records, so what no record speaks of is kept"
            older = "the system takes the records for older than what it has"
            self._report.unrepaired_reason = expired if self._report.expired else older

    def _repair_once(self, differences: Sequence[Difference]) -> list[Difference]:
        """Returns those that are as they were."""
        wrong = {difference.name: difference for difference in differences}
        keep_unknown = self._report.expired
        surplus = [
            item.present
            for item in differences
            if item.kind == EXTRA and item.present is not None and (item.record is not None or not keep_unknown)
        ]
        for number, chunk in enumerate(_chunks(surplus)):
            self._progress("removing", number * _CHUNK, len(surplus))
            self._verifier.remove(chunk)
        places: dict[TopicPartition, list[int]] = defaultdict(list)
        for difference in differences:
            if difference.kind != EXTRA and difference.record is not None:
                places[difference.record[0]].append(difference.record[1])
        written, whole = 0, sum(map(len, places.values()))
        for batch in self._history.pick(places):
            entries = self._verifier.expected(batch)
            present = [wrong[entry.name].present if isinstance(entry, StoredEntry) else None for entry in entries]
            for rejection in self._verifier.write(batch, present):
                self._report.unrepaired_reason = self._report.unrepaired_reason or str(rejection.error)
            written += len(batch)
            self._progress("writing", written, whole)
        # What a later record has changed meanwhile is no longer as it was found, and that is enough.
        now = self._look([difference.name for difference in differences])
        return [item for item in differences if _digest(now.get(item.name)) == _digest(item.present)]

    def _look(self, names: Sequence[bytes]) -> Mapping[bytes, StoredEntry]:
        present: dict[bytes, StoredEntry] = {}
        for chunk in _chunks(names):
            present.update(self._verifier.look(chunk))
            self._progress("looking again", len(present), len(names))
        return present

    def _later(self, names: set[bytes], start: Positions, until: Positions) -> dict[bytes, list[Row]]:
        """What records after ``start`` say about these names, in order."""
        later: dict[bytes, list[Row]] = defaultdict(list)
        for portion in self._history.read(start, until):
            for batch in portion.batches:
                for row in self._rows(batch, count=False):
                    if row.name in names:
                        later[row.name].append(row)
            self._progress("reading on", portion.read, portion.whole)
        return later

    def _rows(self, batch: SinkBatch, *, count: bool = True) -> Iterator[Row]:
        place = self._numbers.get(batch.topic_partition)
        if place is None:
            place = self._numbers[batch.topic_partition] = len(self._places)
            self._places.append(batch.topic_partition)
        for offset, entry in zip(batch.offsets, self._verifier.expected(batch), strict=True):
            if isinstance(entry, StoredEntry):
                yield Row(*entry, place, offset)
            elif entry is not None and count:
                self._count_unusable(entry)

    def _count_unusable(self, error: DataError) -> None:
        self._report.unusable += 1
        self._report.unusable_reason = self._report.unusable_reason or str(error)

    def _difference(self, name: bytes, wanted: Row | None, present: StoredEntry | None) -> Difference:
        if wanted is None:
            return Difference(EXTRA, name, None, present, None)
        expected = StoredEntry(*wanted[:3])
        record = (self._places[wanted.place], wanted.offset)
        return Difference(_kind(expected, present), name, expected, present, record)


def _kind(expected: StoredEntry | None, present: StoredEntry | None) -> str:
    if not _digest(expected):
        return EXTRA
    return STALE if _digest(present) else MISSING


def _digest(entry: StoredEntry | None) -> bytes:
    return entry.digest if entry is not None else b""


def _some_of_each(differences: Iterable[Difference], most: int) -> list[Difference]:
    by_kind: dict[str, list[Difference]] = {MISSING: [], STALE: [], EXTRA: []}
    for difference in differences:
        if len(by_kind[difference.kind]) < most:
            by_kind[difference.kind].append(difference)
    return [difference for kind in by_kind.values() for difference in kind]


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
