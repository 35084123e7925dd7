"""The accounts of records for Prometheus: what the balance of each task is, and where it is in its partitions.

The terms of the balance are counters in ``headrace.metrics``; ``headrace.accounting`` has the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from headrace.runtime.api import TaskRecords
from headrace.states import TaskId

_TASK = ("connector", "task")
_PARTITION = (*_TASK, "topic", "partition")
_VALUES = {
    "start": ("headrace_partition_start_offset", "First offset that a task expected in a partition."),
    "next": ("headrace_partition_next_offset", "Offset that is expected next: start + records + gaps."),
    "read": ("headrace_partition_records", "Records that a task has read from a partition."),
    "balance": ("headrace_partition_balance", "Offsets that are not accounted for; 0 unless headrace has a bug."),
}
_CAUSES = ("retention", "no_record", "unexplained")


def record_metrics(tasks: Iterable[tuple[TaskId, TaskRecords]]) -> Iterator[Metric]:
    """Return the balance of each task, and the account of each partition of a sink or a stream application.

    Gaps have a label ``cause``: ``retention``, ``no_record`` or ``unexplained``.
    """
    balances = GaugeMetricFamily(
        "headrace_task_balance", "Records without a known outcome; 0 unless headrace has a bug.", labels=_TASK
    )
    accounts = {name: GaugeMetricFamily(*described, labels=_PARTITION) for name, described in _VALUES.items()}
    gaps = GaugeMetricFamily(
        "headrace_partition_gap_offsets",
        "Offsets of a partition that had no record to read.",
        labels=(*_PARTITION, "cause"),
    )
    for task, records in tasks:
        labels = (task.connector, str(task.number))
        balances.add_metric(labels, records.balance)
        for place, account in sorted(records.partitions.items()):
            topic, _, partition = place.rpartition("-")
            for name, family in accounts.items():
                family.add_metric((*labels, topic, partition), getattr(account, name))
            for cause in _CAUSES:
                gaps.add_metric((*labels, topic, partition, cause), getattr(account, cause))
    yield balances
    yield from (family for family in (*accounts.values(), gaps) if family.samples)
