"""What ``headrace migrate`` prints: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from rich.text import Text

from headrace.cli.output import finding_view, out, print_findings
from headrace.errors import Finding
from headrace.migration.assessment import ConnectorAssessment, Verdict
from headrace.migration.connect_state import ConnectState, GroupTopicNames, StoredOffset
from headrace.states import TargetState

TOPIC_KEYS = ("config.storage.topic", "offset.storage.topic", "status.storage.topic")
_SHOWN = 5
"""Positions of a connector that are shown to people."""
_STYLES = {Verdict.UNCHANGED: "green", Verdict.DIFFERENT: "yellow", Verdict.REFUSED: "red"}
_SUMMARY = {
    Verdict.UNCHANGED: "unchanged",
    Verdict.DIFFERENT: "with differences",
    Verdict.REFUSED: "cannot run",
}


@dataclass(frozen=True)
class MigrationReport:
    """What was found. ``group``: the group.id, as far as it is known; ``findings``: about the worker's file."""

    group: str | None
    topics: GroupTopicNames
    state: ConnectState
    connectors: Sequence[ConnectorAssessment]
    findings: Sequence[Finding] = ()

    @property
    def ready(self) -> bool:
        """Whether every connector runs and continues, and the worker's file can be used."""
        return all(item.ready for item in self.connectors) and not any(
            finding.severity == "error" for finding in self.findings
        )


def print_report(report: MigrationReport) -> None:
    print_findings([*report.findings, *report.state.findings])
    for item in report.connectors:
        paused = "" if item.target is TargetState.STARTED else f", {item.target.value}"
        out.print(
            Text.assemble((item.name, "bold"), f" ({item.class_name}{paused}): ", (item.verdict, _STYLES[item.verdict]))
        )
        for line in _details(item):
            out.print(Text(f"  {line}"))
    counts = [f"{sum(item.verdict is kind for item in report.connectors)} {_SUMMARY[kind]}" for kind in Verdict]
    count = len(report.connectors)
    out.print(f"{count} connector{'s' if count != 1 else ''}: {', '.join(counts)}", style="bold")
    for number, step in enumerate(_steps(report), 1):
        out.print(Text(f"{number}. {step}"))


def _details(item: ConnectorAssessment) -> Iterator[str]:
    for finding in item.findings:
        yield str(replace(finding, location=None))
    yield from _limited([f"continues at {position_text(stored)}" for stored in item.used])
    for partition, reason in item.unused:
        yield f"would not continue at {_text(partition)}: {reason}; what it stands for is read again"
    if item.untouched:
        count = len(item.untouched)
        yield "1 position stays as it is" if count == 1 else f"{count} positions stay as they are"
    if item.group:
        places = [f"continues at {place} offset {offset}" for place, offset in sorted(item.committed.items())]
        yield f"consumer group {item.group}" + ("" if places else " has no offsets yet")
        yield from _limited([f"  {place}" for place in places])


def _limited(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"and {len(lines) - _SHOWN} more"


def _steps(report: MigrationReport) -> Iterator[str]:
    """Yield what to do, in this order."""
    refused = [item.name for item in report.connectors if item.verdict is Verdict.REFUSED]
    if not report.ready:
        names = f" ({', '.join(refused)})" if refused else ""
        yield (
            f"decide about what is reported above{names}: change it over the REST API of Kafka Connect, or accept it. "
            "headrace leaves connectors that it cannot run as they are, with the status FAILED"
        )
    workers = ", ".join(sorted(report.state.workers)) or "none is named in the statuses"
    yield f"stop all workers of Kafka Connect ({workers}): their last positions are written then"
    yield "run this command again: now it shows the final positions"
    keys = ", ".join(f"{key}={name}" for key, name in zip(TOPIC_KEYS, report.topics, strict=True))
    yield f"write the worker's file of headrace with the same group.id and topics ({keys}), and start `headrace run`"
    yield "look at `headrace connectors status`. To go back, stop headrace and start the workers of Kafka Connect"


def report_view(report: MigrationReport) -> dict[str, Any]:
    return {
        "ready": report.ready,
        "group": report.group,
        "topics": report.topics._asdict(),
        "workers": sorted(report.state.workers),
        "worker_findings": [finding_view(item) for item in report.findings],
        "records": [finding_view(item) for item in report.state.findings],
        "connectors": [_connector_view(item) for item in report.connectors],
        "steps": list(_steps(report)),
    }


def _connector_view(item: ConnectorAssessment) -> dict[str, Any]:
    return {
        "name": item.name,
        "class": item.class_name,
        "type": item.type or None,
        "target": item.target.value,
        "verdict": item.verdict.value,
        "ready": item.ready,
        "findings": [finding_view(finding) for finding in item.findings],
        "continues": [offset_view(stored) for stored in item.used],
        "read_again": [{"partition": dict(partition), "reason": reason} for partition, reason in item.unused],
        "untouched": [offset_view(stored) for stored in item.untouched],
        "consumer_group": item.group or None,
        "committed": [
            {"topic": place.topic, "partition": place.partition, "offset": offset}
            for place, offset in sorted(item.committed.items())
        ],
    }


def offset_view(item: StoredOffset) -> dict[str, Any]:
    return {"partition": dict(item.partition), "offset": dict(item.offset)}


def position_text(item: StoredOffset) -> str:
    return f"{_text(item.partition)} {_text(item.offset)}"


def _text(value: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(value)).decode()
