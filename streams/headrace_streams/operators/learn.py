"""Learns from selections and their labels: the models of all versions, the scores of the candidates, and the counts.

All records of an experiment go through one partition of a repartition topic, whose order is the log of the experiment:
processing it again gives the same state bit by bit, however it is divided into batches. A label comes from a left join,
so each selection has exactly one. Until then, the selection counts as a growing part of a failure: its stages advance
with the event time of the labels, so a backlog of conversions delays learning and makes no false failures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace import Segments
from headrace_streams.exploration import learned_models
from headrace_streams.exploration.delay import converted, unconverted
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.features import level_of
from headrace_streams.exploration.learned_models import Event
from headrace_streams.exploration.model_log import learn
from headrace_streams.operators.experiment_looks import ExperimentLooks
from headrace_streams.operators.followed_experiment import KnownModels, traffic_at
from headrace_streams.operators.grouping import NO_ORIGIN
from headrace_streams.operators.open_selections import (
    ASSIGNED,
    BOOKED,
    CALIBRATED,
    DELAY,
    EARLY,
    FACTS,
    MODELS,
    PREDICTED,
    ROW,
    SCORES,
    SELECTED_AT,
    TRAFFIC,
    UNIT,
    VERSION,
    LearningState,
)
from headrace_streams.operators.operator import Operator, StepPlace, StepRefusal, StepResult, Tables
from headrace_streams.rows import Rows

SELECTION, LABEL, LATE = "selection", "label", "late"
_STEPS_PER_WINDOW = 1000
_COLUMNS = {
    "request": str,
    "unit": str,
    "assigned": str,
    "version": str,
    "selected": str,
    "selected_at": int,
    "traffic": int,
    "features": dict,
}
"""What learning needs of a selection, as ``pick`` writes it."""


@dataclass(frozen=True)
class ToLearning(Operator):
    """Wraps the records of one of the streams that a learning step reads, all with the key of the experiment."""

    kind: str
    experiment: str
    column: str
    """The column of a label that has the conversion, or null."""
    place: StepPlace
    metric: str = ""
    """The column of a label that has the business metric; empty: there is none."""

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        made: list[dict[str, Any]] = []
        refusals: list[StepRefusal] = []
        good: list[int] = []
        unusable = 0
        for row, value in enumerate(rows.values):
            wrong = [name for name, kind in _COLUMNS.items() if not _is(value.get(name), kind)]
            if value.get("experiment") != self.experiment:
                wrong = ["experiment"]
            if wrong and rows.origins[row] < 0:
                continue  # a label of a selection that was refused when it was read
            if wrong:
                text = f"the record is no selection of experiment {self.experiment}: column '{wrong[0]}' is "
                text += "missing or has another type"
                refusals.append(self.place.refusal(rows.origins[row], wrong[0], text, "experiment.selection"))
                continue
            good.append(row)
            found = {name: value[name] for name in _COLUMNS}
            for name in ("probability", "calibrated", "latency_ms"):
                found[name] = float(value[name]) if _is(value.get(name), float) else None
            if (degraded := value.get("degraded")) is not None:
                found["degraded"] = degraded
            if self.kind == LABEL:
                found["converted"] = value.get(self.column) is not None
                if self.metric:
                    number = _number_at(value, self.metric)
                    unusable += number is None
                    found["metric"] = number or 0.0
            made.append({self.kind: found})
        kept = rows.only(good)
        keys: list[Any] = [self.experiment] * len(made)
        counts = {"unusable_metrics": unusable} if self.metric else {}
        return StepResult({"": Rows(keys, made, kept.times, kept.origins)}, refusals, counts=counts)

    def describe(self) -> str:
        what = "late selections" if self.kind == LATE else f"{self.kind}s"
        return f"{what} of experiment {self.experiment}"


def _number_at(value: Any, path: str) -> float | None:
    """Return the number or boolean in a column, 0 where it is missing; None for anything else."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return 0.0
    return float(value) if isinstance(value, (bool, int, float)) and math.isfinite(value) else None


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass(frozen=True)
class Learn(Operator):
    """Streams: the scores of candidates, and ``counts`` (the evidence at each look), ``transitions`` and ``models``."""

    experiment: Experiment
    log_table: str
    known: KnownModels = field(default_factory=KnownModels, compare=False)
    stateful = True

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        logged = tables[self.log_table].get(self.experiment.name)
        traffic_at(self.experiment, logged)
        batch = _LearningBatch(self.experiment, self.known, state, logged)
        for value, moment in zip(rows.values, rows.times, strict=True):
            ((kind, item),) = value.items()
            batch.take(kind, item, moment)
        return batch.result()

    def describe(self) -> str:
        experiment = self.experiment
        return f"learn experiment {experiment.name}: {', '.join(experiment.versions)}; current: {experiment.current}"


