"""Error rates of the tests and intervals of the exploration model, by simulation with known truth.

    python -m benchmarks.exploration_statistics [--runs 2000] [--only tests ratio coverage propensity screening]

Every line has the figure, the limit that the documentation promises, and whether it is kept. Exit code 1: one is not.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.choice import best_probability
from headrace_streams.exploration.model import Prediction
from headrace_streams.exploration.off_policy import evaluate
from headrace_streams.exploration.screening import Variable, screen
from headrace_streams.exploration.sequential import mixture_log_ratio, sample_ratio_p_value

LOOK, UNITS = 500, 40_000
LOOKS = UNITS // LOOK
LEAST_CONVERSIONS = 100


@dataclass(frozen=True)
class CheckedFigure:
    """A measured figure and its limit."""

    name: str
    value: float
    limit: float
    at_most: bool

    @property
    def kept(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def sequential_tests(runs: int) -> Iterator[CheckedFigure]:
    """Yield false winners and power of the always-valid test with a look every 500 users."""
    for share in (0.5, 0.1):
        for rate in (0.05, 0.01):
            found, wrong = _verdicts(runs, rate, 0.0, share, seed=1)
            name = f"A/A, {1 - share:.0%}/{share:.0%}, rate {rate:.0%}: false winner"
            yield CheckedFigure(name, found + wrong, 0.05, at_most=True)
    found, wrong = _verdicts(runs, 0.05, 0.2, 0.5, seed=2)
    yield CheckedFigure("+20 %, 50/50, rate 5 %: found", found, 0.9, at_most=False)
    yield CheckedFigure("+20 %, 50/50, rate 5 %: the opposite found", wrong, 0.005, at_most=True)


def _verdicts(runs: int, rate: float, lift: float, share: float, seed: int) -> tuple[float, float]:
    """Return the share of the experiments that found the version better, and worse."""
    random = np.random.default_rng(seed)
    version_units = round(LOOK * share)
    sizes = [np.arange(1, LOOKS + 1) * units for units in (LOOK - version_units, version_units)]
    counted = [
        random.binomial(units, value, (runs, LOOKS)).cumsum(axis=1)
        for units, value in ((LOOK - version_units, rate), (version_units, rate * (1 + lift)))
    ]
    rates = [conversions / size for conversions, size in zip(counted, sizes, strict=True)]
    variance = sum(observed * (1 - observed) / size for observed, size in zip(rates, sizes, strict=True))
    pooled = (counted[0] + counted[1]) / (sizes[0] + sizes[1])
    difference = rates[1] - rates[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = mixture_log_ratio(difference, variance, (0.15 * pooled) ** 2)
    decided = (np.minimum(*counted) >= LEAST_CONVERSIONS) & (ratio >= math.log(20))
    first = decided.argmax(axis=1)
    sign = difference[np.arange(runs), first]
    return float((decided.any(axis=1) & (sign > 0)).mean()), float((decided.any(axis=1) & (sign < 0)).mean())


def sample_ratios(runs: int) -> Iterator[CheckedFigure]:
    """Yield false alarms and power of the sample ratio check with a look every 500 users, alarm below 0.01."""
    yield CheckedFigure("sample ratio, 10 % as configured: false alarm", _alarms(0.10, runs, 4), 0.01, at_most=True)
    yield CheckedFigure("sample ratio, 11 % instead of 10 %: found", _alarms(0.11, runs // 4, 5), 0.95, at_most=False)


def _alarms(share: float, runs: int, seed: int) -> float:
    random = np.random.default_rng(seed)
    alarms = 0
    for _ in range(runs):
        counts = random.binomial(LOOK, share, LOOKS).cumsum().tolist()
        alarms += any(
            sample_ratio_p_value({"v1": look * LOOK - n, "v2": n}, {"v1": 0.9, "v2": 0.1}) <= 0.01
            for look, n in enumerate(counts, 1)
        )
    return alarms / runs


def coverage(runs: int) -> Iterator[CheckedFigure]:
    """Yield how often the intervals of the off-policy estimates hold the true value, wherever there is a verdict."""
    random = np.random.default_rng(5)
    surveys, logs = 40, max(runs // 5, 100)
    for rate, impressions in ((0.001, 60_000), (0.002, 25_000), (0.003, 25_000), (0.005, 25_000), (0.02, 12_000)):
        effect = random.normal(0, 0.8, surveys)
        rates = np.exp(effect) / np.exp(effect).mean() * rate
        target = np.exp(random.normal(0, 0.8, surveys) + effect)
        target = 0.95 * target / target.sum() + 0.05 / surveys
        inside: dict[str, list[bool]] = {"ips": [], "snips": [], "dr": []}
        for _ in range(logs):
            shown = random.integers(0, surveys, impressions)
            reward = (random.random(impressions) < rates[shown]).astype(np.float64)
            constant = np.full(impressions, rate)
            found = evaluate(reward, np.full(impressions, 1 / surveys), target[shown], constant, constant)
            if found.reliable:
                for name, held in inside.items():
                    estimate = getattr(found, name)
                    held.append(estimate.low <= float(target @ rates) <= estimate.high)
        for name, held in inside.items():
            if len(held) >= logs // 4:
                title = f"{name}, rate {rate:.1%}, {impressions:,} impressions, {len(held)} verdicts: coverage"
                yield CheckedFigure(title, float(np.mean(held)), 0.9, at_most=False)


def propensities(_: int) -> Iterator[CheckedFigure]:
    """Yield the largest distance of a propensity from 200,000 draws, in standard errors of the draws."""
    for count in (2, 5, 40, 200):
        random = np.random.default_rng(count)
        mean, variance = random.normal(-3, 0.6, count), random.uniform(1e-4, 1, count)
        prediction = Prediction(mean, variance, variance)
        wins: npt.NDArray[np.int64] = np.zeros(count, dtype=np.int64)
        for _ in range(20):
            draws = mean + np.sqrt(variance) * random.normal(size=(10_000, count))
            wins += np.bincount(draws.argmax(axis=1), minlength=count)
        exact = np.array([best_probability(prediction, position) for position in range(count)])
        errors = np.sqrt(np.maximum(exact * (1 - exact), 1e-6) / 200_000)
        distance = float((np.abs(wins / 200_000 - exact) / errors).max())
        yield CheckedFigure(f"propensity, {count} candidates: distance in standard errors", distance, 4.5, at_most=True)


def screenings(runs: int) -> Iterator[CheckedFigure]:
    """Yield how often an analysis reports a relation where there is none, and finds one where there is."""
    logs = max(runs // 4, 100)
    false = found = 0
    for seed in range(logs):
        random = np.random.default_rng(seed)
        outcome = (random.random(3_000) < 0.08).astype(np.float64)
        unrelated = [_random_variable(random, levels) for levels in (2, 4, 10, 30, 100)]
        false += any(item.related for item in screen(unrelated, outcome).findings)
        group = _random_variable(random, 4)
        related = (random.random(3_000) < 0.08 * np.array([0.5, 0.8, 1.2, 1.5])[group.codes]).astype(np.float64)
        found += screen([group, *unrelated], related).findings[0].related
    yield CheckedFigure("analysis, no relation: one of 5 variables reported", false / logs, 0.05, at_most=True)
    yield CheckedFigure("analysis, rates from 4 % to 12 %, 240 conversions: found", found / logs, 0.9, at_most=False)


def _random_variable(random: np.random.Generator, levels: int) -> Variable:
    codes = random.integers(0, levels, 3_000)
    return Variable(f"v{levels}", "category", codes, tuple(map(str, range(levels))), 0, levels)


PARTS: dict[str, Callable[[int], Iterator[CheckedFigure]]] = {
    "tests": sequential_tests,
    "ratio": sample_ratios,
    "coverage": coverage,
    "propensity": propensities,
    "screening": screenings,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exploration_statistics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    kept = True
    for name in options.only:
        started = time.process_time()
        for figure in PARTS[name](options.runs):
            kept &= figure.kept
            sign = "at most" if figure.at_most else "at least"
            print(f"{figure.name:75} {figure.value:8.4f}  {sign} {figure.limit:g}  {'' if figure.kept else 'NOT KEPT'}")
        print(f"  {name}: {time.process_time() - started:.0f} s CPU")
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
