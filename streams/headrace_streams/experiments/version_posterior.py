"""What a version has learned about each candidate: probability, interval, observations, and the reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import CommandContext, ConfigError, RetriableError
from headrace_streams.experiments.experiment_access import ExperimentAccess, reasons
from headrace_streams.exploration.learned_models import IncompatibleStateError, LearnedModels
from headrace_streams.exploration.model_log import IncompleteLogError, follow
from headrace_streams.operators.learn import indexable


@dataclass(frozen=True)
class CandidatePosterior:
    """One candidate, for a user of whom nothing is known."""

    candidate: str
    probability: float
    calibrated: float
    low: float
    high: float
    conversions: float
    impressions: float
    contributions: Mapping[str, float]


@dataclass(frozen=True)
class VersionPosterior:
    """A version after ``events`` events. ``candidates``: the most promising first."""

    experiment: str
    candidate: str
    """The name of a candidate in features."""
    version: str
    events: int
    digest: str
    degraded: str
    candidates: Sequence[CandidatePosterior]


def posterior_of(access: ExperimentAccess, version: str) -> VersionPosterior:
    """Read the models and the candidates. Raise ConfigError, and the errors of Kafka."""
    access.require_version(version)
    models = followed(access)
    degraded = models.degraded.get(version, "")
    found = [] if degraded else _candidates(access, models, version)
    found.sort(key=lambda item: (-item.probability, item.candidate))
    return VersionPosterior(
        access.experiment.name, access.experiment.candidate, version, models.seq, models.digest, degraded, found
    )


def followed(access: ExperimentAccess) -> LearnedModels:
    """Return the models at the head of their topic. Raise ConfigError, RetriableError."""
    try:
        return follow(access.experiment, None, access.model_records())
    except IncompleteLogError as error:  # they are being written while they are read
        text = f"the records of topic {access.experiment.models_topic} are not complete: {error}"
        raise RetriableError(text, code="experiment.models") from error
    except IncompatibleStateError as error:
        raise ConfigError(
            f"what was learned does not fit the application's file: {error}",
            code="experiment.version_changed",
            hint="name the file that the application runs with",
        ) from error


def _candidates(access: ExperimentAccess, models: LearnedModels, version: str) -> list[CandidatePosterior]:
    offered = list(access.candidate_rows().items())
    if not offered:
        return []
    rows, _ = access.pick.columns_of({}, offered)
    columns = [row for _, row in rows]
    prediction = models.predict(version, columns)
    calibrated = models.calibrated(version, prediction.probability)
    low, high = prediction.interval()
    found = []
    for place, (name, row) in enumerate(rows):
        conversions, impressions = models.observations.get(name, (0.0, 0.0))
        found.append(
            CandidatePosterior(
                name,
                float(prediction.probability[place]),
                float(calibrated[place]),
                float(low[place]),
                float(high[place]),
                conversions,
                impressions,
                models.contributions(version, row),
            )
        )
    return found


class PosteriorView:
    """Shows the most promising candidates of a version."""

    def __init__(self, found: VersionPosterior, most: int) -> None:
        self._found = found
        self._most = most

    def write_text(self, command: CommandContext) -> None:
        found = self._found
        command.print(
            f"version {found.version} of experiment {found.experiment}, after {found.events:,} events: probability to "
            "convert for a user of whom nothing is known"
        )
        if found.degraded:
            command.print(f"the version is degraded and selects nothing: {found.degraded}")
            return
        shown = found.candidates[: self._most]
        command.print_table(
            (
                "candidate",
                "probability",
                "95 % interval",
                "calibrated",
                "conversions",
                "impressions",
                "reasons (log-odds)",
            ),
            [
                (
                    item.candidate,
                    f"{item.probability:.2%}",
                    f"{item.low:.2%} to {item.high:.2%}",
                    f"{item.calibrated:.2%}",
                    f"{item.conversions:,.0f}",
                    f"{item.impressions:,.0f}",
                    reasons({name: part for name, part in item.contributions.items() if name != "intercept"}),
                )
                for item in shown
            ],
        )
        if len(found.candidates) > len(shown):
            command.print(f"{len(found.candidates) - len(shown):,} more candidates; show them with --most")

    def data(self) -> dict[str, Any]:
        found = self._found
        return {
            "experiment": found.experiment,
            "version": found.version,
            "events": found.events,
            "digest": found.digest,
            "degraded": found.degraded or None,
            "candidates": [_numbers(item) for item in found.candidates],
        }

    def documents(self) -> Sequence[Mapping[str, Any]]:
        found = self._found
        shared = {"document": "posterior", "experiment": found.experiment, "version": found.version}
        return [
            {
                **shared,
                "events": found.events,
                **_numbers(item),
                "contributions": indexable(item.contributions, found.candidate),
            }
            for item in found.candidates
        ]


def _numbers(item: CandidatePosterior) -> dict[str, Any]:
    return {
        "candidate": item.candidate,
        "probability": item.probability,
        "calibrated": item.calibrated,
        "low": item.low,
        "high": item.high,
        "conversions": item.conversions,
        "impressions": item.impressions,
        "contributions": dict(item.contributions),
    }
