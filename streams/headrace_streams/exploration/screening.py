"""Which variables relate to the outcome, before a model is built: a test, held-out gains, redundancy, a selection.

A variable is related if the residuals differ between its levels: Pearson's score test, with the first-order correction
of Rao and Scott (1981) for users with several impressions, adjusted for all variables by Holm's method. The strength of
a variable is the share of the deviance (log loss) that its effects explain on impressions that they were not learned
from, in five folds of users; it is below 0 on average without a relation, so that many levels are no advantage. Effects
have a normal prior with deviation 0.5, as the terms of the logistic model. Association between two variables is
Cramér's V with the bias correction of Bergsma (2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.special import Floats, chi_squared_tail, normal_quantile, sigmoid

Codes = npt.NDArray[np.intp]

FOLDS = 5
LEAST_CONVERSIONS = 100
_PRECISION = 1 / 0.5**2  # of the prior of an effect
_STEPS = 12
_CYCLES = 3
_LEAST_EXPECTED = 2.0
_Z = 1.959963984540054
FAMILY_ERROR = 0.05


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
    """Share of the deviance that is explained on held-out impressions, with a 95 % interval, and the evidence for it.

    ``p_value`` is adjusted for all variables that are tested together.
    """

    share: float
    low: float
    high: float
    p_value: float


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
        return self.gain.p_value <= FAMILY_ERROR


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
    data = _HeldOut(outcome, units)
    findings = [
        VariableFinding(variable, gain, level_rates(variable, outcome))
        for variable, gain in zip(variables, data.gains(variables), strict=True)
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
    # The interval contains the rate; rounding must not exclude a rate of 0 or 1.
    return min(rate, max(0.0, (centre - half) / size)), max(rate, min(1.0, (centre + half) / size))


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

    def __init__(self, outcome: Floats, unit: Codes) -> None:
        self._outcome = outcome
        _, self._unit = np.unique(unit, return_inverse=True)
        # Units are dealt to folds in a random order that is always the same.
        order = np.random.default_rng(0).permutation(int(self._unit.max()) + 1)
        self._fold = order[self._unit] % FOLDS
        self._offset = np.empty((FOLDS, len(outcome)))
        for fold in range(FOLDS):
            learned = outcome[self._fold != fold]
            self._offset[fold] = _log_odds(float(learned.sum()), len(learned))
        self._base = self._loss(self._own(self._offset))
        self._selected: list[tuple[Variable, list[Floats]]] = []

    def gains(self, variables: Sequence[Variable]) -> list[Gain]:
        """Return what each variable explains alone, given the selected variables."""
        found = [self._gain(variable) for variable in variables]
        adjusted = _holm([gain.p_value for gain in found])
        return [replace(gain, p_value=p_value) for gain, p_value in zip(found, adjusted, strict=True)]

    def _gain(self, variable: Variable) -> Gain:
        effect = np.empty(len(self._outcome))
        for fold in range(FOLDS):
            mine = self._fold == fold
            learned = _effects(variable, self._outcome, self._offset[fold], ~mine)[variable.codes[mine]]
            effect[mine] = learned
        own = self._own(self._offset)
        saved = self._loss(own) - self._loss(own + effect)
        base = float(self._base.sum())
        share = float(saved.sum()) / base
        half = _Z * self._error_of_sum(saved) / base
        return Gain(share, share - half, share + half, self._p_value(variable, sigmoid(own)))

    def _p_value(self, variable: Variable, predicted: Floats) -> float:
        """Return the p-value of "the residuals do not differ between the levels"."""
        weight, residual = predicted * (1 - predicted), self._outcome - predicted
        codes, levels = _without_rare_levels(variable, predicted)
        total = np.bincount(codes, weight, levels)
        if levels < 2 or total.min() <= 0:
            return 1.0
        share = total / total.sum()
        scores = np.bincount(codes, residual, levels) - share * residual.sum()
        statistic = float((scores**2 / total).sum())
        # Variances of the scores between units, as multiples of those of independent impressions.
        pair, cell = np.unique(self._unit * levels + codes, return_inverse=True)
        of_pair, of_unit = np.bincount(cell, residual), np.bincount(self._unit, residual)
        level, unit = pair % levels, pair // levels
        squares = np.bincount(level, of_pair**2, levels)
        squares += -2 * share * np.bincount(level, of_pair * of_unit[unit], levels) + share**2 * (of_unit**2).sum()
        design_effect = max(1.0, float((squares / total).sum()) / (levels - 1))
        return chi_squared_tail(statistic / design_effect, levels - 1)

    def select(self, variable: Variable) -> None:
        """Add a variable, and fit the effects of all selected ones again."""
        self._selected.append((variable, [np.zeros(len(variable.labels)) for _ in range(FOLDS)]))
        for _ in range(_CYCLES):
            for chosen, effects in self._selected:
                for fold in range(FOLDS):
                    without = self._offset[fold] - effects[fold][chosen.codes]
                    effects[fold] = _effects(chosen, self._outcome, without, self._fold != fold)
                    self._offset[fold] = without + effects[fold][chosen.codes]

    def _error_of_sum(self, values: Floats) -> float:
        """Return the standard error of a sum whose terms are independent between units; infinite with one unit."""
        by_unit = np.bincount(self._unit, values)
        return math.sqrt(len(by_unit) * float(by_unit.var(ddof=1))) if len(by_unit) > 1 else math.inf

    def explained(self) -> float:
        """Return the share of the deviance that the selected variables explain."""
        return 1 - float(self._loss(self._own(self._offset)).sum() / self._base.sum())

    def _own(self, predictors: Floats) -> Floats:
        """Return for each row the prediction of the model that did not learn from it."""
        return predictors[self._fold, np.arange(len(self._fold))]

    def _loss(self, predictor: Floats) -> Floats:
        return np.logaddexp(0.0, predictor) - self._outcome * predictor


def _select(data: _HeldOut, candidates: Sequence[Variable]) -> list[SelectedVariable]:
    """Select variables forwards while the one that adds most is related to what is left."""
    left = list(candidates)
    found: list[SelectedVariable] = []
    while left:
        gains = data.gains(left)
        best = max(range(len(left)), key=lambda position: gains[position].share)
        if gains[best].share <= 0 or gains[best].p_value > FAMILY_ERROR:
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


def _without_rare_levels(variable: Variable, predicted: Floats) -> tuple[Codes, int]:
    """Return codes in which the levels with few expected conversions are one level, and the number of levels.

    The test relies on counts that are close to normal.
    """
    expected = np.bincount(variable.codes, predicted, len(variable.labels))
    kept = np.flatnonzero(expected >= _LEAST_EXPECTED)
    code = np.full(len(expected), len(kept), dtype=np.intp)
    code[kept] = np.arange(len(kept))
    codes = code[variable.codes]
    return codes, int(codes.max()) + 1


def _holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm (1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def _log_odds(conversions: float, impressions: float) -> float:
    return math.log((conversions + 0.5) / (impressions - conversions + 0.5))
