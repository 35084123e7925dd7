"""Selects by the models of a version: one selection, with everything that is needed to compute it again.

The same code selects for a new request and for a logged one (`headrace experiment replay`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from headrace import TaskError
from headrace_streams.exploration.choice import Selection, propensities, propensity, seed_of, select
from headrace_streams.exploration.decision import HOLDOUT
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.learned_models import LearnedModels
from headrace_streams.exploration.model import Prediction
from headrace_streams.exploration.transitions import Traffic

_MOST_ROWS = 20_000
"""Rows of one prediction: memory grows with the square of the number of features."""
Candidates = list[tuple[str, dict[str, Any]]]
"""Ids and rows of the models, in the order of the ids."""


@dataclass(frozen=True)
class SelectionRequest:
    """A request with its candidates. ``row``: of the batch. ``missing``: columns without a value."""

    row: int
    request: str
    unit: str
    bucket: int
    assigned: str
    candidates: Candidates
    missing: list[str]


@dataclass(frozen=True)
class Selector:
    """Selects for requests by a version of an experiment. ``with_candidates``: selections name all candidates;
    ``with_propensities``: with the probabilities that versions without traffic give to them."""

    experiment: Experiment
    with_candidates: bool
    with_propensities: bool = False

    def select(
        self, version: str, requests: Sequence[SelectionRequest], models: LearnedModels, traffic: Traffic
    ) -> list[dict[str, Any]]:
        """Return the selections of the requests that one version has; by the current one if that version fails."""
        experiment = self.experiment
        reason = ""
        current = traffic.allocation.default
        for name in dict.fromkeys((version, current, HOLDOUT)):
            problem = models.degraded.get(name, "")
            if not problem:
                try:
                    predictions = self._predict(name, requests, models)
                except Exception as error:  # a model of the user: whatever it raises degrades its version
                    if len(requests) > 1:  # only the requests that it is about
                        return [self.select(version, [item], models, traffic)[0] for item in requests]
                    problem = f"predicting raised {type(error).__name__}: {error}"
                else:
                    made = [self._selection(name, *item, models) for item in zip(requests, predictions, strict=True)]
                    if reason:
                        made = [{**value, "degraded": {"version": version, "reason": reason}} for value in made]
                    return self._with_shadows(made, requests, models, traffic)
            reason = reason or problem
        raise TaskError(f"experiment {experiment.name}: no version can select: {reason}", code="experiment.degraded")

    def select_again(
        self, version: str, requests: Sequence[SelectionRequest], models: LearnedModels, logged: Sequence[str]
    ) -> list[tuple[dict[str, Any], float]]:
        """Return the selection of a version for each request, and the probability with which it selects the candidate
        in ``logged``. Raise what a model of the user raises."""
        found = []
        for item, prediction, candidate in zip(requests, self._predict(version, requests, models), logged, strict=True):
            ids = [key for key, _ in item.candidates]
            share = self._propensity(version, ids, prediction, ids.index(candidate))
            found.append((self._selection(version, item, prediction, models), share))
        return found

    def _predict(self, version: str, requests: Sequence[SelectionRequest], models: LearnedModels) -> list[Prediction]:
        if version == HOLDOUT:
            return [_uniform(len(item.candidates)) for item in requests]
        found: list[Prediction] = []
        start = 0
        while start < len(requests):
            stop, size = start, 0
            while stop < len(requests) and (stop == start or size + len(requests[stop].candidates) <= _MOST_ROWS):
                size += len(requests[stop].candidates)
                stop += 1
            part = requests[start:stop]
            whole = models.predict(version, [row for item in part for _, row in item.candidates])
            first = 0
            for item in part:
                last = first + len(item.candidates)
                found.append(Prediction(whole.mean[first:last], whole.variance[first:last], whole.spread[first:last]))
                first = last
            start = stop
        return found

    def _selection(
        self, version: str, request: SelectionRequest, prediction: Prediction, models: LearnedModels
    ) -> dict[str, Any]:
        experiment = self.experiment
        ids = [key for key, _ in request.candidates]
        selection = self._choose(version, request, prediction)
        place = selection.position
        floor, explore = self._exploration(version)
        probability = calibrated = low = high = None
        if version != HOLDOUT:  # a uniform selection predicts nothing
            probability = float(prediction.probability[place])
            calibrated = float(models.calibrated(version, np.array(probability)))
            low, high = (float(bound[place]) for bound in prediction.interval())
        row = request.candidates[place][1]
        made: dict[str, Any] = {
            "request": request.request,
            "unit": request.unit,
            "experiment": experiment.name,
            "bucket": request.bucket,
            "assigned": request.assigned,
            "version": version,
            "selected": ids[place],
            "seq": models.seq,
            "state": models.digest,
            "features": row,
            "features_hash": hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16],
            "missing": request.missing,
            "mean": float(prediction.mean[place]),
            "variance": float(prediction.variance[place]),
            "spread": float(prediction.spread[place]),
            "probability": probability,
            "calibrated": calibrated,
            "low": low,
            "high": high,
            "draw": selection.draw,
            "seed": f"{selection.seed:016x}",
            "uniform": selection.uniform,
            "floor": floor,
            "explore": explore,
            "propensity": self._propensity(version, ids, prediction, place),
            "candidate_count": len(ids),
        }
        if self.with_candidates:
            columns = [name for name in experiment.columns if experiment.of_candidate(name)]
            made["candidates"] = {
                "columns": columns,
                "rows": [[row[name] for name in columns] for _, row in request.candidates],
            }
        return made

    def _choose(self, version: str, request: SelectionRequest, prediction: Prediction) -> Selection:
        floor, explore = self._exploration(version)
        ids = [key for key, _ in request.candidates]
        return select(prediction, ids, seed_of(self.experiment.salt, request.request), floor=floor, explore=explore)

    def _propensity(self, version: str, ids: Sequence[str], prediction: Prediction, place: int) -> float:
        floor, explore = self._exploration(version)
        return propensity(prediction, ids, place, floor=floor, explore=explore)

    def _exploration(self, version: str) -> tuple[float, float]:
        if version == HOLDOUT:
            return 1.0, 1.0
        found = self.experiment.versions[version]
        return found.floor, found.explore

    def _with_shadows(
        self, made: list[dict[str, Any]], requests: Sequence[SelectionRequest], models: LearnedModels, traffic: Traffic
    ) -> list[dict[str, Any]]:
        """Add what versions without traffic would have selected."""
        for name in self.experiment.declared:
            if name in traffic.shares or name in models.degraded:
                continue
            try:
                predictions = self._predict(name, requests, models)
            except Exception as error:  # see above
                problem = f"predicting raised {type(error).__name__}: {error}"
                made = [{"degraded": {"version": name, "reason": problem}, **value} for value in made]
                continue
            for value, item, prediction in zip(made, requests, predictions, strict=True):
                ids = [key for key, _ in item.candidates]
                place = ids.index(value["selected"])
                shadow = {
                    "selected": ids[self._choose(name, item, prediction).position],
                    "probability": float(prediction.probability[place]),
                    "propensity": self._propensity(name, ids, prediction, place),
                }
                if self.with_propensities:
                    floor, explore = self._exploration(name)
                    shares = propensities(prediction, ids, floor=floor, explore=explore)
                    shadow["propensities"] = dict(zip(ids, shares.tolist(), strict=True))
                value.setdefault("shadows", {})[name] = shadow
        return made


def _uniform(count: int) -> Prediction:
    ones = np.ones(count)
    return Prediction(np.zeros(count), ones, ones)
