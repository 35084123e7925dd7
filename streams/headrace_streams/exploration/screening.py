"""Which variables relate to the outcome, before a model is built: held-out gains, redundancy, a proposed selection.

The strength of a variable is the share of the deviance (log loss) that it explains on impressions that its effects
were not learned from (5 folds). A variable without a relation has a gain below 0 on average, because it costs
estimation; therefore "related" needs a lower bound above 0, and many levels are no advantage. Effects of levels have
a normal prior with deviation 0.5, as the terms of the logistic model do. Folds and intervals are by unit (user),
because the impressions of one user are not independent. Association between two variables is Cramér's V with the
bias correction of Bergsma (2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.special import Floats, normal_quantile, sigmoid

Codes = npt.NDArray[np.intp]

FOLDS = 5
LEAST_CONVERSIONS = 100
_PRECISION = 1 / 0.5**2  # of the prior of an effect
_STEPS = 12
_CYCLES = 3
_FAMILY_ERROR = 0.05


@dataclass(frozen=True)
class Variable:
    """A variable as levels: of row i it is ``labels[codes[i]]``."""

    name: str
    kind: str
    """``category``, or ``number`` when the levels are quantile ranges."""
    codes: Codes
    labels: tuple[str, ...]
    missing: int
    distinct: int


@dataclass(frozen=True)
class Gain:
    """Share of the deviance that is explained on held-out impressions, with a simultaneous 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class LevelRate:
    """Outcomes of one level with a 95 % Wilson interval."""

    label: str
    impressions: int
    conversions: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class VariableFinding:
    """What was found about one variable."""

    variable: Variable
    gain: Gain
    levels: tuple[LevelRate, ...]

    @property
    def related(self) -> bool:
        return self.gain.low > 0


@dataclass(frozen=True)
class SelectedVariable:
    """A step of the forward selection: what the variable adds to those selected before it."""

    name: str
    added: Gain


@dataclass(frozen=True)
class Screening:
    """Result of :func:`screen`. ``findings`` begin with the strongest variable."""

    impressions: int
    conversions: int
    units: int
    findings: tuple[VariableFinding, ...]
    selected: tuple[SelectedVariable, ...]
    explained: float
    """Share of the deviance that the selected variables explain together, held out."""
    associations: dict[tuple[str, str], float]
    """Cramér's V of each pair."""

    @property
    def reason(self) -> str:
        """Why nothing may be concluded; empty if there are enough conversions."""
        fewer = min(self.conversions, self.impressions - self.conversions)
        if fewer >= LEAST_CONVERSIONS:
            return ""
        kind = "conversions" if fewer == self.conversions else "impressions without a conversion"
        return f"the log has {fewer:,} {kind}, and {LEAST_CONVERSIONS} are needed: analyse a longer log"


def screen(variables: Sequence[Variable], outcome: Floats, unit: Codes | None = None) -> Screening:
    """Return what the variables tell about ``outcome`` (0 or 1, shape (n,)). ``unit``: the number of each row's user.

    Below 100 conversions, or 100 impressions without one, nothing is selected.

    Raises:
        ValueError: there is no impression.
    """
    count = len(outcome)
    if count == 0:
        raise ValueError("the log has no impression with an outcome")
    units = np.arange(count) if unit is None else unit
    data = _HeldOut(outcome, units, len(variables))
    gains = {variable.name: data.gain(variable) for variable in variables}
    findings = [
        VariableFinding(variable, data.interval(gains[variable.name]), level_rates(variable, outcome))
        for variable in variables
    ]
    findings.sort(key=lambda found: -found.gain.share)
    enough = min(outcome.sum(), count - outcome.sum()) >= LEAST_CONVERSIONS
    selected = _select(data, [found.variable for found in findings if found.related]) if enough else []
    return Screening(
        impressions=count,
        conversions=int(outcome.sum()),
        units=len(np.unique(units)),
        findings=tuple(findings),
        selected=tuple(selected),
        explained=data.explained() if selected else 0.0,
        associations={
            (first.name, second.name): association(first, second)
            for position, first in enumerate(variables)
            for second in variables[position + 1 :]
        },
    )


def association(first: Variable, second: Variable) -> float:
    """Return Cramér's V of two variables with the bias correction of Bergsma (2013): 0 without association, 1 if each
    determines the other."""
    count = len(first.codes)
    shape = len(first.labels), len(second.labels)
    table = np.bincount(first.codes * shape[1] + second.codes, minlength=shape[0] * shape[1]).reshape(shape)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0].astype(np.float64)
    rows, columns = table.shape
    if min(rows, columns) < 2 or count < 2:
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / count
    phi = float(((table - expected) ** 2 / expected).sum()) / count
    corrected = max(0.0, phi - (rows - 1) * (columns - 1) / (count - 1))
    size = min(rows - (rows - 1) ** 2 / (count - 1), columns - (columns - 1) ** 2 / (count - 1)) - 1
    return min(1.0, math.sqrt(corrected / size)) if size > 0 else 0.0


