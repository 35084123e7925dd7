"""The models of all versions of an experiment after a number of events: what learning makes of the log.

An event is a booking, the delay of a conversion, or a version that failed. Equal events in equal order give equal
states, bit by bit; the digest of the events names the state in every selection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from headrace_streams.exploration.decision import HOLDOUT
from headrace_streams.exploration.delay import DelayDistribution
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.features import level_of
from headrace_streams.exploration.model import Model, Prediction, Row
from headrace_streams.exploration.recalibration import Recalibration
from headrace_streams.exploration.special import Floats

Event = list[Any]
"""What JSON holds: ``["booking", …]``, ``["delay", seconds]`` or ``["failed", version, error]``."""


def booking(version: str, row: Row, positives: float, exposure: float, predicted: float | None) -> Event:
    """Return the event of an outcome, or of a part of it. ``predicted``: the uncalibrated probability."""
    return ["booking", version, dict(row), positives, exposure, predicted]


def delay(seconds: float) -> Event:
    """Return the event of a conversion whose selection is closed."""
    return ["delay", seconds]


def failed(version: str, error: str) -> Event:
    """Return the event of a version that could not predict."""
    return ["failed", version, error]


class IncompatibleStateError(Exception):
    """The state was learned by a version with the same name and another configuration."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(f"version {version}: {reason}")
        self.version = version


@dataclass
class LearnedModels:
    """Mutable; one thread uses it. All versions learn from the selections of all versions, so that a version without
    traffic learns, too. Recalibration learns from the selections of its own version."""

    experiment: Experiment
    seq: int = 0
    """The number of events so far."""
    digest: str = ""
    degraded: dict[str, str] = field(default_factory=dict)
    """Versions that cannot predict or learn any more, and why."""
    observations: dict[str, list[float]] = field(default_factory=dict)
    """Candidate → conversions, and exposure in impressions."""

    def __post_init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._recalibrations: dict[str, Recalibration] = {}
        for name, version in self.experiment.versions.items():
            self._recalibrations[name] = Recalibration(base_rate=self.experiment.base_rate)
            try:
                self._models[name] = version.make()
            except Exception as error:  # a model of the user: whatever it raises degrades its version
                self._fail(name, "making the model", error)
        self.delays = DelayDistribution([stage / 1000 for stage in self.experiment.stages])

    def apply(self, event: Event) -> None:
        """Learn from the next event."""
        match event[0]:
            case "booking":
                self._book(*event[1:])
            case "delay":
                self.delays.learn(event[1])
            case "failed":
                self.degraded.setdefault(event[1], event[2])
            case kind:
                raise ValueError(f"unknown kind of event {kind!r}: the log was written by a newer headrace")
        self.seq += 1
        self.digest = hashlib.blake2b(self.digest.encode() + orjson.dumps(event), digest_size=16).hexdigest()

    def _book(
        self, version: str, row: dict[str, Any], positives: float, exposure: float, predicted: float | None
    ) -> None:
        seen = self.observations.setdefault(level_of(row.get(self.experiment.candidate)), [0.0, 0.0])
        seen[0] += positives
        seen[1] += exposure
        for name, model in self._models.items():
            if name in self.degraded:
                continue
            try:
                model.update(row, positives, exposure)
            except Exception as error:  # see above
                self._fail(name, "learning", error)
        if predicted is not None and version in self._recalibrations and version != HOLDOUT:
            self._recalibrations[version].update(predicted, positives, exposure)

    def predict(self, version: str, rows: Sequence[Row]) -> Prediction:
        """Return the prediction of a version. Raise what a model of the user raises."""
        found = self._models[version].predict(rows)
        if not (np.isfinite(found.mean).all() and (found.spread > 0).all() and (found.variance > 0).all()):
            raise ValueError("the prediction has a NaN, an infinity, or a variance that is not positive")
        return found

    def calibrated(self, version: str, probability: Floats) -> Floats:
        """Return calibrated probabilities of predictions of a version."""
        return self._recalibrations[version].apply(probability)

    def contributions(self, version: str, row: Row) -> dict[str, float]:
        """Return what each feature adds to the log-odds."""
        return {name: float(part) for name, part in self._models[version].contributions(row).items()}

    def to_bytes(self) -> bytes:
        """Return a snapshot. Equal states have equal snapshots."""
        models = {name: model.to_bytes() for name, model in self._models.items() if name not in self.degraded}
        header = {
            "seq": self.seq,
            "digest": self.digest,
            "degraded": self.degraded,
            "observations": self.observations,
            "delays": self.delays.to_bytes().decode(),
            "recalibrations": {name: item.to_bytes().decode() for name, item in self._recalibrations.items()},
            "models": {name: len(text) for name, text in models.items()},
        }
        return orjson.dumps(header) + b"\n" + b"".join(models.values())

    def restore(self, snapshot: bytes) -> None:
        """Replace the state.

        A version that the snapshot does not have starts from its prior.

        Raises:
            IncompatibleStateError: a version or the stages have changed.
        """
        text, _, rest = snapshot.partition(b"\n")
        header: Mapping[str, Any] = orjson.loads(text)
        self.__post_init__()
        self.seq, self.digest = header["seq"], header["digest"]
        self.degraded |= {name: why for name, why in header["degraded"].items() if name in self.experiment.versions}
        self.observations = header["observations"]
        try:
            self.delays.restore(header["delays"].encode())
        except ValueError as error:
            raise IncompatibleStateError("(stages)", str(error)) from error
        for name, state in header["recalibrations"].items():
            if name in self._recalibrations:
                self._recalibrations[name].restore(state.encode())
        start = 0
        for name, length in header["models"].items():
            part, start = rest[start : start + length], start + length
            if name in self._models:
                try:
                    self._models[name].restore(part)
                except Exception as error:  # see above
                    raise IncompatibleStateError(name, f"{type(error).__name__}: {error}") from error

    def _fail(self, version: str, doing: str, error: Exception) -> None:
        self.degraded.setdefault(version, f"{doing} raised {type(error).__name__}: {error}")
