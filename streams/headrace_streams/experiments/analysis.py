"""The analysis of a log: what ``headrace experiment analyse`` computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace import ConfigError
from headrace_streams.experiments.impression_log import ImpressionLog, variable, with_outcome
from headrace_streams.exploration.screening import Screening, VariableFinding, screen

ASSOCIATED = 0.5
"""Cramér's V from which two variables are reported as redundant."""
_REVEALING = 0.5
"""Share of the deviance that no honest variable explains: it probably is a consequence of the outcome."""
_IDENTIFIER = 0.5
"""Share of different values from which a variable is an identifier."""


@dataclass(frozen=True)
class Analysis:
    """The screening of a log, with remarks on each variable."""

    screening: Screening
    source: str
    outcome: str
    unit: str
    open_impressions: int
    remarks: dict[str, str]

    @property
    def redundant(self) -> list[tuple[str, str, float]]:
        """Pairs of variables that say nearly the same, the strongest association first."""
        pairs = [(a, b, v) for (a, b), v in self.screening.associations.items() if v >= ASSOCIATED]
        return sorted(pairs, key=lambda pair: -pair[2])


def analyse_log(
    whole: ImpressionLog, outcome: str, variables: Sequence[str], without: Sequence[str], unit: str
) -> Analysis:
    """Return the analysis of a log. ``variables``: empty for all columns but outcome and unit. Raise ConfigError."""
    log, outcomes, unknown = with_outcome(whole, outcome)
    units = log.units(unit) if unit else None
    excluded = {outcome, unit, *without}
    names = list(variables) or [name for name in log.columns if name not in excluded]
    if not names:
        raise ConfigError(
            f"{log.source} has no column besides {outcome}",
            code="experiment.no_variables",
            hint="name the columns that are known before a survey is selected with --variable",
        )
    screening = screen([variable(log, name) for name in names], outcomes, units)
    remarks = {found.variable.name: _remark(found, screening) for found in screening.findings}
    return Analysis(screening, log.source, outcome, unit, unknown, remarks)


def _remark(found: VariableFinding, screening: Screening) -> str:
    """Return what a data scientist must know of a variable; empty if nothing."""
    variable = found.variable
    selected = [step.name for step in screening.selected]
    if variable.distinct <= 1 and not variable.missing:
        return "always the same value"
    if found.gain.share > _REVEALING:
        return "explains too much: is it known before the outcome?"
    if variable.kind == "category" and variable.distinct > _IDENTIFIER * screening.impressions:
        return "an identifier: nearly every impression has its own value"
    if found.related and selected and variable.name not in selected:
        nearest = max(selected, key=lambda name: _association(screening, name, variable.name))
        if _association(screening, nearest, variable.name) >= ASSOCIATED:
            return f"adds nothing to {nearest}, which says nearly the same"
        return "adds nothing to the selected variables"
    return ""


def _association(screening: Screening, first: str, second: str) -> float:
    pairs = screening.associations
    return pairs.get((first, second), pairs.get((second, first), 0.0))
