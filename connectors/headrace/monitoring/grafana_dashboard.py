"""A dashboard for Grafana over the metrics of headrace workers in Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_SELECTED = 'job=~"$job",connector=~"$connector"'


@dataclass(frozen=True)
class GrafanaPanel:
    """A panel. ``queries``: expressions with the legend of their series."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 12
    description: str = ""


def _rate(metric: str) -> str:
    return f"sum by (connector) (rate({metric}{{{_SELECTED}}}[$__rate_interval]))"


def _by(aggregation: str, metric: str, labels: str = "connector") -> str:
    return f"{aggregation} by ({labels}) ({metric}{{{_SELECTED}}})"


def _number(title: str, query: str, legend: str) -> GrafanaPanel:
    """Return one of the six panels of the first row."""
    return GrafanaPanel(title, ((query, legend),), kind="stat", width=_COLUMNS // 6)


PANELS: Sequence[GrafanaPanel] = (
    _number("Workers", 'sum(up{job=~"$job"})', "up"),
    _number("Connectors running", f'sum(headrace_connector_state{{{_SELECTED},state="RUNNING"}})', "running"),
    _number("Tasks failed", f'sum(headrace_task_state{{{_SELECTED},state="FAILED"}})', "failed"),
    _number("Tasks retrying", f"sum(headrace_task_retrying{{{_SELECTED}}})", "retrying"),
    _number("Conditions", f"count(headrace_connector_condition{{{_SELECTED}}}) or vector(0)", "conditions"),
    _number(
        "Dead letters, 1 h",
        f"sum(increase(headrace_deadletterqueue_produce_requests_total{{{_SELECTED}}}[1h]))",
        "dead letters",
    ),
    GrafanaPanel(
        "Records per second",
        (
            (_rate("headrace_source_record_write_total"), "{{connector}} sent"),
            (_rate("headrace_sink_record_send_total"), "{{connector}} written"),
            (_rate("headrace_stream_record_commit_total"), "{{connector}} committed"),
        ),
        unit="ops",
    ),
    GrafanaPanel(
        "Lag",
        (
            (_by("sum", "headrace_sink_record_lag"), "{{connector}}"),
            (_by("sum", "headrace_stream_record_lag"), "{{connector}}"),
        ),
        description="Records in Kafka that a sink or a stream application has not processed yet.",
    ),
    GrafanaPanel(
        "Age of the data, median and 99th percentile",
        tuple(
            (
                f"histogram_quantile({share}, sum by (connector, le) "
                f"(rate(headrace_freshness_seconds_bucket{{{_SELECTED}}}[$__rate_interval])))",
                f"{{{{connector}}}} {title}",
            )
            for share, title in ((0.5, "p50"), (0.99, "p99"))
        ),
        unit="s",
        description="When it was acknowledged by Kafka, committed by a stream application, or searchable.",
    ),
    GrafanaPanel(
        "Time at each hop, median",
        (
            (
                "histogram_quantile(0.5, sum by (connector, hop, le) "
                f"(rate(headrace_hop_seconds_bucket{{{_SELECTED}}}[$__rate_interval])))",
                "{{connector}} {{hop}}",
            ),
        ),
        unit="s",
    ),
    GrafanaPanel(
        "Age of the newest record when it was written",
        ((_by("max", "headrace_sink_record_age_seconds"), "{{connector}}"),),
        unit="s",
    ),
    GrafanaPanel(
        "Records refused per second",
        (
            (_rate("headrace_task_record_errors_total"), "{{connector}} refused"),
            (_rate("headrace_task_records_skipped_total"), "{{connector}} skipped"),
        ),
        unit="ops",
    ),
    GrafanaPanel(
        "Share of time in the connector",
        (
            (_rate("headrace_poll_batch_time_seconds_total"), "{{connector}} polls"),
            (_rate("headrace_put_batch_time_seconds_total"), "{{connector}} puts"),
        ),
        unit="percentunit",
        description="A sink whose puts take all the time waits for its system; a source whose polls do, for its own.",
    ),
    GrafanaPanel(
        "Positions held by open transactions",
        ((_by("max", "headrace_source_position_lag_seconds", "connector, part"), "{{part}}"),),
        unit="s",
    ),
    GrafanaPanel(
        "CPU of the workers",
        (('rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])', "{{instance}}"),),
        unit="percentunit",
    ),
    GrafanaPanel(
        "Memory of the workers", (('process_resident_memory_bytes{job=~"$job"}', "{{instance}}"),), unit="bytes"
    ),
    GrafanaPanel(
        "Connectors",
        (
            (f"max by (connector, class, type, version) (headrace_connector_info{{{_SELECTED}}})", ""),
            ('max by (instance, version, kafka_client) (headrace_build_info{job=~"$job"})', ""),
        ),
        kind="table",
        width=24,
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard, in the form that Grafana 10 and newer import."""
    return {
        "uid": "headrace-workers",
        "title": "headrace",
        "tags": ["headrace", "kafka"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_placed(PANELS)),
    }


def dashboard_file() -> str:
    """Return the dashboard as a file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    for name, query in (
        ("job", "label_values(headrace_build_info, job)"),
        ("connector", 'label_values(headrace_connector_info{job=~"$job"}, connector)'),
    ):
        yield {
            "name": name,
            "type": "query",
            "label": name.capitalize(),
            "datasource": _DATA_SOURCE,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _placed(panels: Sequence[GrafanaPanel]) -> Iterator[dict[str, Any]]:
    """Yield the panels in rows of 24 columns."""
    column = row = height = 0
    for number, panel in enumerate(panels, 1):
        if column + panel.width > _COLUMNS:
            column, row = 0, row + height
        height = 4 if panel.kind == "stat" else 8
        place = {"x": column, "y": row, "w": panel.width, "h": height}
        column += panel.width
        yield {
            "id": number,
            "title": panel.title,
            "description": panel.description,
            "type": panel.kind,
            "datasource": _DATA_SOURCE,
            "gridPos": place,
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "options": {},
            "targets": [
                {
                    "refId": "ABCDEFGH"[place],
                    "datasource": _DATA_SOURCE,
                    "expr": query,
                    "legendFormat": legend,
                    **({"instant": True, "format": "table"} if panel.kind == "table" else {}),
                }
                for place, (query, legend) in enumerate(panel.queries)
            ],
        }
