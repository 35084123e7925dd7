"""The page about the versions of an experiment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace_streams.experiments import charts
from headrace_streams.experiments.page import Figure, Section, Tone, render, table
from headrace_streams.experiments.version_log import VersionReport, VersionSummary
from headrace_streams.exploration.special import Floats

_MOST_FEATURES = 20
_LONG = 3 * 86_400.0  # seconds from which on the axis has days


def report_page(report: VersionReport, sentences: Sequence[str]) -> str:
    """Return the page. Raise ConfigError when matplotlib is not installed."""
    hours, unit = _since_start(report.looks)
    verdicts = {report.verdict(name) for name in report.comparisons}
    tone: Tone = "bad" if verdicts & {"worse", "none"} else "good" if "better" in verdicts else "open"
    whole = sum(version.sample.impressions for version in report.versions)
    figures = [
        Figure(f"{whole:,.0f}", "impressions with an outcome"),
        Figure(f"{sum(version.sample.units for version in report.versions):,}", "users"),
        Figure(f"{sum(version.sample.conversions for version in report.versions):,.0f}", "conversions"),
        Figure(f"{report.missed[-1]:,.0f}", "missed conversions (estimated)"),
    ]
    sections = [
        _rates(report),
        *(_lift(report, name, hours, unit) for name in report.comparisons),
        _traffic(report, hours, unit),
        _regret(report, hours, unit),
        *(_reliability(version) for version in report.versions if version.reliability),
    ]
    if report.contributions:
        sections.append(_contributions(report))
    verdict = ". ".join(sentences) + "."
    return render(f"Versions compared with {report.current}", report.source, verdict, tone, figures, sections)


def _since_start(looks: Floats) -> tuple[Floats, str]:
    seconds = looks - looks[0]
    return (seconds / 86_400, "days") if seconds[-1] > _LONG else (seconds / 3_600, "hours")


def _rates(report: VersionReport) -> Section:
    rows = [
        charts.Interval(
            version.name,
            version.sample.rate,
            max(0.0, version.sample.rate - version.half_width),
            version.sample.rate + version.half_width,
            strong=version.name != report.current,
            note=f"{version.sample.impressions:,.0f}",
        )
        for version in report.versions
    ]
    listed = table(
        ("version", "users", "impressions", "conversions", "rate", "predicted/observed", "verdict"),
        (
            (
                version.name,
                f"{version.sample.units:,}",
                f"{version.sample.impressions:,.0f}",
                f"{version.sample.conversions:,.0f}",
                f"{version.sample.rate:.3%}",
                "" if version.calibration is None else f"{version.calibration:.2f}",
                "current" if version.name == report.current else report.verdict(version.name),
            )
            for version in report.versions
        ),
    )
    text = (
        "Conversion rate of each version with a 95 % interval for independent users, and its impressions. These "
        "intervals hold for one look; verdicts come from the sequences below, which hold at all times."
    )
    svg = charts.intervals(rows, "conversion rate", report.versions[0].sample.rate)
    return Section("Conversion rates", text, svg, listed)


def _lift(report: VersionReport, name: str, x: Floats, unit: str) -> Section:
    looks = report.comparisons[name]
    shown = [position for position, look in enumerate(looks) if look.enough]
    title = f"{name} against {report.current}"
    if not shown:
        return Section(title, f"Too early: {looks[-1].missing}.")
    columns = [
        np.array([100 * getattr(looks[position], part) for position in shown]) for part in ("difference", "low", "high")
    ]
    curve = charts.Curve(name, x[shown], *columns)
    text = (
        "Difference of the conversion rates with its confidence sequence: the true difference is inside of the band at "
        f"all times together with {1 - report.alpha:.2%}. It begins when both versions have enough conversions. The "
        "verdict is better or worse as soon as the band has left 0 once."
    )
    return Section(title, text, charts.lines([curve], unit, "percentage points", percent=False, zero=True))


def _traffic(report: VersionReport, x: Floats, unit: str) -> Section:
    curves = [charts.Curve(name, x, shares) for name, shares in report.unit_shares.items()]
    text = "Share of the users that each version has had so far."
    if report.sample_ratio is not None:
        text += f" Sample ratio check: p = {report.sample_ratio:.2g}; below 0.001, users are lost or counted twice."
    return Section("Traffic", text, charts.lines(curves, unit, "share of the users", bottom=0))


def _regret(report: VersionReport, x: Floats, unit: str) -> Section:
    text = (
        "Conversions that the version with the highest rate would have had in addition, if all impressions were its "
        "own. Estimated with the rates of the whole log; the true regret is known in simulations only."
    )
    curve = charts.Curve("all versions", x, report.missed)
    return Section("Missed conversions", text, charts.lines([curve], unit, "conversions", percent=False, bottom=0))


def _reliability(version: VersionSummary) -> Section:
    rows = [charts.Interval("", part.observed, part.low, part.high) for part in version.reliability]
    predicted = np.array([part.predicted for part in version.reliability])
    ratio = "" if version.calibration is None else f" Predicted / observed: {version.calibration:.2f}."
    text = (
        "Observed rates of ten groups of impressions with similar predictions, with 95 % intervals. A calibrated model "
        f"is on the dashed line.{ratio} Mean distance from it (ECE): {version.calibration_error or 0:.4f}."
    )
    return Section(f"Reliability of {version.name}", text, charts.reliability(predicted, rows, "conversion rate"))


def _contributions(report: VersionReport) -> Section:
    items = list(report.contributions.items())[:_MOST_FEATURES]
    text = "Mean absolute contribution of each feature to the log-odds of the selections: what the predictions rest on."
    svg = charts.bars([name for name, _ in items], [value for _, value in items], "log-odds")
    return Section("Feature contributions", text, svg)
