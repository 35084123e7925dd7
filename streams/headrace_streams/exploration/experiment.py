"""An experiment: versions of a model, their traffic, and the rules by which one is selected. Immutable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from headrace_streams.exploration.decision import HOLDOUT, DecisionRules
from headrace_streams.exploration.model import Model, Prediction, Row
from headrace_streams.exploration.traffic import Allocation, reallocate


class UniformModel:
    """Knows nothing: every candidate is equal. The model of the holdout."""

    def predict(self, rows: Sequence[Row]) -> Prediction:
        ones = np.ones(len(rows))
        return Prediction(np.zeros(len(rows)), ones, ones)

    def update(self, row: Row, positives: float, exposure: float) -> None:
        """Learn nothing."""

    def contributions(self, row: Row) -> dict[str, float]:
        return {}

    def to_bytes(self) -> bytes:
        return b""

    def restore(self, snapshot: bytes) -> None:
        """There is no state."""


@dataclass(frozen=True)
class Version:
    """A version: immutable, so that its name stands for one model in all records. A changed model has a new name."""

    name: str
    make: Callable[[], Model]
    columns: tuple[str, ...] = ()
    """The columns of a row that the model reads."""
    numbers: tuple[str, ...] = ()
    """Those of them that must be numbers."""
    share: float = 0.0
    """The declared share of the traffic; the current version has the rest."""
    floor: float = 0.05
    explore: float = 1.0


@dataclass(frozen=True)
class Experiment:
    """The declaration of an experiment. Times are in milliseconds."""

    name: str
    salt: str
    unit: str
    """The column of a request whose value has one version, such as the user."""
    request: str
    """The column of a request that identifies it."""
    candidate: str
    """The name of a candidate in features and conditions; as a column of a row it is the candidate's id."""
    current: str
    declared: Mapping[str, Version]
    within: int
    """How long after a selection a conversion counts."""
    stages: tuple[int, ...]
    """Ages at which selections without a conversion are booked; the last one is ``within``."""
    holdout: float = 0.0
    rules: DecisionRules = field(default_factory=DecisionRules)
    automatic: bool = False
    """Decisions change the traffic; otherwise they are proposed."""
    base_rate: float = 0.02
    every: int = 60_000
    """Time between two looks at the counts."""
    rescore: int = 600_000
    """A score is written at least this often while there are labels."""
    log_topic: str = "experiment-log"
    models_topic: str = "models"
    """The topic of the learned models."""

    @cached_property
    def versions(self) -> dict[str, Version]:
        """All versions, the holdout included."""
        holdout = Version(HOLDOUT, UniformModel, share=self.holdout, floor=1.0)
        return {**self.declared, **({HOLDOUT: holdout} if self.holdout else {})}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of all versions: what a selection records."""
        columns = (column for version in self.versions.values() for column in version.columns)
        return tuple(dict.fromkeys((self.candidate, *columns)))

    @cached_property
    def numbers(self) -> frozenset[str]:
        """The columns that must be numbers."""
        return frozenset(column for version in self.versions.values() for column in version.numbers)

    @cached_property
    def shares(self) -> dict[str, float]:
        """The declared shares of all versions but the current one."""
        return {name: version.share for name, version in self.versions.items() if name != self.current}

    @cached_property
    def first_allocation(self) -> Allocation:
        """The buckets before any transition."""
        return reallocate(Allocation(self.current), self.shares, self.current)

    def of_candidate(self, column: str) -> bool:
        """Return whether a column belongs to the candidate and not to the request."""
        return column == self.candidate or column.startswith(f"{self.candidate}.")
