"""The balance of records: each record that a task has read is written, or has a reason why it is not.

::

    read + split = written + unchanged + filtered + dead-lettered + skipped + discarded + in flight

=============  ======================================================================================================
read           polled from the source's system, or consumed from Kafka
split          further records that transforms made of one
written        acknowledged by Kafka, or durable in the sink's system; of a stream task: its outputs and state changes
               are committed
unchanged      the sink's system has the same or a newer version already
filtered       dropped by a transform
dead-lettered  refused, and written to the dead letter queue
skipped        refused, and dropped by ``errors.tolerance`` or by the sink's own configuration
discarded      given up when partitions were reassigned or the task ended: they are read again from the stored position
in flight      read, and none of the above yet
=============  ======================================================================================================

For each partition of a sink or a stream application also (:class:`PartitionAccount`)::

    next expected offset = first expected offset + read + gaps
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

_READ = ("source_record_poll_total", "sink_record_read_total", "stream_record_read_total")
_SPLIT = ("source_record_split_total", "sink_record_split_total")
_OUTCOMES = {
    "written": ("source_record_write_total", "sink_record_send_total", "stream_record_commit_total"),
    "unchanged": ("sink_record_unchanged_total",),
    "filtered": ("source_record_filtered_total", "sink_record_filtered_total"),
    "dead_lettered": (
        "source_record_dead_lettered_total",
        "sink_record_dead_lettered_total",
        "stream_record_dead_lettered_total",
    ),
    "skipped": ("source_record_skipped_total", "sink_record_skipped_total", "stream_record_skipped_total"),
    "discarded": ("source_record_discarded_total", "sink_record_discarded_total", "stream_record_discarded_total"),
    "in_flight": ("source_record_active_count", "sink_record_active_count", "stream_record_active_count"),
}
_MOST_CAUSES = 100
"""Causes that are counted separately; plugins may define further codes."""


def record_counts(counters: Mapping[str, int]) -> dict[str, int]:
    """Return the terms of the balance (see above) of one task's counters."""
    terms = {"read": _READ, "split": _SPLIT, **_OUTCOMES}
    return {term: sum(counters.get(name, 0) for name in names) for term, names in terms.items()}


def balance(counts: Mapping[str, int]) -> int:
    """Return the number of records of :func:`record_counts` without a known outcome: 0 when none is missing.

    Below 0: more outcomes were counted than records were read.
    """
    return counts["read"] + counts["split"] - sum(counts[term] for term in _OUTCOMES)


@dataclass(frozen=True, slots=True)
class RecordCause:
    """Why records were not written. ``first`` and ``last`` are epoch milliseconds."""

    outcome: str
    """A term of the balance."""
    code: str
    count: int
    first: int
    last: int
    example: str


class RecordCauses:
    """The causes of one task's records that were not written. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str], RecordCause] = {}

    def note(self, outcome: str, code: str, count: int, example: str = "") -> None:
        """Count records; called once per batch and cause. An empty ``example`` keeps the last one."""
        now = time.time_ns() // 1_000_000
        if (outcome, code) not in self._causes and len(self._causes) >= _MOST_CAUSES:
            code = "other"
        known = self._causes.get((outcome, code)) or RecordCause(outcome, code, 0, now, now, "")
        self._causes[outcome, code] = RecordCause(
            outcome, code, known.count + count, known.first, now, example or known.example
        )

    def snapshot(self) -> list[RecordCause]:
        """Return the causes, those that appeared first at the beginning."""
        return list(self._causes.values())


@dataclass(frozen=True, slots=True)
class PartitionAccount:
    """Where a task is in a partition, and why: ``next`` = ``start`` + ``read`` + gaps, which have no record."""

    start: int
    """The first offset that was expected: the committed one, or that of the first record that was read."""
    next: int
    """The offset that is expected next."""
    read: int = 0
    """Records."""
    retention: int = 0
    """Gap: offsets whose records were removed before they were read."""
    no_record: int = 0
    """Gap: offsets that have no record for a reader. Compaction removed it, it belongs to an aborted transaction, or it
    is the marker of a transaction."""
    unexplained: int = 0
    """Gap: offsets whose cause has not been looked up yet."""

    @property
    def balance(self) -> int:
        """0 when every offset is accounted for."""
        return self.next - self.start - self.read - self.retention - self.no_record - self.unexplained


class PartitionAccounts:
    """The accounts of a task's partitions. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._accounts: dict[str, PartitionAccount] = {}

    def begin(self, partition: str, start: int) -> None:
        """Begin a new account: the partition was assigned, or created again."""
        self._accounts[partition] = PartitionAccount(start, start)

    def begin_earlier(self, partition: str, start: int, first: int) -> None:
        """Note that ``start`` was expected when the account began later; retention removed all records before
        ``first``."""
        account = self._accounts[partition]
        if start < account.start:
            retention = min(first, account.start) - start
            self._accounts[partition] = replace(
                account,
                start=start,
                retention=account.retention + retention,
                no_record=account.no_record + account.start - start - retention,
            )

    def read(self, partition: str, records: int, end: int, gap: int) -> None:
        """Count the records of a batch up to the offset before ``end``. ``gap``: offsets without a record."""
        account = self._accounts[partition]
        self._accounts[partition] = replace(
            account, next=end, read=account.read + records, unexplained=account.unexplained + gap
        )

    def explain(self, partition: str, retention: int, no_record: int) -> None:
        """Note the causes of unexplained offsets."""
        account = self._accounts[partition]
        self._accounts[partition] = replace(
            account,
            retention=account.retention + retention,
            no_record=account.no_record + no_record,
            unexplained=account.unexplained - retention - no_record,
        )

    def remove(self, partition: str) -> None:
        """Remove the account of a partition that was revoked."""
        self._accounts.pop(partition, None)

    def snapshot(self) -> dict[str, PartitionAccount]:
        """Return the accounts by partition."""
        return dict(self._accounts)
