"""A simulated world in front of an application that selects and learns: the steps, without Kafka.

Requests, conversions and surveys are sent in the order of their times, a minute of requests as one batch. Learning has
the order and the delays of a running application: labels come from the left join, and stages advance with them.
"""

from __future__ import annotations

import heapq
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from headrace.files import parse_config_file
from headrace.pipeline.stream.driver import StreamDriver
from headrace.plugin import StreamContext
from headrace.states import TaskId
from headrace_streams.exploration.simulation import STAGES, Result, World
from headrace_streams.task import StreamApplicationTask

MINUTE = 60_000
SHIPPED = (
    "{model: logistic, features: [country, device, age, survey.client, survey.category, survey.length, "
    "country*survey.category]}"
)
"""A logistic version with the defaults of every key."""
_APPLICATION = """
inputs:
  requests: {{topic: requests, time: asked_at}}
  conversions: {{topic: conversions, time: converted_at}}
tables: {{surveys: surveys}}
experiments:
  surveys:
    unit: request_id
    salt: "{salt}"
    candidate: survey
    current: v1
    objective.within: {window}m
    test.every: 1d
    scores.every: 1d
    versions: {{v1: {version}}}
steps:
  selections:
    from: requests
    pick: {{experiment: surveys, candidates: surveys, log.candidates: false}}
  labelled:
    join: {{type: left, left: selections, right: conversions, by: request, within: {window}m, grace: 0, as: conversion}}
  learned: {{from: labelled, learn: {{experiment: surveys}}}}
outputs: {{selections: selections, scores: learned}}
"""


class SimulatedApplication:
    """An application, and the surveys that it knows."""

    def __init__(self, world: World, version: str, salt: str) -> None:
        self._world = world
        self.driver = StreamDriver(StreamApplicationTask(), _context(version, salt))
        self._live: set[int] = set()

    def offer(self, surveys: list[int]) -> None:
        """Make these surveys the candidates."""
        for survey in sorted(self._live - set(surveys)):
            self.driver.send("surveys", None, str(survey))
        for survey in sorted(set(surveys) - self._live):
            row = self._world.row(0, survey)
            self.driver.send("surveys", {name: row[name] for name in ("client", "category", "length")}, str(survey))
        self._live = set(surveys)

    def select(self, requests: list[int], moment: int) -> list[dict[str, Any]]:
        """Return the selections of requests, in their order."""
        user = ("country", "device", "age")
        values = []
        for request in requests:
            row = self._world.row(request, 0)
            columns = {name: row[name] for name in user}
            values.append({"request_id": str(request), "asked_at": moment, **columns})
        self.driver.send_batch("requests", values, [value["request_id"] for value in values])
        made = [record.value for record in self.driver.outputs["selections"]]
        for records in self.driver.outputs.values():
            records.clear()
        assert not self.driver.refused
        return made

    def convert(self, request: str, moment: int) -> None:
        self.driver.send("conversions", {"request": request, "converted_at": moment}, request)


def simulate_application(world: World, version: str, salt: str) -> Result:
    """Return the result of an application whose only version is ``version``, as `simulate` does for a policy."""
    application, result = SimulatedApplication(world, version, salt), Result()
    due: list[tuple[int, str]] = []
    for minute in range(world.size.minutes):
        now = minute * MINUTE
        while due and due[0][0] <= now:
            moment, request = heapq.heappop(due)
            application.convert(request, moment)
        surveys = world.live(minute)
        requests = np.arange(minute * world.size.per_minute, (minute + 1) * world.size.per_minute)
        truth = world.probabilities(requests, surveys)
        places = {str(survey): place for place, survey in enumerate(surveys.tolist())}
        application.offer(surveys.tolist())
        for row, made in enumerate(application.select(requests.tolist(), now)):
            probability = float(truth[row, places[made["selected"]]])
            converts = bool(world.luck[requests[row]] < probability)
            delay = float(world.delay[requests[row]])
            in_window = converts and delay < STAGES[-1]
            result.impressions += 1
            result.conversions += converts
            result.best += float(truth[row].max())
            result.regret += float(truth[row].max()) - probability
            result.predicted.append(made["calibrated"])
            result.observed.append(in_window)
            if in_window:
                heapq.heappush(due, (now + round(delay * MINUTE), made["request"]))
        result.curve.append(result.regret)
    application.driver.close()
    return result


def _context(version: str, salt: str) -> StreamContext:
    text = _APPLICATION.format(salt=salt, version=version, window=round(STAGES[-1]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "application.yaml")
        path.write_text(text, encoding="utf-8")
        properties = parse_config_file(path).properties
    log = structlog.stdlib.get_logger("benchmark")
    return StreamContext(TaskId("app", 0), dict(properties), threading.Event(), log, str, lambda reason: None)
