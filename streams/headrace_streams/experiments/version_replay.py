"""Logged selections made again by a version: with the models, candidates and seeds of that time.

A version that made a selection makes it again byte by byte; another version shows what it would have selected, and
with which probability it selects what was shown, so that `evaluate` can tell what it would have earned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from headrace import ConfigError
from headrace_streams.experiments.experiment_access import ExperimentAccess
from headrace_streams.experiments.impression_log import ImpressionLog
from headrace_streams.experiments.policy_log import LogColumns, PolicyEvaluation, evaluate_log
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.learned_models import IncompatibleStateError, LearnedModels
from headrace_streams.exploration.model_history import ModelHistory, ModelHistoryError
from headrace_streams.operators.pick import as_number
from headrace_streams.operators.selector import Candidates, SelectionRequest, Selector


@dataclass
class VersionReplay:
    """What one version does with the logged selections."""

    version: str
    own: int = 0
    """Selections that the version made when they were logged."""
    equal: int = 0
    """Those of them that are equal byte by byte."""
    first_different: str = ""
    """The request of the first one that is not."""
    same: int = 0
    """Selections for which the version selects the logged candidate."""
    predicted: float = 0.0
    """Sum of the calibrated probabilities of what the version selects."""
    evaluation: PolicyEvaluation | None = None


@dataclass
class ReplayResult:
    """The result of a replay. ``rows`` are what ``evaluate`` reads."""

    versions: tuple[VersionReplay, ...]
    outcome_known: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    agreements: int = 0
    """Selections for which both versions select the same candidate."""

    @property
    def reproduced(self) -> bool:
        """Whether all selections that the versions made themselves are equal byte by byte."""
        return all(item.own == item.equal for item in self.versions)


def replay(access: ExperimentAccess, names: Sequence[str], start: int, end: int) -> ReplayResult:
    """Make the selections of [start, end), in event time, again. Raise ConfigError, and the errors of Kafka."""
    for name in names:
        access.require_version(name)
    selections = sorted(_selections(access, start, end), key=lambda value: value["seq"])
    if not selections:
        raise ConfigError(
            f"topic {access.selections} has no selections of experiment {access.experiment.name} in this time",
            code="experiment.empty_log",
            hint="times are those of the selections (selected_at): check --from and --to",
        )
    result = ReplayResult(tuple(VersionReplay(name) for name in dict.fromkeys(names)))
    run = _ReplayRun(access, result, _outcomes(access))
    try:
        run.all(selections)
    except ModelHistoryError as error:
        hint = "replay what was selected since the last snapshot"
        if access.history is None:
            hint = f"set outputs: {{TOPIC: {access.learning_step}.models}}, which keeps all records of the models"
        raise ConfigError(
            f"the models are not known any more: {error}", code="experiment.history", hint=hint
        ) from error
    except IncompatibleStateError as error:
        text = f"what was learned does not fit the application's file: {error}"
        raise ConfigError(text, code="experiment.version_changed", hint="name the file of that time") from error
    for version in result.versions:
        if result.outcome_known:
            log = ImpressionLog(result.rows, access.labels or "")
            columns = LogColumns(
                "converted", "propensity", "selected", f"{version.version}.propensity", "candidates", "unit"
            )
            version.evaluation = evaluate_log(log, columns)
    return result


class _ReplayRun:
    """Follows the models along the selections."""

    def __init__(self, access: ExperimentAccess, result: ReplayResult, outcomes: Mapping[str, bool]) -> None:
        self._experiment = access.experiment
        self._selector = Selector(access.experiment, with_candidates=False)  # they are the logged ones
        self._result = result
        self._outcomes = outcomes
        declared = {item.version: access.experiment.declared[item.version] for item in result.versions}
        self._learning = replace(access.experiment, declared=declared, current=next(iter(declared)), holdout=0.0)
        """Only the versions of the replay learn: the others would take time."""
        topics = [access.experiment.models_topic]
        records = [(item.key, item.value) for item in access.connector.read_shared(topics)]
        if access.history is not None:
            records += [(item.key, item.value) for item in access.connector.read([access.history])]
        self._history = ModelHistory(records)

    def all(self, selections: Sequence[dict[str, Any]]) -> None:
        models = self._history.models_at(self._learning, selections[0]["seq"])
        for value in selections:
            self._history.advance(models, value["seq"])
            if models.digest != value["state"]:
                raise ModelHistoryError(f"the models after event {models.seq} are those of another log")
            self._one(value, models)

    def _one(self, value: dict[str, Any], models: LearnedModels) -> None:
        request = _request(value, self._experiment)
        row = {name: value[name] for name in ("request", "unit", "selected_at", "selected", "propensity")}
        row["candidates"] = [key for key, _ in request.candidates]
        row["converted"] = outcome = self._outcomes.get(value["request"])
        self._result.outcome_known += outcome is not None
        chosen = []
        for item in self._result.versions:
            reason = models.degraded.get(item.version)
            if reason is not None:
                text = f"version {item.version} was degraded at request {value['request']}: {reason}"
                raise ConfigError(text, code="experiment.degraded", hint="replay another time or another version")
            _require_columns(self._experiment, item.version, request)
            ((made, share),) = self._selector.select_again(item.version, [request], models, [value["selected"]])
            row[item.version] = {"selected": made["selected"], "probability": made["calibrated"], "propensity": share}
            chosen.append(made["selected"])
            item.same += made["selected"] == value["selected"]
            item.predicted += made["calibrated"]
            if value["version"] == item.version:
                item.own += 1
                if _text(made) == _text({name: value.get(name) for name in made}):
                    item.equal += 1
                elif not item.first_different:
                    item.first_different = value["request"]
        self._result.agreements += len(set(chosen)) == 1
        self._result.rows.append(row)


def _selections(access: ExperimentAccess, start: int, end: int) -> Iterable[dict[str, Any]]:
    if access.selections is None:
        raise ConfigError(
            "the application does not write its selections",
            code="experiment.no_selections",
            hint="add the step with 'pick' to its outputs",
        )
    for record in access.connector.read([access.selections]):
        value = record.value
        if not isinstance(value, dict) or value.get("experiment") != access.experiment.name:
            continue
        if not start <= value["selected_at"] < end:
            continue
        if "candidates" not in value:
            raise ConfigError(
                f"the selection of request {value['request']} does not name its candidates",
                code="experiment.no_candidates",
                hint="remove log.candidates: false of the step with 'pick'",
            )
        yield value


def _outcomes(access: ExperimentAccess) -> dict[str, bool]:
    """Return whether each request with a label converted."""
    if access.labels is None:
        return {}
    records = access.connector.read([access.labels])
    return {item.value["request"]: item.value.get(access.label_column) is not None for item in records if item.value}


def _request(value: Mapping[str, Any], experiment: Experiment) -> SelectionRequest:
    columns, rows = value["candidates"]["columns"], value["candidates"]["rows"]
    candidates: Candidates = []
    for row in rows:
        made = {**value["features"], **dict(zip(columns, row, strict=True))}
        candidates.append(
            (row[0], {name: as_number(v) if name in experiment.numbers else v for name, v in made.items()})
        )
    return SelectionRequest(
        0, value["request"], value["unit"], value["bucket"], value["assigned"], candidates, value["missing"]
    )


def _require_columns(experiment: Experiment, version: str, request: SelectionRequest) -> None:
    """Refuse a version that was declared later and needs what was not logged."""
    known = request.candidates[0][1].keys()
    absent = [name for name in experiment.declared[version].columns if name not in known]
    if absent:
        raise ConfigError(
            f"version {version} needs column {absent[0]}, which the selections of this time do not have",
            code="experiment.no_column",
            hint="replay selections that were made after the version was declared",
        )


def _text(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