def wilson(conversions: float, impressions: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a rate; (0, 1) without impressions."""
    if impressions <= 0:
        return 0.0, 1.0
    z = float(normal_quantile(0.975))
    rate = conversions / impressions
    centre = rate + z * z / (2 * impressions)
    half = z * math.sqrt(rate * (1 - rate) / impressions + z * z / (4 * impressions**2))
    size = 1 + z * z / impressions
    return max(0.0, (centre - half) / size), min(1.0, (centre + half) / size)


def level_rates(variable: Variable, outcome: Floats) -> tuple[LevelRate, ...]:
    """Return the rate of each level that has impressions: of numbers in their order, else the most frequent first."""
    impressions = np.bincount(variable.codes, minlength=len(variable.labels))
    conversions = np.bincount(variable.codes, outcome, len(variable.labels))
    rates = [
        LevelRate(label, int(shown), int(converted), converted / shown, *wilson(float(converted), float(shown)))
        for label, shown, converted in zip(variable.labels, impressions, conversions, strict=True)
        if shown
    ]
    return tuple(rates if variable.kind == "number" else sorted(rates, key=lambda level: -level.impressions))


class _HeldOut:
    """Additive models of the selected variables, one for each fold, and what they predict for the fold's rows."""

    def __init__(self, outcome: Floats, unit: Codes, tests: int) -> None:
        self._outcome = outcome
        _, self._unit = np.unique(unit, return_inverse=True)
        # Units are dealt to folds in a random order that is always the same.
        order = np.random.default_rng(0).permutation(int(self._unit.max()) + 1)
        self._fold = order[self._unit] % FOLDS
        self._quantile = float(normal_quantile(1 - _FAMILY_ERROR / (2 * max(tests, 1))))
        self._offset = np.empty((FOLDS, len(outcome)))
        for fold in range(FOLDS):
            learned = outcome[self._fold != fold]
            self._offset[fold] = _log_odds(float(learned.sum()), len(learned))
        self._base = self._loss(self._own(self._offset))
        self._selected: list[tuple[Variable, list[Floats]]] = []

    def gain(self, variable: Variable) -> Floats:
        """Return how much the variable lowers the loss of each row, given the selected variables."""
        effects = [
            _effects(variable, self._outcome, self._offset[fold], self._fold != fold)[variable.codes]
            for fold in range(FOLDS)
        ]
        return self._loss(self._own(self._offset)) - self._loss(self._own(self._offset + np.stack(effects)))

    def select(self, variable: Variable) -> None:
        """Add a variable, and fit the effects of all selected ones again."""
        self._selected.append((variable, [np.zeros(len(variable.labels)) for _ in range(FOLDS)]))
        for _ in range(_CYCLES):
            for chosen, effects in self._selected:
                for fold in range(FOLDS):
                    without = self._offset[fold] - effects[fold][chosen.codes]
                    effects[fold] = _effects(chosen, self._outcome, without, self._fold != fold)
                    self._offset[fold] = without + effects[fold][chosen.codes]

    def interval(self, gains: Floats) -> Gain:
        """Return the mean gain of all rows as a share of the deviance."""
        base = float(self._base.sum())
        by_unit = np.bincount(self._unit, gains)
        error = math.sqrt(len(by_unit) * float(by_unit.var(ddof=1))) if len(by_unit) > 1 else math.inf
        share = float(gains.sum()) / base
        half = self._quantile * error / base
        return Gain(share, share - half, share + half)

    def explained(self) -> float:
        """Return the share of the deviance that the selected variables explain."""
        return 1 - float(self._loss(self._own(self._offset)).sum() / self._base.sum())

    def _own(self, predictors: Floats) -> Floats:
        """Return for each row the prediction of the model that did not learn from it."""
        return predictors[self._fold, np.arange(len(self._fold))]

    def _loss(self, predictor: Floats) -> Floats:
        return np.logaddexp(0.0, predictor) - self._outcome * predictor


def _select(data: _HeldOut, candidates: Sequence[Variable]) -> list[SelectedVariable]:
    """Select variables forwards while one adds something with a lower bound above 0."""
    left = list(candidates)
    found: list[SelectedVariable] = []
    while left:
        gains = [data.interval(data.gain(variable)) for variable in left]
        best = max(range(len(left)), key=lambda position: gains[position].share)
        if gains[best].low <= 0:
            break
        variable = left.pop(best)
        data.select(variable)
        found.append(SelectedVariable(variable.name, gains[best]))
    return found


def _effects(variable: Variable, outcome: Floats, offset: Floats, learned: npt.NDArray[np.bool_]) -> Floats:
    """Return the effect of each level in log-odds: the mode of its posterior, by Newton's method.

    Levels exclude each other, so the effects do not depend on each other and one division solves all of them.
    """
    codes, reward, base = variable.codes[learned], outcome[learned], offset[learned]
    count = len(variable.labels)
    effect = np.zeros(count)
    for _ in range(_STEPS):
        probability = sigmoid(base + effect[codes])
        slope = np.bincount(codes, reward - probability, count) - _PRECISION * effect
        curvature = np.bincount(codes, probability * (1 - probability), count) + _PRECISION
        step = np.clip(slope / curvature, -2, 2)
        effect += step
        if np.abs(step).max() < 1e-8:
            break
    return effect


def _log_odds(conversions: float, impressions: float) -> float:
    return math.log((conversions + 0.5) / (impressions - conversions + 0.5))
