"""An experiment of a stream application as commands see it: its declaration, and its topics in Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import CommandContext, ConfigError, ConnectorAccess, NotFoundError, nearest
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.operators.learn import LABEL, Learn, ToLearning
from headrace_streams.operators.pick import Pick
from headrace_streams.plan import Plan
from headrace_streams.planning import make_plan


@dataclass(frozen=True)
class ExperimentAccess:
    """``selections``, ``labels``, ``counts`` and ``history`` are topics, if the application writes these streams."""

    connector: ConnectorAccess
    experiment: Experiment
    pick: Pick
    candidates: str
    """The topic of the candidates."""
    candidate_key: str | None
    selections: str | None
    labels: str | None
    label_column: str
    """The column of a label that has the conversion, or null."""
    counts: str | None
    history: str | None
    """The topic with all records of the models: the shared topic of the models is compacted."""
    learning_step: str

    def transitions(self) -> list[dict[str, Any]]:
        """Return the records of the experiment in ``experiment-log``, in order. Raise NotFoundError."""
        records = self.connector.read_shared([self.experiment.log_topic])
        found = [item.value for item in records if item.key == self.experiment.name and item.value is not None]
        if not found:
            raise NotFoundError(
                f"topic {self.experiment.log_topic} has no record of experiment {self.experiment.name}",
                code="experiment.not_started",
                hint=f"run {self.connector.name}: the first record that is learned from starts the experiment",
            )
        return found

    def last_counts(self) -> dict[str, Any] | None:
        """Return the evidence at the last look; None if the application does not write it, or not yet."""
        if self.counts is None:
            return None
        try:
            records = list(self.connector.read([self.counts]))
        except NotFoundError:
            return None
        found = [item.value for item in records if (item.value or {}).get("experiment") == self.experiment.name]
        return max(found, key=lambda value: value["at"], default=None)

    def model_records(self) -> dict[str, Any]:
        """Return the last record of each key in the topic of the models."""
        return {item.key: item.value for item in self.connector.read_shared([self.experiment.models_topic])}

    def candidate_rows(self) -> dict[Any, dict[str, Any]]:
        """Return the rows of the candidates that fulfil the conditions on the candidate alone, by id."""
        rows: dict[Any, dict[str, Any]] = {}
        for record in self.connector.read([self.candidates]):
            key = record.key
            if isinstance(key, dict) and len(key) == 1:
                (key,) = key.values()
            if record.value is None:
                rows.pop(key, None)
            elif isinstance(record.value, dict) and not isinstance(key, (list, dict)):
                rows[key] = record.value
        if self.candidate_key is not None:
            rows = {row[self.candidate_key]: row for row in rows.values() if self.candidate_key in row}
        offered, _ = self.pick.offered(rows)
        return dict(offered)

    def require_version(self, name: str) -> None:
        """Raise ConfigError for a version that is not declared."""
        if name not in self.experiment.declared:
            raise ConfigError(
                f"experiment {self.experiment.name} has no version {name}",
                code="experiment.unknown_version",
                hint=nearest(name, self.experiment.declared) or f"there are: {', '.join(self.experiment.declared)}",
            )


def open_experiment(command: CommandContext, worker: Path, application: Path, name: str) -> ExperimentAccess:
    """Return an experiment of an application's file; an empty ``name``: the only one. Raise ConfigError."""
    connector = command.connector(worker, application)
    plan, findings = make_plan(connector.name, ApplicationKeys.parse(connector.properties))
    if any(finding.severity == "error" for finding in findings):
        raise ConfigError(findings=findings)
    learners = {step.operator.experiment.name: step.name for step in plan.steps if isinstance(step.operator, Learn)}
    if not learners:
        raise ConfigError(
            f"{application} has no experiment that is learned",
            code="experiment.none",
            hint="name the file of a stream application with experiments",
        )
    if not name and len(learners) > 1:
        text = f"{application} has the experiments {', '.join(learners)}"
        raise ConfigError(text, code="experiment.unknown", hint="name one with --experiment")
    name = name or next(iter(learners))
    if name not in learners:
        text = f"{application} has no experiment {name}"
        raise ConfigError(text, code="experiment.unknown", hint=nearest(name, learners) or ", ".join(learners))
    return _access(connector, plan, learners[name], name)


def _access(connector: ConnectorAccess, plan: Plan, learner: str, name: str) -> ExperimentAccess:
    steps = {step.name: step for step in plan.steps}
    label = steps[f"{learner}.{LABEL}"]
    assert isinstance(label.operator, ToLearning)
    picks = [(step, step.operator) for step in plan.steps if isinstance(step.operator, Pick)]
    step, pick = next((step, operator) for step, operator in picks if operator.experiment.name == name)
    table = next(item for item in plan.tables if item.name == pick.table)
    topics = {output.stream: output.topic for output in reversed(plan.outputs) if output.topic not in plan.shared}
    return ExperimentAccess(
        connector,
        pick.experiment,
        pick,
        table.topic,
        table.key_column,
        topics.get(step.name),
        topics.get(label.sources[0]),
        label.operator.column,
        topics.get(f"{learner}.counts"),
        topics.get(f"{learner}.models"),
        learner,
    )


def reasons(contributions: Mapping[str, float], most: int = 3) -> str:
    """Return the largest contributions to the log-odds as a text: ``category +0.42, client -0.10``."""
    order = sorted(contributions.items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} {value:+.2f}" for name, value in order[:most] if abs(value) >= 0.005)
