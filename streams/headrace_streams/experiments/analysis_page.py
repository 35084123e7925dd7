"""The page of an analysis."""

from __future__ import annotations

import numpy as np

from headrace_streams.experiments import charts
from headrace_streams.experiments.analysis import ASSOCIATED, Analysis
from headrace_streams.experiments.page import Figure, Section, render, table
from headrace_streams.exploration.screening import VariableFinding

_MOST_VARIABLES = 30
_MOST_LEVELS = 12
_MOST_EFFECTS = 8


def analysis_page(analysis: Analysis) -> str:
    """Return the page. Raise ConfigError when matplotlib is not installed."""
    screening = analysis.screening
    names = [step.name for step in screening.selected]
    if names:
        verdict = (
            f"Proposed features: {', '.join(names)}. Together they explain {screening.explained:.2%} of the deviance."
        )
    elif screening.reason:
        verdict = f"No features are proposed: {screening.reason}."
    else:
        verdict = "No features are proposed: no variable is related to the outcome."
    figures = [
        Figure(f"{screening.impressions:,}", "impressions with an outcome"),
        Figure(f"{screening.units:,}", analysis.unit or "units (no column named)"),
        Figure(f"{screening.conversions:,}", "conversions"),
        Figure(f"{screening.conversions / screening.impressions:.2%}", "conversion rate"),
    ]
    sections = [_gains(analysis), _selection(analysis), *_effects(analysis), _redundancy(analysis)]
    title = f"Variables related to {analysis.outcome}"
    return render(title, analysis.source, verdict, "good" if names else "open", figures, sections)


def _gains(analysis: Analysis) -> Section:
    findings = analysis.screening.findings[:_MOST_VARIABLES]
    rows = [
        charts.Interval(found.variable.name, found.gain.share, found.gain.low, found.gain.high, found.related)
        for found in findings
    ]
    svg = charts.intervals(rows, "deviance explained on held-out impressions", reference=0)
    listed = table(
        ("variable", "values", "missing", "explains", "interval", "remark"),
        (
            (
                found.variable.name,
                f"{found.variable.distinct:,}",
                f"{found.variable.missing / analysis.screening.impressions:.1%}",
                f"{found.gain.share:.2%}",
                f"{found.gain.low:.2%} to {found.gain.high:.2%}",
                analysis.remarks[found.variable.name],
            )
            for found in analysis.screening.findings
        ),
    )
    text = (
        "How much of the deviance each variable explains alone, on impressions that its effects were not learned from, "
        "with a 95 % interval. Blue: related to the outcome (score test, p below 0.05 for all variables together). A "
        "related variable with an interval around 0 needs more conversions before a model gains from it."
    )
    return Section("Which variables relate to the outcome", text, svg, listed)


def _selection(analysis: Analysis) -> Section:
    rows = [
        charts.Interval(step.name, step.added.share, step.added.low, step.added.high)
        for step in analysis.screening.selected
    ]
    text = (
        "What each proposed feature adds to those above it. A related variable that is not in this list says what "
        "another one says already."
        if rows
        else analysis.screening.reason or "No variable is related to the outcome."
    )
    svg = charts.intervals(rows, "deviance explained in addition", reference=0) if rows else ""
    return Section("Proposed features", text, svg)


def _effects(analysis: Analysis) -> list[Section]:
    order = [step.name for step in analysis.screening.selected]
    found = {finding.variable.name: finding for finding in analysis.screening.findings}
    shown = [found[name] for name in order] or [finding for finding in found.values() if finding.related]
    overall = analysis.screening.conversions / analysis.screening.impressions
    return [_effect(finding, overall) for finding in shown[:_MOST_EFFECTS]]


def _effect(found: VariableFinding, overall: float) -> Section:
    levels = list(found.levels[:_MOST_LEVELS])
    if found.variable.kind == "category":
        levels.sort(key=lambda level: -level.rate)
    rows = [
        charts.Interval(
            level.label,
            level.rate,
            level.low,
            level.high,
            strong=not level.low <= overall <= level.high,
            note=f"{level.impressions:,}",
        )
        for level in levels
    ]
    text = (
        "Conversion rate of each value with a 95 % interval, and its number of impressions. "
        f"Dashed: the rate of all impressions ({overall:.2%}); blue: the interval does not contain it."
    )
    if len(found.levels) > len(levels):
        text += f" The {len(levels)} most frequent of {len(found.levels):,} values."
    return Section(
        f"Conversion rate by {found.variable.name}", text, charts.intervals(rows, "conversion rate", overall)
    )


def _redundancy(analysis: Analysis) -> Section:
    names = [found.variable.name for found in analysis.screening.findings[:_MOST_VARIABLES]]
    values = np.eye(len(names))
    for row, first in enumerate(names):
        for column, second in enumerate(names):
            pairs = analysis.screening.associations
            if row != column:
                values[row, column] = pairs.get((first, second), pairs.get((second, first), 0.0))
    rows = [(first, second, f"{value:.2f}") for first, second, value in analysis.redundant]
    listed = table(("variable", "says nearly the same as", "Cramér's V"), rows) if rows else ""
    text = (
        "Cramér's V with Bergsma's correction: 0 without association, 1 if each determines the other. "
        f"From {ASSOCIATED:g} on, one of the two is enough for a model."
    )
    return Section("Which variables say the same", text, charts.matrix(names, values), listed)
