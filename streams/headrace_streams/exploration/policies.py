"""Policies to compare with in simulations: simple rules that are used where there is no model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from headrace_streams.exploration.choice import seed_of, select
from headrace_streams.exploration.model import Model, Prediction, Row
from headrace_streams.exploration.recalibration import Recalibration
from headrace_streams.exploration.simulation import Chosen
from headrace_streams.exploration.special import Floats

_FIRST_WEIGHTS = 64


class ModelPolicy:
    """Selection by a model: Thompson sampling with a floor, or greedy."""

    def __init__(
        self, model: Model, *, salt: str, floor: float = 0.05, explore: float = 1.0, survey: str = "survey"
    ) -> None:
        self.model = model
        self._salt = salt
        self._floor = floor
        self._explore = explore
        self._survey = survey
        self._recalibration = Recalibration()

    def choose(self, rows: list[list[Row]]) -> list[Chosen]:
        flat = [row for candidates in rows for row in candidates]
        everything = self.model.predict(flat)
        selections = []
        start = 0
        for candidates in rows:
            stop = start + len(candidates)
            part = Prediction(
                everything.mean[start:stop], everything.variance[start:stop], everything.spread[start:stop]
            )
            ids = [str(row[self._survey]) for row in candidates]
            seed = seed_of(self._salt, str(candidates[0]["request"]))
            position = select(part, ids, seed, floor=self._floor, explore=self._explore).position
            raw = part.probability[position]
            selections.append(Chosen(position, float(self._recalibration.apply(np.array(raw))), float(raw)))
            start = stop
        return selections

    def learn(self, row: Row, chosen: Chosen, positives: float, exposure: float) -> None:
        self.model.update(row, positives, exposure)
        if chosen.uncalibrated is not None:
            self._recalibration.update(chosen.uncalibrated, positives, exposure)


class UniformPolicy:
    """Each candidate with the same probability."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def choose(self, rows: list[list[Row]]) -> list[Chosen]:
        return [Chosen(int(self._random.integers(len(candidates)))) for candidates in rows]

    def learn(self, row: Row, chosen: Chosen, positives: float, exposure: float) -> None:
        """Learn nothing."""


class RateRule:
    """The best rate so far, with exploration by a simple rule.

    ``views``: half of the requests go to surveys with fewer views, while there are any (a common rule: a
    hundred views for each new survey, then the best rate). ``random_share``: that share of the requests
    goes to a random survey (epsilon-greedy).
    """

    def __init__(self, seed: int, *, views: int = 0, random_share: float = 0.0, survey: str = "survey") -> None:
        self._random = np.random.default_rng(seed)
        self._views = views
        self._random_share = random_share
        self._survey = survey
        self._shown: defaultdict[object, int] = defaultdict(int)
        self._positives: defaultdict[object, float] = defaultdict(float)
        self._exposure: defaultdict[object, float] = defaultdict(float)

    def choose(self, rows: list[list[Row]]) -> list[Chosen]:
        return [Chosen(self._choose(candidates)) for candidates in rows]

    def learn(self, row: Row, chosen: Chosen, positives: float, exposure: float) -> None:
        self._positives[row[self._survey]] += positives
        self._exposure[row[self._survey]] += exposure

    def _choose(self, candidates: list[Row]) -> int:
        surveys = [row[self._survey] for row in candidates]
        new = [position for position, survey in enumerate(surveys) if self._shown[survey] < self._views]
        if new and self._random.random() < 0.5:
            position = new[int(self._random.integers(len(new)))]
        elif self._random.random() < self._random_share:
            position = int(self._random.integers(len(surveys)))
        else:
            # One conversion in thirty views before anything is known.
            rates = [(1 + self._positives[s]) / (31 + max(self._exposure[s], self._positives[s])) for s in surveys]
            position = int(np.argmax(rates))
        self._shown[surveys[position]] += 1
        return position


class LinUcbPolicy:
    """Linear regression of the outcome on all features, and the candidate with the largest upper confidence bound.

    LinUCB (Li, Chu, Langford and Schapire, A Contextual-Bandit Approach to Personalized News Article
    Recommendation, 2010) with one set of weights for all surveys, of which one belongs to each survey. ``alpha``: the
    width of the bound in standard deviations.
    """

    def __init__(self, features: Sequence[str], *, alpha: float = 0.1, survey: str = "survey") -> None:
        self._features = (*(tuple(name.split("*")) for name in features), (survey,))
        self._alpha = alpha
        self._slots: dict[tuple[object, ...], int] = {}
        self._inverse: Floats = np.eye(_FIRST_WEIGHTS)
        self._sums: Floats = np.zeros(_FIRST_WEIGHTS)

    def choose(self, rows: list[list[Row]]) -> list[Chosen]:
        encoded = [np.array([self._encode(row) for row in candidates]) for candidates in rows]
        weights = self._inverse @ self._sums
        found = []
        for slots in encoded:
            mean = weights[slots].sum(axis=1)
            variance = self._inverse[slots[:, :, None], slots[:, None, :]].sum(axis=(1, 2))
            found.append(Chosen(int(np.argmax(mean + self._alpha * np.sqrt(np.maximum(variance, 0.0))))))
        return found

    def learn(self, row: Row, chosen: Chosen, positives: float, exposure: float) -> None:
        slots = self._encode(row)
        self._sums[slots] += positives
        if exposure:
            gain = self._inverse[:, slots].sum(axis=1)
            self._inverse -= np.outer(gain, gain) * (exposure / (1 + exposure * gain[slots].sum()))

    def _encode(self, row: Row) -> list[int]:
        found = []
        for columns in self._features:
            level = (columns, *(row[name] for name in columns))
            slot = self._slots.setdefault(level, len(self._slots))
            if slot == len(self._sums):
                grown = np.eye(2 * slot)
                grown[:slot, :slot] = self._inverse
                self._inverse, self._sums = grown, np.concatenate([self._sums, np.zeros(slot)])
            found.append(slot)
        return found
