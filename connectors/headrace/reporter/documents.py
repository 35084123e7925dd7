"""Documents of the metrics and events of a worker: pure functions of two snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.accounting import record_counts
from headrace.conditions import Condition
from headrace.freshness import FreshnessSummary
from headrace.metrics import Parts
from headrace.runtime.api import ConnectorStatus
from headrace.states import Status, TaskId
from headrace.worker_events import EventsSnapshot

Document = dict[str, Any]
_LAGS = ("sink_record_lag", "stream_record_lag", "source_record_active_count", "source_record_remaining")


@dataclass(frozen=True)
class WorkerSnapshot:
    """A worker at one moment; ``at`` is epoch milliseconds."""

    at: int
    worker: str = ""
    statuses: Sequence[ConnectorStatus] = ()
    metrics: Mapping[TaskId, Mapping[str, int]] = field(default_factory=dict)
    parts: Mapping[TaskId, Parts] = field(default_factory=dict)
    freshness: Mapping[TaskId, FreshnessSummary] = field(default_factory=dict)
    events: Mapping[TaskId, EventsSnapshot] = field(default_factory=dict)
    group_events: EventsSnapshot = field(default_factory=EventsSnapshot)


def metric_documents(before: WorkerSnapshot, now: WorkerSnapshot) -> Iterator[Document]:
    """Yield a document for each task, and for each of its hops and steps. Counts are those since ``before``."""
    for status in now.statuses:
        for number, task in sorted(status.tasks.items()):
            identity = TaskId(status.name, number)
            common = {
                "@timestamp": now.at,
                "worker": {"id": now.worker},
                "connector": {"name": status.name, "type": status.type},
            }
            yield {**common, "kind": "task", **_task(identity, task, before, now)}
            freshness = now.freshness.get(identity)
            earlier = before.freshness.get(identity)
            for hop, ages in sorted(freshness.hops.items() if freshness is not None else ()):
                known = earlier.hops.get(hop) if earlier is not None else None
                found = {
                    "name": hop,
                    "batches": _grown(known.observed if known is not None else 0, ages.observed),
                    "newest": ages.newest,
                    "p50": ages.p50,
                    "p99": ages.p99,
                }
                yield {**common, "kind": "hop", "task": {"id": str(identity)}, "hop": found}
            for name, values in sorted(now.parts.get(identity, {}).items()):
                if "stream_step_records" in values:
                    part = _step(identity, name, before, values)
                    yield {**common, "kind": "step", "task": {"id": str(identity)}, "part": part}


def _task(identity: TaskId, status: Status, before: WorkerSnapshot, now: WorkerSnapshot) -> Document:
    counters, earlier = now.metrics.get(identity, {}), before.metrics.get(identity, {})
    counts, known = record_counts(counters), record_counts(earlier)
    grown = {name: _grown(known[name], counts[name]) for name in ("read", "written")}
    seconds = max(0.001, (now.at - before.at) / 1000)
    found: Document = {
        "task": {"id": str(identity), "state": status.state.value, "retrying": status.retrying},
        "records": {
            **grown,
            "per_second": round(grown["written"] / seconds, 3),
            "refused": _grown(earlier.get("total_record_errors", 0), counters.get("total_record_errors", 0)),
            "dead_lettered": _grown(known["dead_lettered"], counts["dead_lettered"]),
        },
        "lag": sum(counters.get(name, 0) for name in _LAGS),
    }
    freshness = now.freshness.get(identity)
    if freshness is not None and freshness.age.observed:
        ages = freshness.age
        found["age"] = {"newest": ages.newest, "p50": ages.p50, "p99": ages.p99}
        found["data_as_of"] = freshness.as_of
    if freshness is not None and freshness.objective is not None:
        found["slo"] = {"seconds": freshness.objective, "exceeded": freshness.exceeded}
    return found


def _step(identity: TaskId, name: str, before: WorkerSnapshot, values: Mapping[str, int]) -> Document:
    known = before.parts.get(identity, {}).get(name, {})
    counts = {
        short: _grown(known.get(f"stream_step_{short}", 0), values.get(f"stream_step_{short}", 0))
        for short in ("records", "dropped", "late")
    }
    return {"name": name, **counts}


def _grown(before: int, now: int) -> int:
    """Return by how much a counter has grown; a task that was restarted counts from 0."""
    return now - before if now >= before else now


def event_documents(before: WorkerSnapshot, now: WorkerSnapshot) -> Iterator[Document]:
    """Yield what happened since ``before``: changes of states, conditions, and the events of tasks and of the group."""
    yield from _happened({"worker": {"id": now.worker}}, before.group_events, now.group_events)
    known = {status.name: status for status in before.statuses}
    for status in now.statuses:
        earlier = known.pop(status.name, None)
        common = {
            "@timestamp": now.at,
            "worker": {"id": now.worker},
            "connector": {"name": status.name, "type": status.type},
        }
        tasks = earlier.tasks if earlier is not None else {}
        yield from _state(common, "", earlier.connector if earlier is not None else None, status.connector)
        for number, task in sorted(status.tasks.items()):
            identity = TaskId(status.name, number)
            yield from _state(common, str(identity), tasks.get(number), task)
            earlier_events = before.events.get(identity, EventsSnapshot())
            of_task = {**common, "task": {"id": str(identity)}}
            yield from _happened(of_task, earlier_events, now.events.get(identity, EventsSnapshot()))
        yield from _conditions(common, earlier.conditions if earlier is not None else (), status.conditions)
    for name, gone in known.items():
        yield {
            "@timestamp": now.at,
            "kind": "state",
            "worker": {"id": now.worker},
            "connector": {"name": name, "type": gone.type},
            "event": {"action": "deleted"},
            "message": f"connector {name} was deleted",
        }


def _happened(common: Document, before: EventsSnapshot, now: EventsSnapshot) -> Iterator[Document]:
    for at, event in now.since(before.total):
        yield {
            **common,
            "@timestamp": at,
            "kind": event.kind,
            "event": {"action": event.action},
            "message": event.text,
            **event.fields,
        }


def _state(common: Document, task: str, before: Status | None, now: Status) -> Iterator[Document]:
    state = "RETRYING" if now.retrying else now.state.value
    earlier = None if before is None else "RETRYING" if before.retrying else before.state.value
    if state == earlier:
        return
    subject = f"task {task}" if task else f"connector {common['connector']['name']}"
    why = now.reason or (now.trace or "").strip().rpartition("\n")[2]
    yield {
        **common,
        "kind": "state",
        **({"task": {"id": task}} if task else {}),
        "event": {"action": "state changed"},
        "state": {"after": state, **({"before": earlier} if earlier is not None else {})},
        "message": f"{subject} is {state}{': ' + why if why else ''}",
    }


def _conditions(common: Document, before: Sequence[Condition], now: Sequence[Condition]) -> Iterator[Document]:
    known = {condition.code: condition for condition in before}
    for condition in now:
        earlier = known.pop(condition.code, None)
        if earlier is None or earlier.last != condition.last:
            action = "condition raised" if earlier is None else "condition raised again"
            yield {
                **common,
                "kind": "condition",
                "event": {"action": action, "code": condition.code},
                "message": condition.text,
            }
    for code, gone in known.items():
        yield {
            **common,
            "kind": "condition",
            "event": {"action": "condition acknowledged", "code": code},
            "message": gone.text,
        }
