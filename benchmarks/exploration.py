"""Regret and calibration of the exploration models against simple rules, in simulated worlds with known truth.

    python -m benchmarks.exploration [--seeds 20] [--impressions 20000] [--processes 2]

Every policy meets the same world: the same users, surveys, delays and luck. The figure is the regret of the logistic
model divided by that of each other policy in the same world, with a 95 % t interval over the seeds.
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

from headrace_streams.exploration.beta import BetaModel
from headrace_streams.exploration.features import Term, parse_terms
from headrace_streams.exploration.logistic import LogisticModel
from headrace_streams.exploration.policies import ModelPolicy, RateRule, UniformPolicy
from headrace_streams.exploration.simulation import Policy, Size, World, expected_calibration_error, simulate
from headrace_streams.exploration.special import student_quantile

FEATURES = ("country", "device", "age", "client", "category", "length", "country*category")
USER = ("country", "device", "age")


def logistic() -> LogisticModel:
    """Return the shipped version: features of user and survey, and an effect of each survey."""
    return LogisticModel(
        [*parse_terms(FEATURES, request_columns=USER), Term("survey", ("survey",), deviation=0.5)], base_rate=0.02
    )


@dataclass(frozen=True)
class Contender:
    """A policy and how it learns."""

    make: Callable[[int], Policy]
    staged: bool = True


CONTENDERS = {
    "uniform": Contender(UniformPolicy, staged=False),
    "simple rule: 100 views, then the best rate": Contender(lambda seed: RateRule(seed, views=100), staged=False),
    "epsilon-greedy 10 %": Contender(lambda seed: RateRule(seed, random_share=0.1), staged=False),
    "Thompson, flat Beta": Contender(
        lambda seed: ModelPolicy(BetaModel("survey", base_rate=0.5, strength=2), salt=str(seed), floor=0.0),
        staged=False,
    ),
    "beta (empirical Bayes by client)": Contender(
        lambda seed: ModelPolicy(BetaModel("survey", group="client"), salt=str(seed), floor=0.0)
    ),
    "logistic, greedy": Contender(lambda seed: ModelPolicy(logistic(), salt=str(seed), floor=0.0, explore=0.0)),
    "logistic, half the deviation": Contender(
        lambda seed: ModelPolicy(logistic(), salt=str(seed), floor=0.0, explore=0.5)
    ),
    "logistic, failures at once": Contender(
        lambda seed: ModelPolicy(logistic(), salt=str(seed), floor=0.0), staged=False
    ),
    "logistic": Contender(lambda seed: ModelPolicy(logistic(), salt=str(seed), floor=0.0)),
    "logistic, floor 5 %": Contender(lambda seed: ModelPolicy(logistic(), salt=str(seed), floor=0.05)),
}
BASE = "logistic"


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
    contender = CONTENDERS[name]
    result = simulate(World(seed, Size(impressions=impressions)), contender.make(seed), staged=contender.staged)
    error = math.nan
    if result.predicted:
        error = expected_calibration_error(np.array(result.predicted), np.array(result.observed, dtype=float))
    calibration = result.calibration if result.predicted else math.nan
    return SimulatedOutcome(result.rate, result.regret, calibration, error, time.process_time() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="first seed")
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
    return 0


def show(found: dict[str, list[SimulatedOutcome]], impressions: int) -> None:
    """Print a line for each policy."""
    count = len(found[BASE])
    print(f"{count} worlds of {impressions:,} impressions; regret: missed conversions")
    print(f"{'policy':44} {'rate':>7} {'regret':>7} {'logistic / it':>22} ", end="")
    print(f"{'predicted/observed':>19} {'ECE':>7} {'CPU s':>6}")
    for name, outcomes in found.items():
        ratios = [mine.regret / other.regret for mine, other in zip(found[BASE], outcomes, strict=True)]
        mean = statistics.mean(ratios)
        half = (
            student_quantile(count - 1, 0.975) * statistics.stdev(ratios) / math.sqrt(count) if count > 1 else math.nan
        )
        compared = "" if name == BASE else f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})"
        print(
            f"{name:44} {statistics.mean(o.rate for o in outcomes):7.2%} "
            f"{statistics.mean(o.regret for o in outcomes):7.0f} {compared:>22} "
            f"{statistics.mean(o.calibration for o in outcomes):19.2f} "
            f"{statistics.mean(o.calibration_error for o in outcomes):7.4f} "
            f"{statistics.mean(o.seconds for o in outcomes):6.0f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
