"""Accounts of records as tables: what became of the records that tasks have read, and the offsets of partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from headrace.accounting import PartitionAccount, RecordCause
from headrace.cli.output import print_table
from headrace.cli.status_view import age
from headrace.errors import HeadraceError
from headrace.runtime.api import TaskRecords
from headrace.step_accounting import TERMS as TERMS_OF_STEPS
from headrace.step_accounting import step_balance

Row = tuple[object, ...]
TERMS = {
    "read": "read",
    "split": "split",
    "written": "written",
    "unchanged": "unchanged",
    "filtered": "filtered",
    "dead_lettered": "dead-lettered",
    "skipped": "skipped",
    "discarded": "discarded",
    "in_flight": "in flight",
}
"""The terms of the balance, and their columns."""
COUNTS = ("connector", "task", *TERMS.values(), "not accounted for")
CAUSES = ("connector", "task", "outcome", "code", "records", "first", "last", "example")
STEPS = ("connector", "task", "step", *TERMS_OF_STEPS, "not accounted for")
PARTITIONS = ("connector", "task", "partition", "from", "read", "removed unread", "no record", "unexplained", "next")


def parse_records(body: Mapping[str, Any]) -> dict[int, TaskRecords]:
    """Parse the response of ``GET /v1/connectors/NAME/records``. Raises HeadraceError."""
    try:
        return {
            int(task["id"]): TaskRecords(
                {term: int(task["counts"][term]) for term in TERMS},
                [RecordCause(**cause) for cause in task["causes"]],
                {part["partition"]: _account(part) for part in task["partitions"]},
                {item["step"]: {term: int(item[term]) for term in TERMS_OF_STEPS} for item in task.get("steps", ())},
            )
            for task in body["tasks"]
        }
    except (KeyError, TypeError, ValueError) as error:
        text = f"cannot parse the records that the worker returned: {type(error).__name__} {error}"
        raise HeadraceError(text, code="worker.not_understood", hint="show the raw response with --json") from error


def print_records(accounts: Mapping[str, Mapping[int, TaskRecords]], now_ms: int) -> None:
    """Print the accounts of connectors; a table without rows is left out."""
    tables: tuple[tuple[Sequence[str], Callable[[str, Mapping[int, TaskRecords]], Iterable[Row]]], ...] = (
        (COUNTS, count_rows),
        (CAUSES, lambda name, tasks: cause_rows(name, tasks, now_ms)),
        (PARTITIONS, partition_rows),
        (STEPS, step_rows),
    )
    for columns, rows_of in tables:
        rows = [row for name, tasks in accounts.items() for row in rows_of(name, tasks)]
        if rows:
            print_table(columns, rows, folded="example")


def count_rows(name: str, tasks: Mapping[int, TaskRecords]) -> Iterator[Row]:
    """Yield a row for :data:`COUNTS` per task."""
    for number, task in sorted(tasks.items()):
        counts = (_number(task.counts[term]) for term in TERMS)
        yield name, number, *counts, _number(task.balance)


def cause_rows(name: str, tasks: Mapping[int, TaskRecords], now_ms: int) -> Iterator[Row]:
    """Yield a row for :data:`CAUSES` per reason why records of a task were not written."""
    for number, task in sorted(tasks.items()):
        for cause in task.causes:
            times = (_ago(moment, now_ms) for moment in (cause.first, cause.last))
            outcome = TERMS.get(cause.outcome, cause.outcome)
            yield name, number, outcome, cause.code, _number(cause.count), *times, cause.example or "-"


def partition_rows(name: str, tasks: Mapping[int, TaskRecords]) -> Iterator[Row]:
    """Yield a row for :data:`PARTITIONS` per partition: next = from + read + the gaps between them."""
    for number, task in sorted(tasks.items()):
        for partition, account in sorted(task.partitions.items()):
            gaps = (account.retention, account.no_record, account.unexplained)
            yield name, number, partition, *map(_number, (account.start, account.read, *gaps, account.next))


def step_rows(name: str, tasks: Mapping[int, TaskRecords]) -> Iterator[Row]:
    """Yield a row for :data:`STEPS` per account of a stream application's steps."""
    for number, task in sorted(tasks.items()):
        for step, account in sorted(task.steps.items()):
            counts = (_number(account[term]) for term in TERMS_OF_STEPS)
            yield name, number, step, *counts, _number(step_balance(account))


def _account(part: Mapping[str, Any]) -> PartitionAccount:
    gaps = (int(part[gap]) for gap in ("retention", "no_record", "unexplained"))
    return PartitionAccount(int(part["start"]), int(part["next"]), int(part["read"]), *gaps)


def _number(count: int) -> str:
    return f"{count:,}"


def _ago(moment: int, now_ms: int) -> str:
    text = age(moment, now_ms)
    return text if text in ("-", "now") else f"{text} ago"
