"""Alert rules for Prometheus over the metrics of headrace workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

GUIDE = "headrace connectors status"


@dataclass(frozen=True)
class AlertOptions:
    """Thresholds and times of the rules; durations as Prometheus writes them."""

    job: str = "headrace"
    """``job_name`` of the workers in Prometheus' configuration."""
    pending: str = "1m"
    """How long a failure lasts before it is an alert."""
    patience: str = "10m"
    """How long something that may end by itself lasts before it is an alert: a retry, a lag."""
    window: str = "15m"
    """Time over which events are counted; their alerts end when it has passed."""
    lag: int = 10_000
    """Records that a sink may be behind."""
    position_lag: float = 600
    """Seconds that a stored position may be behind what was read."""


class AlertRule(NamedTuple):
    """A rule; ``pending`` is empty for an alert that comes at once."""

    name: str
    expression: str
    pending: str
    severity: str
    summary: str
    action: str


def alert_rules(options: AlertOptions = AlertOptions()) -> list[AlertRule]:
    """Return the rules, the most urgent first."""
    window = options.window
    return [
        AlertRule(
            "HeadraceWorkerDown",
            f'up{{job="{options.job}"}} == 0',
            options.pending,
            "critical",
            "The headrace worker at {{ $labels.instance }} does not answer",
            "Read its log and start it again; connectors continue from their stored positions.",
        ),
        AlertRule(
            "HeadraceConnectorFailed",
            'max by (connector) (headrace_connector_state{state="FAILED"}) == 1',
            options.pending,
            "critical",
            "Connector {{ $labels.connector }} is FAILED",
            f"`{GUIDE} {{{{ $labels.connector }}}}` shows the reason and the next command.",
        ),
        AlertRule(
            "HeadraceTaskFailed",
            'max by (connector, task) (headrace_task_state{state="FAILED"}) == 1',
            options.pending,
            "critical",
            "Task {{ $labels.connector }}-{{ $labels.task }} is FAILED",
            f"`{GUIDE} {{{{ $labels.connector }}}}` shows the reason and the next command.",
        ),
        AlertRule(
            "HeadraceTaskRetrying",
            "max by (connector, task) (headrace_task_retrying) == 1",
            options.patience,
            "warning",
            "Task {{ $labels.connector }}-{{ $labels.task }} waits for a system and retries",
            f"`{GUIDE} {{{{ $labels.connector }}}}` names the system; the task continues by itself when it is back.",
        ),
        AlertRule(
            "HeadraceCondition",
            "max by (connector, code) (headrace_connector_condition) == 1",
            "",
            "warning",
            "Connector {{ $labels.connector }} has the condition {{ $labels.code }}",
            f"`{GUIDE} {{{{ $labels.connector }}}}` shows the records and what to do; "
            "`headrace connectors acknowledge {{ $labels.connector }}` ends the alert.",
        ),
        AlertRule(
            "HeadraceDeadLetters",
            f"sum by (connector) (increase(headrace_deadletterqueue_produce_requests_total[{window}])) > 0",
            "",
            "warning",
            f"Records of {{{{ $labels.connector }}}} went to its dead letter queue in the last {window}",
            "`headrace dlq list {{ $labels.connector }}` groups them by cause.",
        ),
        AlertRule(
            "HeadraceSinkBehind",
            f"sum by (connector) (headrace_sink_record_lag) > {options.lag}",
            options.patience,
            "warning",
            "Sink {{ $labels.connector }} is {{ $value | humanize }} records behind",
            "If its system is not the cause, raise `tasks.max` (at most one task for each partition) or `batch.size`.",
        ),
        AlertRule(
            "HeadraceDataTooOld",
            "max by (connector) (headrace_freshness_slo_exceeded) == 1",
            options.pending,
            "warning",
            "The data of sink {{ $labels.connector }} is older than its freshness.slo",
            f"`{GUIDE} {{{{ $labels.connector }}}}` names the hop that holds the data back.",
        ),
        AlertRule(
            "HeadracePositionHeld",
            f"max by (connector, part) (headrace_source_position_lag_seconds) > {options.position_lag:g}",
            options.pending,
            "warning",
            "The stored position of {{ $labels.part }} is {{ $value | humanizeDuration }} behind",
            f"An open transaction holds it: `{GUIDE} {{{{ $labels.connector }}}}` names the process. No row is lost.",
        ),
        AlertRule(
            "HeadraceCommitsFail",
            f"sum by (connector) (increase(headrace_offset_commit_failure_total[{window}])) > 3",
            "",
            "warning",
            "{{ $labels.connector }} cannot store its position",
            f"`{GUIDE} {{{{ $labels.connector }}}}` shows why. Records since the stored position are sent again "
            "after a restart.",
        ),
    ]


def rules_file(options: AlertOptions = AlertOptions()) -> str:
    """Return the rules as a rule file of Prometheus."""
    rules = [_rule(rule) for rule in alert_rules(options)]
    text = yaml.safe_dump({"groups": [{"name": "headrace", "rules": rules}]}, sort_keys=False, width=120)
    return f"# Alert rules of headrace, written by `headrace monitoring rules`.\n{text}"


def _rule(rule: AlertRule) -> dict[str, Any]:
    return {
        "alert": rule.name,
        "expr": rule.expression,
        **({"for": rule.pending} if rule.pending else {}),
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.summary, "description": rule.action},
    }
