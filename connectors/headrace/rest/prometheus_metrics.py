"""headrace's own metrics for Prometheus: counters of tasks and their parts, states, conditions, versions."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from headrace.errors import NotFoundError
from headrace.freshness import BUCKETS, AgeSummary, FreshnessSummary
from headrace.metrics import DESCRIPTIONS, PART_DESCRIPTIONS
from headrace.rest.prometheus_names import ExposedMetric, exposed
from headrace.rest.record_metrics import record_metrics
from headrace.runtime.api import ConnectorStatus, TaskRecords, WorkerApi
from headrace.states import State, TaskId


def statuses(api: WorkerApi) -> list[ConnectorStatus]:
    """Return the status of every connector."""
    found = []
    for name in api.connectors():
        try:
            found.append(api.status(name))
        except NotFoundError:  # deleted since the names were read
            continue
    return found


def task_records(api: WorkerApi) -> Iterator[tuple[TaskId, TaskRecords]]:
    """Yield the account of the records of every running task."""
    for name in api.connectors():
        try:
            tasks = api.records(name)
        except NotFoundError:  # deleted since the names were read
            continue
        for number, records in sorted(tasks.items()):
            yield TaskId(name, number), records


class WorkerCollector(Collector):
    """Reads the worker once per scrape. It keeps no state, so that ended tasks leave no stale series."""

    def __init__(self, api: WorkerApi, kafka_client: str = "") -> None:
        """``kafka_client``: name and version of the Kafka client."""
        self._api = api
        self._kafka_client = kafka_client

    def collect(self) -> Iterator[Metric]:
        """``headrace_<name>{connector,task}`` and one 0/1 series per possible state (as a Prometheus state set)."""
        yield self._build()
        yield from self._counters()
        yield from self._parts()
        yield from record_metrics(task_records(self._api))
        yield from _freshness(self._api.freshness())
        known = statuses(self._api)
        yield from _states(known)
        yield _infos(known)
        yield _conditions(known)

    def _build(self) -> Metric:
        build = GaugeMetricFamily(
            "headrace_build_info",
            "1, with the versions of the worker.",
            labels=("version", "python_version", "kafka_client"),
        )
        build.add_metric((importlib.metadata.version("headrace"), platform.python_version(), self._kafka_client), 1)
        return build

    def _counters(self) -> Iterator[Metric]:
        tasks = sorted(self._api.metrics().items())
        for name, description in DESCRIPTIONS.items():
            shown = exposed(name)
            metric = _family(shown, description)
            for task, values in tasks:
                if name in values:
                    labels = {"connector": task.connector, "task": str(task.number)}
                    metric.add_sample(shown.name, labels, values[name] * shown.factor)
            yield metric

    def _parts(self) -> Iterator[Metric]:
        tasks = sorted(self._api.part_metrics().items())
        for name, description in PART_DESCRIPTIONS.items():
            shown = exposed(name)
            metric = _family(shown, description)
            for task, parts in tasks:
                for part, values in sorted(parts.items()):
                    if name in values:
                        labels = {"connector": task.connector, "task": str(task.number), "part": part}
                        metric.add_sample(shown.name, labels, values[name] * shown.factor)
            if metric.samples:
                yield metric


def _family(shown: ExposedMetric, description: str) -> Metric:
    return Metric(shown.name.removesuffix("_total"), description, shown.type)


def _freshness(found: Mapping[TaskId, FreshnessSummary]) -> Iterator[Metric]:
    of_tasks = ("connector", "task")
    ages = HistogramMetricFamily(
        "headrace_freshness_seconds",
        "Age of the data when it was acknowledged by Kafka, committed, or searchable; one observation for each batch.",
        labels=of_tasks,
    )
    hops = HistogramMetricFamily(
        "headrace_hop_seconds", "Time at a hop; one observation for each batch.", labels=(*of_tasks, "hop")
    )
    as_of = GaugeMetricFamily(
        "headrace_data_timestamp_seconds", "When the newest data that was passed on changed.", labels=of_tasks
    )
    objectives = GaugeMetricFamily(
        "headrace_freshness_slo_seconds", "Age that data may have (freshness.slo).", labels=of_tasks
    )
    exceeded = GaugeMetricFamily(
        "headrace_freshness_slo_exceeded", "1 while data is older than freshness.slo, else 0.", labels=of_tasks
    )
    for task, freshness in sorted(found.items()):
        labels = (task.connector, str(task.number))
        if freshness.age.observed:
            ages.add_metric(labels, _buckets(freshness.age), freshness.age.total)
            as_of.add_metric(labels, freshness.as_of / 1000)
        for hop, spent in sorted(freshness.hops.items()):
            hops.add_metric((*labels, hop), _buckets(spent), spent.total)
        if freshness.objective is not None:
            objectives.add_metric(labels, freshness.objective)
            exceeded.add_metric(labels, freshness.exceeded)
    yield from (family for family in (ages, hops, as_of, objectives, exceeded) if family.samples)


def _buckets(found: AgeSummary) -> list[tuple[str, float]]:
    """Return the cumulative buckets."""
    bounds = (*map(floatToGoString, BUCKETS), "+Inf")
    return list(zip(bounds, accumulate(found.buckets), strict=True))


def _states(known: Sequence[ConnectorStatus]) -> Iterator[Metric]:
    connectors = GaugeMetricFamily(
        "headrace_connector_state", "1 for the state the connector is in, else 0.", labels=("connector", "state")
    )
    tasks = GaugeMetricFamily(
        "headrace_task_state", "1 for the state the task is in, else 0.", labels=("connector", "task", "state")
    )
    retrying = GaugeMetricFamily(
        "headrace_task_retrying",
        "1 while the task makes no progress and retries, because it waits for a system; else 0.",
        labels=("connector", "task"),
    )
    for status in known:
        for state in State:
            connectors.add_metric((status.name, state.value), status.connector.state is state)
        for number, task in sorted(status.tasks.items()):
            for state in State:
                tasks.add_metric((status.name, str(number), state.value), task.state is state)
            # A task that cannot start because a system is unavailable is UNASSIGNED and has a reason.
            waits = task.retrying or (task.state is State.UNASSIGNED and task.reason is not None)
            retrying.add_metric((status.name, str(number)), waits)
    yield from (connectors, tasks, retrying)


def _infos(known: Sequence[ConnectorStatus]) -> Metric:
    infos = GaugeMetricFamily(
        "headrace_connector_info",
        "1, with the class, type and version of the connector.",
        labels=("connector", "class", "type", "version"),
    )
    for status in known:
        infos.add_metric(
            (status.name, status.connector_class, status.type, status.connector.version or ""),
            1,
        )
    return infos


def _conditions(known: Sequence[ConnectorStatus]) -> Metric:
    conditions = GaugeMetricFamily(
        "headrace_connector_condition",
        "1 while a condition of the connector is not acknowledged; no series without one.",
        labels=("connector", "code"),
    )
    for status in known:
        for condition in status.conditions:
            conditions.add_metric((status.name, condition.code), 1)
    return conditions
