"""An application that selects and learns, and a seeded outside world that sends requests and conversions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

APPLICATION = """
inputs:
  requests: {topic: requests, time: asked_at}
  conversions: {topic: conversions, time: converted_at}
tables:
  offers: offers
experiments:
  surveys:
    unit: user_id
    salt: surveys-2026-11
    candidate: offer
    current: v1
    holdout: 5%
    objective.within: 1h
    base.rate: 10%
    test.every: 10m
    test.least.conversions: 20
    versions:
      v1: {model: beta, group: offer.category}
      v2: {model: logistic, traffic: 30%, features: [country, offer.category, country*offer.category, offer.loi:10:5]}
      v3: {model: logistic, features: [country]}
steps:
  selections:
    from: requests
    pick: {experiment: surveys, candidates: offers, where: offer.active AND offer.loi <= patience,
           log.propensities: true}
  labelled:
    join: {type: left, left: selections, right: conversions, by: request, within: 1h, grace: 1m, as: conversion}
  learned:
    from: labelled
    learn: {experiment: surveys}
outputs:
  selections: selections
  labels: labelled
  scores: learned
  experiment-counts: learned.counts
  requests-without-candidates: selections.none
"""
OFFERS: list[dict[str, Any]] = [
    {"category": "travel" if n % 2 else "health", "loi": 5 + n, "active": n != 3, "rate": 0.02 + 0.03 * n}
    for n in range(8)
]
MINUTE = 60_000
SECOND = 1000


class World:
    """Converts selections with a probability of their offer, after a delay; all from one seed."""

    def __init__(self, seed: int, requests: int) -> None:
        self._random = random.Random(seed)
        self._requests = requests
        self.due: list[tuple[int, str]] = []
        """Event times of conversions, and their requests."""

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield requests, one every two seconds."""
        for number in range(self._requests):
            yield {
                "request_id": f"r{number}",
                "user_id": self._random.randrange(500),
                "country": self._random.choice(["de", "fr"]),
                "patience": self._random.choice([8, 30]),
                "asked_at": number * 2 * SECOND,
            }

    def show(self, selection: dict[str, Any]) -> None:
        """Decide whether the selection converts, and when."""
        if self._random.random() < OFFERS[int(selection["selected"])]["rate"]:
            delay = round(self._random.lognormvariate(0, 1) * 10 * MINUTE)
            self.due.append((selection["selected_at"] + delay, selection["request"]))

    def conversions(self, now: int) -> list[dict[str, Any]]:
        """Return the conversions that have happened, by time."""
        found = sorted(item for item in self.due if item[0] <= now)
        self.due = [item for item in self.due if item[0] > now]
        return [{"request": request, "converted_at": moment} for moment, request in found]


def live(world: World, send: Callable[[str, dict[str, Any], Any], None], selections: list[Any]) -> None:
    """Send everything in the order of time. ``selections`` grows while requests are sent."""
    seen = 0
    now = 0
    for request in world.requests():
        now = request["asked_at"]
        for conversion in world.conversions(now):
            send("conversions", conversion, conversion["request"])
        send("requests", request, request["request_id"])
        for selection in selections[seen:]:
            world.show(selection.value)
        seen = len(selections)
    for conversion in world.conversions(now + 60 * MINUTE):
        send("conversions", conversion, conversion["request"])
    send("conversions", {"request": "nothing", "converted_at": now + 200 * MINUTE}, "nothing")
