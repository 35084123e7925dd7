"""Simulation of users and surveys with known conversion rates: surveys are shown, convert later, appear and end.

It measures what a log does not contain: how many conversions a policy missed (regret). All random numbers are drawn in
advance from a seed, so that policies have the same users, delays and random outcomes, and can be compared in pairs.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.delay import DelayDistribution, converted, unconverted
from headrace_streams.exploration.model import Row
from headrace_streams.exploration.special import Floats, sigmoid

STAGES = (3.0, 8.0, 16.0, 35.0, 60.0)
"""Ages in minutes at which unconverted impressions are booked; the last is the window."""


@dataclass(frozen=True)
class Size:
    """The size of a simulation. Times are in minutes."""

    impressions: int = 20_000
    per_minute: int = 100
    live_surveys: int = 40
    lifetime: float = 120.0
    base_rate: float = 0.012
    """Mean probability over all users and surveys: what uniform selection earns."""
    median_delay: float = 12.0

    @property
    def minutes(self) -> int:
        return self.impressions // self.per_minute


class World:
    """Users, surveys and their true probabilities, all from ``seed``."""

    COUNTRIES, DEVICES, AGES, CLIENTS, CATEGORIES, LENGTHS = 4, 3, 4, 8, 5, 4

    def __init__(self, seed: int, size: Size | None = None) -> None:
        self.size = size = size or Size()
        random = np.random.default_rng(seed)
        count = int(size.live_surveys * (1 + size.minutes / size.lifetime))
        self.born = np.where(
            np.arange(count) < size.live_surveys,
            -random.uniform(0, size.lifetime, count),
            (np.arange(count) - size.live_surveys) * (size.minutes / max(count - size.live_surveys, 1)),
        )
        self.ends = self.born + size.lifetime
        survey_levels = (self.CLIENTS, self.CATEGORIES, self.LENGTHS)
        user_levels = (self.COUNTRIES, self.DEVICES, self.AGES)
        self._survey_features = np.stack([random.integers(0, n, count) for n in survey_levels], axis=1)
        self._user_features = np.stack([random.integers(0, n, size.impressions) for n in user_levels], axis=1)
        of_survey = sum(
            random.normal(0, 0.45, n)[self._survey_features[:, i]] for i, n in enumerate(survey_levels)
        ) + random.normal(0, 0.55, count)
        of_user = sum(random.normal(0, 0.3, n)[self._user_features[:, i]] for i, n in enumerate(user_levels))
        together = random.normal(0, 0.4, (self.COUNTRIES, self.CATEGORIES))
        self._survey_effect: Floats = np.asarray(of_survey)
        self._user_effect: Floats = np.asarray(of_user)
        self._together: Floats = together
        self._base = self._solve_base(random)
        self.luck: Floats = random.random(size.impressions)
        self.delay: Floats = np.exp(random.normal(np.log(size.median_delay), 0.9, size.impressions))

    def live(self, minute: float) -> npt.NDArray[np.int64]:
        """Return the surveys that can be shown at a time."""
        return np.flatnonzero((self.born <= minute) & (self.ends > minute))

    def probabilities(self, requests: npt.NDArray[np.int64], surveys: npt.NDArray[np.int64]) -> Floats:
        """Return the true probability of each survey for each request, of shape (requests, surveys)."""
        countries = self._user_features[requests, 0]
        categories = self._survey_features[surveys, 1]
        return sigmoid(
            self._user_effect[requests][:, None]
            + self._survey_effect[surveys][None, :]
            + self._together[countries[:, None], categories[None, :]]
            + self._base
        )

    def _solve_base(self, random: np.random.Generator) -> float:
        users = random.integers(0, self.size.impressions, 500)
        every = np.arange(len(self.born))
        self._base = 0.0
        low, high = -30.0, 30.0
        for _ in range(60):
            self._base = (low + high) / 2
            if self.probabilities(users, every).mean() < self.size.base_rate:
                low = self._base
            else:
                high = self._base
        return self._base

    def row(self, request: int, survey: int) -> Row:
        """Return the columns of a request and a survey, as a stream application sees them."""
        country, device, age = self._user_features[request].tolist()
        client, category, length = self._survey_features[survey].tolist()
        return {
            "request": str(request),
            "country": country,
            "device": device,
            "age": age,
            "survey": str(survey),
            "client": client,
            "category": category,
            "length": length,
        }


class Policy(Protocol):
    """A policy that is simulated: it selects surveys and learns from bookings."""

    def choose(self, rows: list[list[Row]]) -> list[Chosen]:
        """Return the selection for each request; ``rows`` holds its candidates."""
        ...

    def learn(self, row: Row, chosen: Chosen, positives: float, exposure: float) -> None:
        """Learn from an outcome, or from a part of it."""
        ...


@dataclass(frozen=True)
class Chosen:
    """Position of the selected candidate, and the predicted probability if the policy predicts one."""

    position: int
    probability: float | None = None
    uncalibrated: float | None = None


@dataclass
class Result:
    """The outcome of a policy in a world."""

    impressions: int = 0
    conversions: int = 0
    regret: float = 0.0
    best: float = 0.0
    curve: list[float] = field(default_factory=list)
    """Regret at the end of each minute."""
    predicted: list[float] = field(default_factory=list)
    observed: list[bool] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.conversions / self.impressions

    @property
    def calibration(self) -> float:
        """Predicted divided by observed conversions of the selections."""
        return float(np.sum(self.predicted) / max(np.sum(self.observed), 1))


def expected_calibration_error(predicted: Floats, observed: Floats, bins: int = 10) -> float:
    """Return the mean distance between predicted and observed rate over bins of equally many predictions."""
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) / len(order) * abs(predicted[p].mean() - observed[p].mean()) for p in parts))


def simulate(world: World, policy: Policy, *, staged: bool = True) -> Result:
    """Return the result of a policy in a world. All requests of one minute use the state at its start.

    With ``staged`` the policy learns from bookings in stages, with the learned distribution of the delay; else from a
    failure at once and a conversion when it happens.
    """
    size = world.size
    result = Result()
    learning = _Learning(staged)
    for minute in range(size.minutes):
        learning.until(float(minute), policy)
        requests = np.arange(minute * size.per_minute, (minute + 1) * size.per_minute)
        surveys = world.live(minute)
        truth = world.probabilities(requests, surveys)
        rows = [[world.row(int(request), int(survey)) for survey in surveys] for request in requests]
        for position, (request, chosen) in enumerate(zip(requests.tolist(), policy.choose(rows), strict=True)):
            probability = float(truth[position, chosen.position])
            converts = bool(world.luck[request] < probability)
            delay = float(world.delay[request])
            in_window = converts and delay < STAGES[-1]
            result.impressions += 1
            result.conversions += converts
            result.best += float(truth[position].max())
            result.regret += float(truth[position].max()) - probability
            if chosen.probability is not None:
                result.predicted.append(chosen.probability)
                result.observed.append(in_window)
            learning.shown(
                float(minute), request, rows[position][chosen.position], chosen, delay if in_window else None
            )
        result.curve.append(result.regret)
    return result


class _Learning:
    """Gives outcomes to a policy in the order of their time, as a stream application does."""

    def __init__(self, staged: bool) -> None:
        self._staged = staged
        self._delays = DelayDistribution(STAGES)
        self._due: list[tuple[float, int, int]] = []
        """Time, request, stage; -1 for a conversion."""
        self._open: dict[int, tuple[Row, Chosen, float | None, float, float]] = {}
        """Request → row, selection, delay of its conversion, time of the impression, what is booked."""

    def shown(self, now: float, request: int, row: Row, chosen: Chosen, delay: float | None) -> None:
        self._open[request] = (row, chosen, delay, now, 0.0)
        if self._staged:
            for stage, age in enumerate(STAGES):
                heapq.heappush(self._due, (now + age, request, stage))
        else:
            heapq.heappush(self._due, (now, request, 0))
        if delay is not None:
            heapq.heappush(self._due, (now + delay, request, -1))

    def until(self, now: float, policy: Policy) -> None:
        while self._due and self._due[0][0] <= now:
            _, request, stage = heapq.heappop(self._due)
            row, chosen, delay, shown, booked = self._open[request]
            last = stage == len(STAGES) - 1 or (not self._staged and (stage < 0 or delay is None))
            if stage < 0:
                booking = converted(booked)
            elif booked >= 1.0 and delay is not None and shown + delay <= now:
                booking = None
            elif self._staged:
                booking = unconverted(self._delays, stage, booked)
            else:
                booking = unconverted(self._delays, len(STAGES) - 1, booked)
            if booking is not None:
                policy.learn(row, chosen, booking.positives, booking.exposure)
                self._open[request] = (row, chosen, delay, shown, booking.booked)
            if last:
                if self._staged and delay is not None:
                    self._delays.learn(delay)
                del self._open[request]
