"""The delay of conversions, and the weight of an impression without a conversion until its window closes.

Counting every unconverted impression as a failure at once makes slow surveys look bad. Waiting for the window to
close learns an hour late. Counting conversions as they come and failures at the close predicts many times too much.
So failures are booked in stages: an unconverted impression of age e counts as F(e) of a failure, where F is the
distribution of the delay (first order of Chapelle, Modeling Delayed Feedback in Display Advertising, 2014). A
conversion adds what is missing to one whole impression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import orjson


@dataclass(frozen=True)
class Booking:
    """What the model learns from an impression at one moment, and the total that is booked after it."""

    positives: float
    exposure: float
    booked: float


class DelayDistribution:
    """Share of conversions that happen within the age of each stage, learned from final outcomes.

    ``stages`` are ages in seconds, increasing; the last one is the window of the join. Only outcomes whose window has
    closed count: conversions of younger impressions have shorter delays than others. Until they arrive, the share
    grows in proportion to the stage's number, with the weight of ``prior_weight`` conversions.
    """

    def __init__(self, stages: Sequence[float], *, prior_weight: float = 20.0) -> None:
        if not stages or any(not early < late for early, late in pairwise((0.0, *stages))):
            raise ValueError(f"stages must be ages in increasing order, got {list(stages)}")
        self.stages = tuple(float(age) for age in stages)
        self._prior_weight = prior_weight
        self._counts = [0] * len(stages)

    @property
    def conversions(self) -> int:
        """Number of conversions learned from."""
        return sum(self._counts)

    def learn(self, delay: float) -> None:
        """Count a conversion of a closed impression. A delay beyond the window is not one, and is not counted.

        Raises:
            ValueError: the delay is negative.
        """
        if delay < 0:
            raise ValueError(f"a conversion cannot happen {-delay} s before its impression")
        for position, age in enumerate(self.stages):
            if delay <= age:
                self._counts[position] += 1
                return

    def share(self, stage: int) -> float:
        """Return F of the age of stage number ``stage`` (from 0): 1 at the last one."""
        prior = self._prior_weight * (stage + 1) / len(self.stages)
        return (sum(self._counts[: stage + 1]) + prior) / (self.conversions + self._prior_weight)

    def to_bytes(self) -> bytes:
        """Return a snapshot of the state."""
        return orjson.dumps({"stages": self.stages, "counts": self._counts})

    def restore(self, snapshot: bytes) -> None:
        """Replace the state.

        Raises:
            ValueError: the snapshot has other stages.
        """
        found = orjson.loads(snapshot)
        if tuple(found["stages"]) != self.stages:
            raise ValueError(f"the snapshot has stages {found['stages']}, the configuration has {list(self.stages)}")
        self._counts = found["counts"]


def unconverted(delays: DelayDistribution, stage: int, booked: float) -> Booking:
    """Return the booking of an impression that reached the age of a stage without a conversion.

    ``booked`` is what was booked before. F may have become smaller since; exposure is never taken back.
    """
    exposure = max(delays.share(stage) - booked, 0.0)
    return Booking(0.0, exposure, booked + exposure)


def converted(booked: float) -> Booking:
    """Return the booking of a conversion: the rest of one impression, and one conversion."""
    return Booking(1.0, max(1.0 - booked, 0.0), 1.0)
