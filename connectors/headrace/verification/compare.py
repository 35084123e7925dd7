"""Compare the records of topics with the entries of a sink's system, and repair the differences.

Both are read once and partitioned by a hash of the name, so that memory is bounded by one bucket. In each bucket, the
last record of every name is compared with the stored entry. Differences are then checked a second time, against the
records that arrived in the meantime: while the connector runs, records that it is still writing are not reported.
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
from headrace.verification.disk_buckets import BUCKETS, ROWS_IN_MEMORY, DiskBuckets, EntryRow
from headrace.verification.history import History, Positions, Progress

T = TypeVar("T")
MISSING, STALE, EXTRA = "missing", "stale", "extra"
MOST_DIFFERENCES = 500_000
"""Differences above this limit are counted, but neither checked again nor repaired in the same run."""
_CHUNK = 1_000
_FEW = 1_000
"""Offsets of a partition that are read to count their records."""
_GRACE = 2.0


class Difference(NamedTuple):
    """An entry that differs from what its records say. ``record``: the last record with its name, if there is one."""

    kind: str
    name: bytes
    expected: StoredEntry | None
    present: StoredEntry | None
    record: tuple[TopicPartition, int] | None

    @property
    def title(self) -> str:
        return self.name.decode(errors="backslashreplace")


@dataclass
class VerificationReport:
    """Result of a verification. ``equal``: no difference is left."""

    records: int = 0
    names: int = 0
    """Distinct names in the records."""
    found: int = 0
    """Entries in the system."""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((MISSING, STALE, EXTRA), 0))
    samples: list[Difference] = field(default_factory=list)
    unusable: int = 0
    """Records that cannot be converted or written."""
    unusable_reason: str = ""
    ahead: int = 0
    """Equal contents with a version above the record's: later records will be ignored as outdated."""
    contested: int = 0
    """Names with a newer record in another partition or topic, whose offset is lower: it is ignored as outdated."""
    contested_example: str = ""
    behind: int = 0
    """Records that the connector has not written yet; they are not compared."""
    expired: bool = False
    """Retention has removed records: an entry without a record may come from one of them, so it is never removed."""
    unexamined: int = 0
    repaired: int = 0
    unrepaired: int = 0
    unrepaired_reason: str = ""

    @property
    def differences(self) -> int:
        return sum(self.counts.values())

    @property
    def equal(self) -> bool:
        return self.differences == self.repaired and not self.contested


def verify(
    verifier: Verifier,
    history: History,
    *,
    to_end: bool = False,
    repair: bool = False,
    samples: int = 5,
    progress: Progress = lambda *_: None,
    rows_in_memory: int = ROWS_IN_MEMORY,
) -> VerificationReport:
    """Compare the records before the connector's committed offsets; ``to_end``: all records.

    At most ``rows_in_memory`` rows of the topics, and as many of the system, are kept in memory; the rest is on disk.

    Raises RetriableError, InfrastructureError, TaskError, NotFoundError.
    """
    ends = history.ends()
    until = ends if to_end else history.committed()
    if not until and any(ends.values()):
        raise ConflictError(
            f"the connector has not committed any position yet (group {history.group})",
            code="verify.no_positions",
            hint="run the connector first, or use --to-end to compare with all records",
        )
    report = VerificationReport(
        behind=_behind(history, until, ends),
        expired=any(history.reader.beginnings(list(ends)).values()),
    )
    with tempfile.TemporaryDirectory(prefix="headrace-verify-") as folder:
        buckets = tuple(DiskBuckets(Path(folder), title, rows_in_memory) for title in ("expected", "stored"))
        run = _VerificationRun(verifier, history, report, buckets, progress)
        run.read_topics(until)
        run.read_system()
        found = run.examine(run.compare(), until)
        report.samples = _some_of_each(found, samples)
        for difference in found:
            report.counts[difference.kind] += 1
        if repair:
            run.repair(found)
    return report