def indexable(values: Mapping[str, Any], candidate: str) -> dict[str, Any]:
    """Name the candidate itself ``survey.id``: an index cannot have a value ``survey`` beside ``survey.client``."""
    return {f"{candidate}.id" if name == candidate else name: value for name, value in values.items()}


class _LearningBatch:
    """One batch: the changes of the state, and what is written so far."""

    def __init__(
        self,
        experiment: Experiment,
        known: KnownModels,
        state: Segments,
        logged: Mapping[str, Any] | None,
    ) -> None:
        """``logged``: the last record of the experiment in the log."""
        self._experiment = experiment
        self._state = LearningState(state, experiment.within)
        self._models = known.at_head(experiment, self._state.segment(MODELS))
        self._records: dict[str, Any] = {}
        self._streams: dict[str, Rows] = {
            name: Rows([], [], [], []) for name in ("", "counts", "transitions", "models")
        }
        self._counts = dict.fromkeys(("selections", "labels", "late", "repeated", "events"), 0)
        self._time: int | None = self._state.get(FACTS, "time")
        self._looks = ExperimentLooks(experiment, self._state, self._models, logged, self._write)

    def take(self, kind: str, item: dict[str, Any], moment: int) -> None:
        self._looks.start(moment)
        if kind == SELECTION:
            self._select(item)
        elif kind == LATE:
            self._counts["late"] += 1
            self._state.close(item["selected_at"], item["request"])
        else:
            self._advance(moment)
            self._label(item, moment)

    def result(self) -> StepResult:
        for key, value in self._records.items():
            self._state.put(MODELS, key, value)
            self._write("models", key, value, self._time or 0)
        return StepResult(self._streams, changes=self._state.changes, counts=self._counts, events=self._looks.events)

    # Records

    def _select(self, item: dict[str, Any]) -> None:
        key, selected_at = item["request"], item["selected_at"]
        if self._state.open(selected_at, key) is not None:
            self._counts["repeated"] += 1
            return
        self._counts["selections"] += 1
        if (degraded := item.get("degraded")) is not None and degraded["version"] not in self._models.degraded:
            self._learn(learned_models.failed(degraded["version"], degraded["reason"]))
        entry: list[Any] = [None] * 10
        entry[SELECTED_AT], entry[BOOKED], entry[ROW] = selected_at, 0.0, item["features"]
        entry[VERSION], entry[ASSIGNED], entry[UNIT] = item["version"], item["assigned"], item["unit"]
        entry[TRAFFIC], entry[PREDICTED], entry[CALIBRATED] = item["traffic"], item["probability"], item["calibrated"]
        self._state.put_open(key, entry)
        self._looks.count_selection(entry, item.get("latency_ms"))
        early = self._state.get(EARLY, key)
        if early is not None:
            self._state.put(EARLY, key, None)
            self._label(early[0], early[1])

    def _label(self, item: dict[str, Any], moment: int) -> None:
        key, selected_at = item["request"], item["selected_at"]
        entry = self._state.open(selected_at, key)
        if entry is None:
            # Both were written in one transaction, so the selection follows.
            self._state.put(EARLY, key, [item, moment])
            return
        if entry[DELAY] is not None:
            self._counts["repeated"] += 1
            return
        self._counts["labels"] += 1
        last = len(self._experiment.stages) - 1
        if item["converted"]:
            booking = converted(entry[BOOKED])
            changed = list(entry)
            changed[BOOKED], changed[DELAY] = booking.booked, max(moment - selected_at, 0) / 1000
            if self._time is not None and selected_at + self._experiment.within <= self._time:
                self._learn(learned_models.delay(changed[DELAY]))
                self._state.close(selected_at, key)
            else:
                self._state.put_open(key, changed)  # its delay is learned when its window closes
        else:
            booking = unconverted(self._models.delays, last, entry[BOOKED])
            self._state.close(selected_at, key)
        self._book(entry, booking.positives, booking.exposure, moment)
        self._looks.count_label(entry, item["converted"], item.get("metric", 0.0))

    def _advance(self, moment: int) -> None:
        """Book what reached the age of a stage by the event time of a label."""
        before = self._time
        if before is not None and moment < before + max(1, self._experiment.within // _STEPS_PER_WINDOW):
            return  # the selections near a stage are searched only so often
        self._time = moment
        self._state.put(FACTS, "time", moment)
        *ages, window = self._experiment.stages
        for stage, age in enumerate(ages):
            for key, entry in self._state.selected_between(None if before is None else before - age, moment - age):
                if entry[DELAY] is not None:
                    continue
                booking = unconverted(self._models.delays, stage, entry[BOOKED])
                changed = list(entry)
                changed[BOOKED] = booking.booked
                self._state.put_open(key, changed)
                self._book(entry, booking.positives, booking.exposure, moment)
        for key, entry in self._state.selected_between(None if before is None else before - window, moment - window):
            if entry[DELAY] is not None:
                self._learn(learned_models.delay(entry[DELAY]))
                self._state.close(entry[SELECTED_AT], key)
        self._looks.look(moment)

    # Learning

    def _book(self, entry: list[Any], positives: float, exposure: float, moment: int) -> None:
        if positives == 0 and exposure == 0:
            return
        self._learn(learned_models.booking(entry[VERSION], entry[ROW], positives, exposure, entry[PREDICTED]))
        self._score(entry[ROW], positives, moment)

    def _learn(self, event: Event) -> None:
        self._counts["events"] += 1
        learn(self._models, event, self._records)

    def _score(self, row: dict[str, Any], positives: float, moment: int) -> None:
        """Write the scores of a candidate whose evidence has grown by a tenth, if they have moved or are old."""
        experiment = self._experiment
        candidate = level_of(row[experiment.candidate])
        exposure = self._models.observations[candidate][1]
        # A score is for a user of whom nothing is known, so that it changes with the candidate only.
        columns = {name: value if experiment.of_candidate(name) else None for name, value in row.items()}
        for version in experiment.declared:
            last = self._state.get(SCORES, (version, candidate))
            if last is not None and not positives and exposure < 1.1 * last[3] + 1 and not self._is_old(last, moment):
                continue
            if version in self._models.degraded:
                continue
            try:
                prediction = self._models.predict(version, [columns])
                contributions = self._models.contributions(version, columns)
            except Exception as error:  # a model of the user: whatever it raises degrades its version
                self._learn(learned_models.failed(version, f"scoring raised {type(error).__name__}: {error}"))
                continue
            mean, deviation = float(prediction.mean[0]), float(np.sqrt(prediction.variance[0]))
            if last is not None and not self._is_old(last, moment):
                moved = abs(mean - last[0]) > 0.5 * last[1] or not 0.8 * last[1] < deviation < 1.25 * last[1]
                if not moved:
                    self._state.put(SCORES, (version, candidate), [*last[:3], exposure])
                    continue
            self._state.put(SCORES, (version, candidate), [mean, deviation, moment, exposure])
            low, high = prediction.interval()
            raw = prediction.probability
            value = {
                "experiment": experiment.name,
                "version": version,
                "candidate": candidate,
                "at": moment,
                "seq": self._models.seq,
                "probability": float(raw[0]),
                "calibrated": float(self._models.calibrated(version, raw)[0]),
                "low": float(low[0]),
                "high": float(high[0]),
                "conversions": self._models.observations[candidate][0],
                "impressions": exposure,
                "contributions": indexable(contributions, experiment.candidate),
                "features": indexable(
                    {name: item for name, item in columns.items() if experiment.of_candidate(name)},
                    experiment.candidate,
                ),
            }
            self._write("", f"{version}/{candidate}", value, moment)

    def _is_old(self, last: list[Any], moment: int) -> bool:
        return bool(moment - last[2] >= self._experiment.rescore)

    def _write(self, stream: str, key: Any, value: dict[str, Any], moment: int) -> None:
        rows = self._streams[stream]
        rows.keys.append(key)
        rows.values.append(value)
        rows.times.append(moment)
        rows.origins.append(NO_ORIGIN)
