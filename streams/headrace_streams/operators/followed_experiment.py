"""What the steps of an experiment follow: the log of its models, and the log of its transitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace import RetriableError, TaskError, WorkerEvent
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.learned_models import IncompatibleStateError, LearnedModels
from headrace_streams.exploration.model_log import IncompleteLogError, follow
from headrace_streams.exploration.transitions import Traffic, TransitionError, traffic_of


@dataclass
class KnownModels:
    """The models that an operator has followed so far. What they are is determined by the log alone."""

    models: LearnedModels | None = None

    def at_head(self, experiment: Experiment, log: Mapping[str, Any]) -> LearnedModels:
        """Return the models at the head of the log. Raise TaskError, RetriableError."""
        try:
            self.models = follow(experiment, self.models, log)
        except IncompleteLogError as error:
            self.models = None
            text = f"experiment {experiment.name}: the records of the models are not complete: {error}"
            raise RetriableError(text, code="experiment.models") from error
        except IncompatibleStateError as error:
            self.models = None
            raise TaskError(
                f"experiment {experiment.name}: what was learned does not fit the configuration: {error}",
                code="experiment.version_changed",
                hint="restore the version, and add the changed one under a new name: a name stands for one model",
            ) from error
        return self.models


def traffic_at(experiment: Experiment, record: Mapping[str, Any] | None) -> Traffic:
    """Return the traffic after a transition; None: the declared one. Raise TaskError."""
    try:
        return traffic_of(experiment, record)
    except TransitionError as error:
        raise TaskError(str(error), code=error.code, hint=error.hint) from error


def transition_event(record: Mapping[str, Any]) -> WorkerEvent:
    """Return the event of a transition, by its record."""
    name, version = record["experiment"], record["version"]
    shares = ", ".join(f"{key} {share:.2%}" for key, share in sorted(record["shares"].items()))
    subject = f"experiment {name}: {record['transition']}{f' {version}' if version else ''}"
    return WorkerEvent(
        "experiment",
        f"experiment {record['transition']}",
        f"{subject}, by {record['by']}: {record['reason']}; traffic: {shares}",
        {
            "experiment": {
                "name": name,
                "transition": record["transition"],
                "number": record["number"],
                "current": record["current"],
                "by": record["by"],
                "at": record["at"],
                **({"version": version} if version else {}),
            }
        },
    )
