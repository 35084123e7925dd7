"""Response bodies of Connect.

Statuses have three fields that Connect has not: ``reason`` (what a RUNNING connector or task waits for; only when there
is one), ``since`` (epoch milliseconds of the last change of state or ``condition``; only when known) and ``condition``:
``RETRYING`` while a RUNNING one retries the same work. ``state`` stays RUNNING then, because tools know only Connect's
states. ``delivery`` of a source is headrace's own, too. As in Connect ``trace`` is omitted when empty, and ``version``
when unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from headrace.freshness import AgeSummary, FreshnessSummary
from headrace.registry import Plugin
from headrace.runtime.api import ConnectorInfo, ConnectorStatus, TaskInfo, TaskProgress, TaskRecords
from headrace.runtime.group_api import GroupView
from headrace.states import Status, TaskId
from headrace.step_accounting import step_balance

RETRYING = "RETRYING"


def connector_info(info: ConnectorInfo) -> dict[str, Any]:
    """Connect's ConnectorInfo."""
    return {
        "name": info.name,
        "config": dict(info.config),
        "tasks": [task_id(task) for task in info.tasks],
        "type": info.type,
    }


def connector_status(status: ConnectorStatus) -> dict[str, Any]:
    """Connect's ConnectorStateInfo, tasks by number."""
    return {
        "name": status.name,
        "connector": _state(status.connector),
        "tasks": [task_state(number, status.tasks[number]) for number in sorted(status.tasks)],
        "type": status.type,
        **({"delivery": status.delivery} if status.delivery else {}),
        **({"conditions": [asdict(condition) for condition in status.conditions]} if status.conditions else {}),
    }


def workers_body(view: GroupView) -> dict[str, Any]:
    """Return the workers of a group and the problems of its setup."""
    leader = urlsplit(view.leader).netloc if view.leader else None
    workers = [
        {
            "worker_id": item.worker,
            "leader": item.worker == leader,
            "version": item.version,
            "plugins": sorted(item.plugins),
            **(
                {"clock_ahead_ms": round(view.clock_offsets[item.worker] * 1000)}
                if item.worker in view.clock_offsets
                else {}
            ),
        }
        for item in view.workers
    ]
    problems = [{"code": item.code, "message": item.message, "hint": item.hint} for item in view.problems]
    return {"group": view.group, "leader": leader, "workers": workers, "problems": problems}


def task_state(number: int, status: Status) -> dict[str, Any]:
    """Connect's TaskState."""
    return {"id": number, **_state(status)}


def records(name: str, tasks: Mapping[int, TaskRecords]) -> dict[str, Any]:
    """headrace's account of records: the counts of each task, their balance, why records were not written, where a sink
    or a stream application is in its partitions, and the outcomes of the records of the application's steps."""
    return {
        "name": name,
        "tasks": [
            {
                "id": number,
                "counts": dict(task.counts),
                "balance": task.balance,
                "causes": [asdict(cause) for cause in task.causes],
                "partitions": [
                    {"partition": partition, **asdict(account), "balance": account.balance}
                    for partition, account in sorted(task.partitions.items())
                ],
                "steps": [
                    {"step": step, **account, "balance": step_balance(account)}
                    for step, account in sorted(task.steps.items())
                ],
            }
            for number, task in sorted(tasks.items())
        ],
    }


def progress(name: str, tasks: Mapping[int, TaskProgress]) -> dict[str, Any]:
    """headrace's progress of each running task."""
    return {"name": name, "tasks": [{"id": number, **asdict(task)} for number, task in sorted(tasks.items())]}


def freshness(name: str, tasks: Mapping[TaskId, FreshnessSummary]) -> dict[str, Any]:
    """The ages of a connector's data at the hops of each running task, in seconds."""
    return {
        "name": name,
        "tasks": [
            {
                "id": task.number,
                "data_as_of": found.as_of or None,
                "age": _ages(found.age),
                "hops": {hop: _ages(ages) for hop, ages in found.hops.items()},
                "slo": found.objective,
                "exceeded": found.exceeded,
            }
            for task, found in sorted(tasks.items())
            if task.connector == name
        ],
    }


def _ages(found: AgeSummary) -> dict[str, float | int | None]:
    return {"batches": found.observed, "newest": found.newest, "p50": found.p50, "p99": found.p99}


def task_info(info: TaskInfo) -> dict[str, Any]:
    """Connect's TaskInfo; the configuration is raw."""
    return {"id": task_id(info.id), "config": dict(info.config)}


def task_id(task: TaskId) -> dict[str, Any]:
    """Connect's ConnectorTaskId."""
    return {"connector": task.connector, "task": task.number}


def plugin(item: Plugin) -> dict[str, str]:
    """Connect's PluginInfo; ``class`` is the Python path, good as ``connector.class``."""
    return {"class": item.class_name, "type": item.type, "version": item.version}


def _state(status: Status) -> dict[str, Any]:
    optional = {
        "trace": status.trace,
        "version": status.version,
        "reason": status.reason,
        "since": status.since,
        "condition": RETRYING if status.retrying else None,
    }
    return {
        "state": status.state.value,
        "worker_id": status.worker_id,
        **{name: value for name, value in optional.items() if value},
    }
