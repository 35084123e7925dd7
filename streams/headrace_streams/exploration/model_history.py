"""The models at any event of a log that was kept: replays need those that selected then.

The records are those of `model_log`, of its compacted topic or of a copy that keeps all of them, in any order.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.learned_models import LearnedModels


class ModelHistoryError(Exception):
    """Records that are needed are not there."""


class ModelHistory:
    """Events by their number, and snapshots in parts."""

    def __init__(self, records: Iterable[tuple[str, Any]]) -> None:
        self._events: dict[int, Any] = {}
        parts: dict[int, dict[int, Any]] = {}
        for key, value in records:
            kind, _, number = key.partition("/")
            if value is None:
                continue
            if kind == "event":
                self._events[value["seq"]] = value
            elif kind == "snapshot":
                parts.setdefault(value["seq"], {})[int(number)] = value
        self._snapshots = {seq: data for seq, found in parts.items() if (data := _joined(found)) is not None}

    def models_at(self, experiment: Experiment, seq: int) -> LearnedModels:
        """Return the models after ``seq`` events.

        Raises:
            ModelHistoryError: records are missing.
            IncompatibleStateError: a version has changed.
        """
        models = LearnedModels(experiment)
        start = max((number for number in self._snapshots if number <= seq), default=0)
        if start:
            models.restore(self._snapshots[start])
        self.advance(models, seq)
        return models

    def advance(self, models: LearnedModels, seq: int) -> None:
        """Apply the events up to ``seq``. Raise ModelHistoryError."""
        for number in range(models.seq + 1, seq + 1):
            record = self._events.get(number)
            if record is None:
                raise ModelHistoryError(f"event {number} of {seq} is not there")
            models.apply(record["event"])
            if models.digest != record["digest"]:
                raise ModelHistoryError(f"event {number} does not follow the events before it")


def _joined(parts: dict[int, Any]) -> bytes | None:
    """Return a snapshot; None if parts are missing."""
    data = b"".join(b64decode(parts[number]["data"]) for number in sorted(parts))
    return data if len(data) == parts[min(parts)]["bytes"] else None
