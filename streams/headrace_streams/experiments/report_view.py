"""A report about the versions of an experiment as text, JSON, documents and HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from headrace import CommandContext
from headrace_streams.experiments.version_log import VersionReport, VersionSummary
from headrace_streams.exploration.sequential import VersionComparison


class ReportView:
    """Implements ``ResultView``."""

    def __init__(self, report: VersionReport) -> None:
        self._report = report

    def sentences(self) -> list[str]:
        """Return what the report says about each version, and about the shares of the traffic."""
        report = self._report
        if report.loses_units:
            return [
                f"Units do not arrive in the configured shares (p = {report.sample_ratio:.2g}): some are lost or "
                "counted twice, so there is no verdict"
            ]
        found = []
        for name, looks in report.comparisons.items():
            last = looks[-1]
            match report.verdict(name):
                case "better" | "worse" as verdict:
                    found.append(f"{name} is {verdict} than {report.current} ({_points(last)})")
                case "undecided":
                    found.append(f"No difference between {name} and {report.current} is proven yet ({_points(last)})")
                case _:
                    found.append(f"Too early to compare {name} with {report.current}: {last.missing}")
        return found

    def write_text(self, command: CommandContext) -> None:
        report = self._report
        first, last = (_moment(report.looks[position]) for position in (0, -1))
        command.print(f"{report.source}: {first} to {last}")
        if report.open_impressions:
            command.print(f"{report.open_impressions:,} impressions have no outcome yet and are left out")
        rows = [self._row(version) for version in report.versions]
        columns = ("version", "users", "impressions", "conversions", "rate", "95 % interval", "predicted/observed")
        command.print_table((*columns, "verdict"), rows)
        for sentence in self.sentences():
            command.print(sentence)
        command.print(
            f"about {report.missed[-1]:,.0f} conversions were missed, compared with the highest rate for everyone"
        )

    def data(self) -> dict[str, Any]:
        report = self._report
        return {
            "source": report.source,
            "current": report.current,
            "from": _moment(report.looks[0]),
            "to": _moment(report.looks[-1]),
            "open_impressions": report.open_impressions,
            "sample_ratio_p_value": report.sample_ratio,
            "missed_conversions": float(report.missed[-1]),
            "versions": [self._numbers(version) for version in report.versions],
            "contributions": dict(report.contributions),
        }

    def documents(self) -> Sequence[Mapping[str, Any]]:
        report = self._report
        found: list[Mapping[str, Any]] = [
            {
                "document": "version",
                "source": report.source,
                "@timestamp": _moment(report.looks[-1]),
                **{name: value for name, value in self._numbers(version).items() if name != "reliability"},
            }
            for version in report.versions
        ]
        for name, looks in report.comparisons.items():
            found += [
                {
                    "document": "look",
                    "source": report.source,
                    "@timestamp": _moment(moment),
                    "version": name,
                    **_comparison(look),
                    "verdict": look.verdict(report.alpha),
                }
                for moment, look in zip(report.looks, looks, strict=True)
            ]
        return found

    def html(self) -> str:
        from headrace_streams.experiments.report_page import report_page

        return report_page(self._report, self.sentences())

    def _row(self, version: VersionSummary) -> tuple[str, ...]:
        sample = version.sample
        calibration = "" if version.calibration is None else f"{version.calibration:.2f}"
        is_current = version.name == self._report.current
        return (
            version.name,
            f"{sample.units:,}",
            f"{sample.impressions:,.0f}",
            f"{sample.conversions:,.0f}",
            f"{sample.rate:.3%}",
            f"{max(0.0, sample.rate - version.half_width):.3%} to {sample.rate + version.half_width:.3%}",
            calibration,
            "current" if is_current else self._report.verdict(version.name),
        )

    def _numbers(self, version: VersionSummary) -> dict[str, Any]:
        report, sample = self._report, version.sample
        found: dict[str, Any] = {
            "version": version.name,
            "current": version.name == report.current,
            "units": sample.units,
            "impressions": int(sample.impressions),
            "conversions": int(sample.conversions),
            "rate": sample.rate,
            "rate_half_width": version.half_width if math.isfinite(version.half_width) else None,
            "predicted_observed": version.calibration,
            "calibration_error": version.calibration_error,
            "reliability": [
                {
                    "predicted": part.predicted,
                    "observed": part.observed,
                    "low": part.low,
                    "high": part.high,
                    "impressions": part.impressions,
                }
                for part in version.reliability
            ],
        }
        if version.name != report.current:
            last = report.comparisons[version.name][-1]
            found |= {**_comparison(last), "verdict": report.verdict(version.name), "missing": last.missing or None}
        return found


def _comparison(look: VersionComparison) -> dict[str, Any]:
    bounds = {"low": look.low, "high": look.high}
    finite = {name: value if math.isfinite(value) else None for name, value in bounds.items()}
    return {"difference": look.difference, **finite, "p_value": look.p_value}


def _points(look: VersionComparison) -> str:
    low, high = 100 * look.low, 100 * look.high
    return f"difference {100 * look.difference:+.3f} percentage points, {low:+.3f} to {high:+.3f} at all times"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).isoformat(timespec="seconds")
