"""The metrics of a worker under the names that Kafka Connect's JMX attributes have in Prometheus.

The names are those that the rules of Strimzi give to the JMX exporter, because the dashboards and alert rules of Kafka
Connect use them. Attributes without a counterpart in headrace are left out: they are averages and rates, which
Prometheus computes, and facts about the JVM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.broker.client_traffic import ClientTraffic
from headrace.rest.prometheus_metrics import statuses
from headrace.runtime.api import ConnectorStatus, WorkerApi
from headrace.states import State, TaskId

_TASK_COUNTS = ("running", "paused", "failed", "unassigned", "restarting", "destroyed")
"""``destroyed`` is always 0: headrace removes a task that was destroyed."""

_TASK_METRICS: Mapping[str, str] = {
    "source_task_source_record_poll_total": "source_record_poll_total",
    "source_task_source_record_write_total": "source_record_write_total",
    "source_task_source_record_active_count": "source_record_active_count",
    "sink_task_sink_record_read_total": "sink_record_read_total",
    "sink_task_sink_record_send_total": "sink_record_send_total",
    "sink_task_sink_record_active_count": "sink_record_active_count",
    "sink_task_offset_commit_completion_total": "offset_commit_total",
    "task_error_total_record_errors": "total_record_errors",
    # Kafka Connect also counts each failed attempt of a record that it retries; headrace retries batches.
    "task_error_total_record_failures": "total_record_errors",
    "task_error_total_records_skipped": "total_records_skipped",
    "task_error_total_retries": "total_retries",
    "task_error_deadletterqueue_produce_requests": "deadletterqueue_produce_requests",
    "task_error_deadletterqueue_produce_failures": "deadletterqueue_produce_failures",
}
"""Name without ``kafka_connect_`` → counter of ``headrace.metrics``."""


class ConnectCollector(Collector):
    """Reads the worker once per scrape."""

    def __init__(self, api: WorkerApi, traffic: Callable[[], Sequence[ClientTraffic]] = lambda: ()) -> None:
        """``traffic``: what the worker's Kafka clients have sent and received."""
        self._api = api
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        known = statuses(self._api)
        yield from _worker(known)
        yield from _connectors(known)
        metrics = self._api.metrics()
        types = {status.name: status.type for status in known}
        for name, counter in _TASK_METRICS.items():
            yield _task_metric(name, counter, metrics, types)
        yield from _clients(self._traffic())


def _gauge(name: str, description: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kafka_{name}", f"Kafka Connect: {description}.", labels=labels)


def _worker(known: Sequence[ConnectorStatus]) -> Iterator[Metric]:
    tasks = sum(len(status.tasks) for status in known)
    for name, value in (
        ("connect_worker_connector_count", len(known)),
        ("connect_worker_task_count", tasks),
        ("connect_coordinator_assigned_connectors", len(known)),
        ("connect_coordinator_assigned_tasks", tasks),
        ("connect_worker_rebalance_rebalancing", 0),
    ):
        metric = _gauge(name, "of this worker")
        metric.add_metric((), value)
        yield metric
    total = _gauge("connect_worker_connector_total_task_count", "tasks of the connector", "connector")
    counts = {
        state: _gauge(f"connect_worker_connector_{state}_task_count", f"{state} tasks of the connector", "connector")
        for state in _TASK_COUNTS
    }
    for status in known:
        states = Counter(task.state.value.lower() for task in status.tasks.values())
        total.add_metric((status.name,), len(status.tasks))
        for state, metric in counts.items():
            metric.add_metric((status.name,), states[state])
    yield total
    yield from counts.values()


def _connectors(known: Sequence[ConnectorStatus]) -> Iterator[Metric]:
    states = _gauge("connect_connector_status", "1 for the status of the connector", "connector", "status")
    tasks = _gauge(
        "connect_connector_task_status", "1 for the status of the task", "connector", "task", "status"
    )  # fmt: skip
    facts = {
        name: _gauge(f"connect_connector_connector_{name}", f"1, with the {name}", "connector", f"connector_{name}")
        for name in ("class", "type", "version")
    }
    for status in known:
        states.add_metric((status.name, _word(status.connector.state)), 1)
        facts["class"].add_metric((status.name, status.connector_class), 1)
        facts["type"].add_metric((status.name, status.type), 1)
        facts["version"].add_metric((status.name, status.connector.version or ""), 1)
        for number, task in sorted(status.tasks.items()):
            tasks.add_metric((status.name, str(number), _word(task.state)), 1)
    yield from (states, tasks, *facts.values())


def _word(state: State) -> str:
    return state.value.lower()


def _task_metric(
    name: str, counter: str, metrics: Mapping[TaskId, Mapping[str, int]], types: Mapping[str, str]
) -> Metric:
    full = f"kafka_connect_{name}"
    counts = name.endswith("_total")
    metric = Metric(full.removesuffix("_total") if counts else full, f"headrace_{counter}", "unknown")
    metric.type = "counter" if counts else "gauge"
    of_type = name.partition("_task_")[0] if name.startswith(("source_task_", "sink_task_")) else None
    for task, values in sorted(metrics.items()):
        if counter in values and of_type in (None, types.get(task.connector)):
            metric.add_sample(full, {"connector": task.connector, "task": str(task.number)}, values[counter])
    return metric


def _clients(found: Sequence[ClientTraffic]) -> Iterator[Metric]:
    for kind in sorted({client.kind for client in found}):
        connections = _gauge(f"{kind}_connection_count", "open connections of the client", "clientid")
        received = Metric(f"kafka_{kind}_incoming_byte", "Kafka Connect: bytes received by the client.", "counter")
        sent = Metric(f"kafka_{kind}_outgoing_byte", "Kafka Connect: bytes sent by the client.", "counter")
        for client_id, parts in _by_id([client for client in found if client.kind == kind]).items():
            labels = {"clientid": client_id}
            connections.add_metric((client_id,), sum(part.connections for part in parts))
            received.add_sample(f"kafka_{kind}_incoming_byte_total", labels, sum(part.received for part in parts))
            sent.add_sample(f"kafka_{kind}_outgoing_byte_total", labels, sum(part.sent for part in parts))
        yield from (connections, received, sent)


def _by_id(clients: Sequence[ClientTraffic]) -> dict[str, list[ClientTraffic]]:
    found: dict[str, list[ClientTraffic]] = {}
    for client in clients:
        found.setdefault(client.client_id, []).append(client)
    return found
