"""Regret and calibration of the exploration model against simple rules, in simulated worlds with known truth.

    python -m benchmarks.exploration [--seeds 20] [--impressions 20000] [--processes 2] [--only PART ...]

Every policy meets the same world: the same users, surveys, delays and luck. The shipped version is a logistic one with
default keys in an application, through its steps; the others are policies of `headrace_streams.exploration`. The figure
is by how much the regret of the shipped version is below that of each other policy in the same world, with a paired
95 % t interval over the seeds. Exit code 1: it is not at least 15 % below the simple rule, with an interval above 0.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.exploration_application import SHIPPED, simulate_application
from headrace_streams.exploration.beta import BetaModel
from headrace_streams.exploration.features import Term, parse_terms
from headrace_streams.exploration.logistic import LogisticModel
from headrace_streams.exploration.policies import LinUcbPolicy, ModelPolicy, RateRule, UniformPolicy
from headrace_streams.exploration.simulation import (
    Policy,
    Result,
    Size,
    World,
    expected_calibration_error,
    simulate,
)
from headrace_streams.exploration.special import student_quantile

FEATURES = ("country", "device", "age", "client", "category", "length", "country*category")
USER = ("country", "device", "age")
GOAL = 0.15
"""The least share by which the regret of the shipped version is below that of the simple rule."""


def logistic() -> LogisticModel:
    """Return the model of the shipped version: features of user and survey, and an effect of each survey."""
    return LogisticModel(
        [*parse_terms(FEATURES, request_columns=USER), Term("survey", ("survey",), deviation=0.5)], base_rate=0.02
    )


Contender = Callable[[World, int], Result]
"""Simulates a policy in a world; the number is a seed for its own draws."""


def policy(make: Callable[[int], Policy], *, staged: bool = True) -> Contender:
    """Return a contender. ``staged``: it learns in stages, as the shipped version; else from a failure at once."""
    return lambda world, seed: simulate(world, make(seed), staged=staged)


RULE = "simple rule: 100 views, then the best rate"
BASE = "logistic, shipped"
CONTENDERS: dict[str, Contender] = {
    "uniform": policy(UniformPolicy, staged=False),
    RULE: policy(lambda seed: RateRule(seed, views=100), staged=False),
    "epsilon-greedy 10 %": policy(lambda seed: RateRule(seed, random_share=0.1), staged=False),
    "Thompson, flat Beta": policy(
        lambda seed: ModelPolicy(BetaModel("survey", base_rate=0.5, strength=2), salt=str(seed), floor=0.0),
        staged=False,
    ),
    "beta (empirical Bayes by client)": policy(
        lambda seed: ModelPolicy(BetaModel("survey", group="client"), salt=str(seed), floor=0.0)
    ),
    "LinUCB": policy(lambda seed: LinUcbPolicy(FEATURES, alpha=0.03)),
    "logistic, greedy": policy(lambda seed: ModelPolicy(logistic(), salt=str(seed), floor=0.0, explore=0.0)),
    "logistic, the whole deviation": policy(lambda seed: ModelPolicy(logistic(), salt=str(seed))),
    "logistic, failures at once": policy(
        lambda seed: ModelPolicy(logistic(), salt=str(seed), explore=0.5), staged=False
    ),
    "logistic, without a floor": policy(lambda seed: ModelPolicy(logistic(), salt=str(seed), floor=0.0, explore=0.5)),
    BASE: lambda world, seed: simulate_application(world, SHIPPED, str(seed)),
}


@dataclass(frozen=True)
class SimulatedOutcome:
    """Figures of one policy in one world."""

    rate: float
    regret: float
    calibration: float
    calibration_error: float
    seconds: float


def run(seed: int, name: str, impressions: int) -> SimulatedOutcome:
    """Return the outcome of a contender in the world of a seed."""
    start = time.process_time()
    result = CONTENDERS[name](World(seed, Size(impressions=impressions)), seed)
    error = math.nan
    if result.predicted:
        error = expected_calibration_error(np.array(result.predicted), np.array(result.observed, dtype=float))
    calibration = result.calibration if result.predicted else math.nan
    return SimulatedOutcome(result.rate, result.regret, calibration, error, time.process_time() - start)


@dataclass(frozen=True)
class PairedReduction:
    """By which share the regret of the shipped version is below that of another policy, with a 95 % interval."""

    mean: float
    half_width: float
    wins: int

    @classmethod
    def of(cls, shipped: list[SimulatedOutcome], other: list[SimulatedOutcome]) -> PairedReduction:
        shares = [1 - mine.regret / theirs.regret for mine, theirs in zip(shipped, other, strict=True)]
        count = len(shares)
        half = math.nan
        if count > 1:
            half = student_quantile(count - 1, 0.975) * statistics.stdev(shares) / math.sqrt(count)
        return cls(statistics.mean(shares), half, sum(share > 0 for share in shares))

    @property
    def reaches_goal(self) -> bool:
        return self.mean >= GOAL and self.mean - self.half_width > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    # Defaults of the model were chosen with the worlds 1 to 20.
    parser.add_argument("--first", type=int, default=101, help="first seed (101)")
    parser.add_argument("--impressions", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", metavar="PART", help="only policies whose name contains a PART")
    options = parser.parse_args()
    names = [n for n in CONTENDERS if not options.only or n == BASE or any(part in n for part in options.only)]
    seeds = range(options.first, options.first + options.seeds)
    with ProcessPoolExecutor(options.processes) as pool:
        running = {name: [pool.submit(run, seed, name, options.impressions) for seed in seeds] for name in names}
        found = {name: [future.result() for future in futures] for name, futures in running.items()}
    show(found, options.impressions)
    if RULE not in found:
        return 0
    reduction = PairedReduction.of(found[BASE], found[RULE])
    low = reduction.mean - reduction.half_width
    print(f"goal: at least {GOAL:.0%} below the simple rule, paired 95 % interval above 0: ", end="")
    print(f"{reduction.mean:.1%}, from {low:.1%}: {'reached' if reduction.reaches_goal else 'NOT REACHED'}")
    return 0 if reduction.reaches_goal else 1


def show(found: dict[str, list[SimulatedOutcome]], impressions: int) -> None:
    """Print a line for each policy."""
    count = len(found[BASE])
    print(f"{count} worlds of {impressions:,} impressions; regret: missed conversions")
    print(f"{'policy':44} {'rate':>7} {'regret':>7} {'shipped has less':>22} {'wins':>6} ", end="")
    print(f"{'predicted/observed':>19} {'ECE':>7} {'CPU s':>6}")
    for name, outcomes in found.items():
        compared = wins = ""
        if name != BASE:
            less = PairedReduction.of(found[BASE], outcomes)
            compared, wins = f"{less.mean:.1%} ± {less.half_width:.1%}", f"{less.wins}/{count}"
        print(
            f"{name:44} {statistics.mean(o.rate for o in outcomes):7.2%} "
            f"{statistics.mean(o.regret for o in outcomes):7.0f} {compared:>22} {wins:>6} "
            f"{statistics.mean(o.calibration for o in outcomes):19.2f} "
            f"{statistics.mean(o.calibration_error for o in outcomes):7.4f} "
            f"{statistics.mean(o.seconds for o in outcomes):6.0f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
