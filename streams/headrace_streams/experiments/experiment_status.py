"""The state of an experiment: traffic of each version, counts, what its test says, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace import CommandContext
from headrace_streams.experiments.experiment_access import ExperimentAccess
from headrace_streams.exploration.decision import HOLDOUT


@dataclass(frozen=True)
class VersionStatus:
    """One version. Counts are those since the last transition; None: nothing is counted yet."""

    name: str
    share: float
    counts: Mapping[str, Any] | None
    action: str
    """``current``, ``holdout``, ``shadow``, or what the last look decided."""
    reason: str
    missing: str


@dataclass(frozen=True)
class ExperimentStatus:
    """An experiment at its last look."""

    name: str
    application: str
    transitions: Sequence[Mapping[str, Any]]
    counts: Mapping[str, Any] | None
    """The record of the last look, if it was made with the present traffic."""
    versions: Sequence[VersionStatus]
    remark: str
    """Why there are no counts; empty if there are."""


def status_of(access: ExperimentAccess) -> ExperimentStatus:
    """Read the log and the counts of an experiment. Raise NotFoundError when it has not started."""
    transitions = access.transitions()
    last = transitions[-1]
    counts = access.last_counts()
    remark = ""
    if access.counts is None:
        remark = f"the application does not write counts; set outputs: {{TOPIC: {access.learning_step}.counts}}"
    elif counts is None or counts["traffic"] != last["number"]:
        remark, counts = "no selection has been counted with this traffic yet", None
    names = dict.fromkeys((last["current"], *access.experiment.versions, *last["shares"]))
    return ExperimentStatus(
        access.experiment.name,
        access.connector.name,
        transitions,
        counts,
        [_version(name, last, counts) for name in names],
        remark,
    )


def _version(name: str, last: Mapping[str, Any], record: Mapping[str, Any] | None) -> VersionStatus:
    share = last["shares"].get(name, 0.0)
    counts = record["counts"].get(name) if record else None
    decision = record["decision"]["versions"].get(name) if record else None
    if name == last["current"]:
        return VersionStatus(name, share, counts, "current", "", "")
    if name == HOLDOUT:
        return VersionStatus(name, share, counts, "holdout", "uniform selections, for evaluation", "")
    if not share:
        return VersionStatus(name, share, None, "shadow", "no traffic: it learns, and selects in the shadow", "")
    if decision is None:
        return VersionStatus(name, share, counts, "wait", "nothing is counted yet", "labels of the new traffic")
    return VersionStatus(name, share, counts, decision["action"], decision["reason"], decision["missing"])


class StatusView:
    """Shows the state of an experiment."""

    def __init__(self, status: ExperimentStatus) -> None:
        self._status = status

    def write_text(self, command: CommandContext) -> None:
        status = self._status
        last = status.transitions[-1]
        command.print(f"experiment {status.name} of application {status.application}")
        command.print(f"transition {last['number']} at {moment(last['at'])} by {last['by']}: {_sentence(last)}")
        command.print_table(
            ("version", "traffic", "users", "impressions", "conversions", "rate", "predicted/observed", "state"),
            [_row(version) for version in status.versions],
        )
        if status.counts is not None:
            command.print(
                f"counted until {moment(status.counts['at'])}; {status.counts['open']:,} selections have no label yet; "
                f"sample ratio p = {status.counts['decision']['sample_ratio_p_value']:.2g}"
            )
        if status.remark:
            command.print(status.remark)
        for version in status.versions:
            if version.action not in ("current", "holdout"):
                command.print(f"{version.name}: {version.reason}")

    def data(self) -> dict[str, Any]:
        status = self._status
        return {
            "experiment": status.name,
            "application": status.application,
            "transition": {name: value for name, value in status.transitions[-1].items() if name != "evidence"},
            "transitions": len(status.transitions),
            "counted_at": status.counts["at"] if status.counts else None,
            "open": status.counts["open"] if status.counts else None,
            "remark": status.remark or None,
            "versions": [
                {
                    "version": version.name,
                    "share": version.share,
                    "state": version.action,
                    "reason": version.reason,
                    "missing": version.missing or None,
                    **(version.counts or {}),
                }
                for version in status.versions
            ],
        }

    def documents(self) -> Sequence[Mapping[str, Any]]:
        status = self._status
        at = status.counts["at"] if status.counts else status.transitions[-1]["at"]
        shared = {"document": "status", "experiment": status.name, "@timestamp": moment(at)}
        return [{**shared, **version} for version in self.data()["versions"]]


def moment(milliseconds: int) -> str:
    """Return a time as text."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _sentence(transition: Mapping[str, Any]) -> str:
    version = f" {transition['version']}" if transition["version"] else ""
    return f"{transition['transition']}{version}, {transition['reason']}"


def _row(version: VersionStatus) -> tuple[str, ...]:
    counts = version.counts
    if counts is None:
        return (version.name, f"{version.share:.2%}", "", "", "", "", "", version.action)
    calibration = counts["calibration"]
    return (
        version.name,
        f"{version.share:.2%}",
        f"{counts['units']:,}",
        f"{counts['impressions']:,}",
        f"{counts['conversions']:,}",
        f"{counts['rate']:.3%}",
        "" if calibration is None else f"{calibration:.2f}",
        f"{version.action}{', degraded' if counts['degraded'] else ''}",
    )