class _VerificationRun:
    def __init__(
        self,
        verifier: Verifier,
        history: History,
        report: VerificationReport,
        buckets: tuple[DiskBuckets, ...],
        progress: Progress,
    ) -> None:
        self._verifier = verifier
        self._history = history
        self._report = report
        self._progress = progress
        self._expected, self._stored = buckets
        self._places: list[TopicPartition] = []
        self._numbers: dict[TopicPartition, int] = {}

    def read_topics(self, until: Positions) -> None:
        for page in self._history.read({}, until):
            self._report.records = page.read
            for failure in page.failures:
                self._count_unusable(failure.error)
            for batch in page.batches:
                self._expected.add(self._rows(batch))
            self._progress("reading topics", page.read, page.whole)

    def read_system(self) -> None:
        for entries in self._verifier.stored_entries():
            self._stored.add(EntryRow(*entry) for entry in entries)
            self._progress("reading the system", self._stored.rows, self._report.names)
        self._report.found = self._stored.rows

    def compare(self) -> Iterator[Difference]:
        """Return candidates: entries that differ from the records read so far."""
        for number in range(BUCKETS):
            self._progress("comparing", number, BUCKETS)
            last: dict[bytes, EntryRow] = {}
            newest: dict[bytes, EntryRow] = {}
            for row in self._expected.bucket(number):
                before = last.get(row.name)
                if before is None or row.version < 0 or row.version >= before.version:
                    last[row.name] = row
                newer = newest.get(row.name)
                if newer is None or row.place == newer.place or row.timestamp >= newer.timestamp:
                    newest[row.name] = row
            self._report.names += len(last)
            if self._verifier.versions_are_offsets():
                self._find_contested(last, newest)
            for present in self._stored.bucket(number):
                wanted = last.pop(present.name, None)
                digest = wanted.digest if wanted is not None else b""
                if digest != present.digest:
                    yield self._difference(present.name, wanted, StoredEntry(*present[:3]))
                elif wanted is not None and present.version > wanted.version >= 0:
                    self._report.ahead += 1
            for wanted in last.values():
                if wanted.digest:
                    yield self._difference(wanted.name, wanted, None)

    def _find_contested(self, last: Mapping[bytes, EntryRow], newest: Mapping[bytes, EntryRow]) -> None:
        for name, row in last.items():
            newer = newest[name]
            if newer.place != row.place and newer.digest != row.digest:
                self._report.contested += 1
                if not self._report.contested_example:
                    self._report.contested_example = (
                        f"{name.decode(errors='backslashreplace')} has its newest record in "
                        f"{self._places[newer.place]} at offset {newer.offset}, and an older one in "
                        f"{self._places[row.place]} at offset {row.offset}"
                    )

    def examine(self, found: Iterator[Difference], until: Positions) -> list[Difference]:
        """Return the candidates that still differ from their last record and from all records that arrived later."""
        candidates = list(islice(found, MOST_DIFFERENCES))
        for difference in found:
            self._report.unexamined += 1
            self._report.counts[difference.kind] += 1
        if not candidates:
            return []
        present = self._lookup([difference.name for difference in candidates])
        # Read the end offsets after the lookup: every entry that it returned was written before them.
        later = self._later({difference.name for difference in candidates}, until, self._history.ends())
        confirmed = []
        for difference in candidates:
            now, records = present.get(difference.name), later.get(difference.name, [])
            digest = now.digest if now is not None else b""
            wanted = difference.expected.digest if difference.expected is not None else b""
            if digest == wanted or any(digest == record.digest for record in records):
                continue
            if records:
                confirmed.append(self._difference(difference.name, records[-1], now))
            else:
                confirmed.append(difference._replace(present=now, kind=_kind(difference.expected, now)))
        return confirmed

    def repair(self, differences: Sequence[Difference]) -> None:
        """Write the missing and stale records, remove extra entries, and check the result."""
        left = self._repair_once(differences)
        if left and (retention := self._verifier.version_retention()):
            end = time.monotonic() + retention + _GRACE
            while (seconds := end - time.monotonic()) > 0:
                self._progress("waiting until the versions of deleted entries expire, seconds left", round(seconds), 0)
                time.sleep(min(seconds, 1.0))
            left = self._repair_once(left)
        self._report.unrepaired = len(left)
        self._report.repaired = len(differences) - len(left)
        if left and not self._report.unrepaired_reason:
            expired = "retention has removed records, so entries without a record are kept"
            older = "the system refuses the records as outdated: its entries have higher versions"
            self._report.unrepaired_reason = expired if self._report.expired else older

    def _repair_once(self, differences: Sequence[Difference]) -> list[Difference]:
        """Repair, and return the differences that are unchanged."""
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
            entries = self._verifier.expected_entries(batch)
            present = [wrong[entry.name].present if isinstance(entry, StoredEntry) else None for entry in entries]
            for rejection in self._verifier.write(batch, present):
                self._report.unrepaired_reason = self._report.unrepaired_reason or str(rejection.error)
            written += len(batch)
            self._progress("writing", written, whole)
        # An entry that a later record has changed in the meantime counts as repaired.
        now = self._lookup([difference.name for difference in differences])
        return [item for item in differences if _digest(now.get(item.name)) == _digest(item.present)]

    def _lookup(self, names: Sequence[bytes]) -> Mapping[bytes, StoredEntry]:
        present: dict[bytes, StoredEntry] = {}
        for chunk in _chunks(names):
            present.update(self._verifier.lookup(chunk))
            self._progress("checking differences again", len(present), len(names))
        return present

    def _later(self, names: set[bytes], start: Positions, until: Positions) -> dict[bytes, list[EntryRow]]:
        """Return the records with these names from ``start`` to ``until``, in order."""
        later: dict[bytes, list[EntryRow]] = defaultdict(list)
        for page in self._history.read(start, until):
            for batch in page.batches:
                for row in self._rows(batch, count=False):
                    if row.name in names:
                        later[row.name].append(row)
            self._progress("reading newer records", page.read, page.whole)
        return later

    def _rows(self, batch: SinkBatch, *, count: bool = True) -> Iterator[EntryRow]:
        place = self._numbers.get(batch.topic_partition)
        if place is None:
            place = self._numbers[batch.topic_partition] = len(self._places)
            self._places.append(batch.topic_partition)
        entries = self._verifier.expected_entries(batch)
        for offset, timestamp, entry in zip(batch.offsets, batch.timestamps, entries, strict=True):
            if isinstance(entry, StoredEntry):
                yield EntryRow(*entry, place, offset, timestamp)
            elif entry is not None and count:
                self._count_unusable(entry)

    def _count_unusable(self, error: DataError) -> None:
        self._report.unusable += 1
        self._report.unusable_reason = self._report.unusable_reason or str(error)

    def _difference(self, name: bytes, wanted: EntryRow | None, present: StoredEntry | None) -> Difference:
        if wanted is None:
            return Difference(EXTRA, name, None, present, None)
        expected = StoredEntry(*wanted[:3])
        record = (self._places[wanted.place], wanted.offset)
        return Difference(_kind(expected, present), name, expected, present, record)


def _behind(history: History, until: Positions, ends: Positions) -> int:
    """Count the records after ``until``. Where they are few they are read: transaction markers have offsets, too."""
    gaps = {item: end - until.get(item, 0) for item, end in ends.items()}
    few = {item for item, gap in gaps.items() if 0 < gap <= _FEW}
    start = {item: until.get(item, 0) for item in few}
    counted = 0
    for page in history.read(start, {item: ends[item] for item in few}):
        counted = page.read
    return counted + sum(gap for item, gap in gaps.items() if item not in few)


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
