"""An analysis as text, JSON, documents and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace import CommandContext
from headrace_streams.experiments.analysis import Analysis
from headrace_streams.exploration.screening import Gain, VariableFinding


class AnalysisView:
    """Implements ``ResultView``."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis

    def write_text(self, command: CommandContext) -> None:
        analysis, screening = self._analysis, self._analysis.screening
        command.print(
            f"{screening.impressions:,} impressions of {screening.units:,} {analysis.unit or 'independent units'}, "
            f"{screening.conversions:,} conversions ({screening.conversions / screening.impressions:.2%})"
        )
        if analysis.open_impressions:
            command.print(f"{analysis.open_impressions:,} impressions have no outcome yet and are left out")
        rows = [
            (
                found.variable.name,
                f"{found.variable.distinct:,}",
                f"{found.variable.missing / screening.impressions:.1%}",
                f"{found.gain.share:.2%}",
                f"{found.gain.low:.2%} to {found.gain.high:.2%}",
                "yes" if found.related else "not shown",
                analysis.remarks[found.variable.name],
            )
            for found in screening.findings
        ]
        command.print_table(("variable", "values", "missing", "explains", "interval", "related", "remark"), rows)
        if analysis.redundant:
            pairs = [(first, second, f"{value:.2f}") for first, second, value in analysis.redundant]
            command.print_table(("variable", "says nearly the same as", "Cramér's V"), pairs)
        if screening.reason:
            command.print(f"no features proposed: {screening.reason}")
        elif not screening.selected:
            command.print("no features proposed: no variable is related to the outcome")
        else:
            steps = [(step.name, f"{step.added.share:.2%}", _interval(step.added)) for step in screening.selected]
            command.print_table(("proposed feature", "adds", "interval"), steps)
            command.print(
                f"together they explain {screening.explained:.2%} of the deviance of impressions they have not seen"
            )
            command.print(f"features: [{', '.join(step.name for step in screening.selected)}]")

    def data(self) -> dict[str, Any]:
        analysis, screening = self._analysis, self._analysis.screening
        return {
            "source": analysis.source,
            "outcome": analysis.outcome,
            "unit": analysis.unit or None,
            "impressions": screening.impressions,
            "units": screening.units,
            "conversions": screening.conversions,
            "open_impressions": analysis.open_impressions,
            "reason": screening.reason or None,
            "variables": [self._variable(found) for found in screening.findings],
            "redundant": [
                {"first": first, "second": second, "cramers_v": value} for first, second, value in analysis.redundant
            ],
            "features": [{"name": step.name, **_numbers(step.added)} for step in screening.selected],
            "explained": screening.explained,
        }

    def documents(self) -> Sequence[Mapping[str, Any]]:
        data = self.data()
        whole = {name: data[name] for name in ("source", "outcome")}
        proposed = {step["name"]: rank for rank, step in enumerate(data["features"], 1)}
        found: list[Mapping[str, Any]] = []
        for variable in data["variables"]:
            levels = variable.pop("levels")
            rank = proposed.get(variable["name"])
            found.append({"document": "variable", **whole, **variable, "feature_rank": rank})
            found += [{"document": "level", **whole, "variable": variable["name"], **level} for level in levels]
        return found

    def html(self) -> str:
        from headrace_streams.experiments.analysis_page import analysis_page

        return analysis_page(self._analysis)

    def _variable(self, found: VariableFinding) -> dict[str, Any]:
        return {
            "name": found.variable.name,
            "kind": found.variable.kind,
            "values": found.variable.distinct,
            "missing": found.variable.missing,
            **_numbers(found.gain),
            "related": found.related,
            "remark": self._analysis.remarks[found.variable.name] or None,
            "levels": [
                {
                    "level": level.label,
                    "impressions": level.impressions,
                    "conversions": level.conversions,
                    "rate": level.rate,
                    "low": level.low,
                    "high": level.high,
                }
                for level in found.levels
            ],
        }


def _numbers(gain: Gain) -> dict[str, float]:
    return {"explains": gain.share, "low": gain.low, "high": gain.high, "p_value": gain.p_value}


def _interval(gain: Gain) -> str:
    return f"{gain.low:.2%} to {gain.high:.2%}"
