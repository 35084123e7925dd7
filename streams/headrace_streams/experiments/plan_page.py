"""The page of a plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace_streams.experiments import charts
from headrace_streams.experiments.experiment_plan import SharePlan
from headrace_streams.experiments.page import Figure, Section, render


def plan_page(plans: Sequence[SharePlan], assumptions: str, conclusions: Sequence[str]) -> str:
    """Return the page. Raise ConfigError when matplotlib is not installed."""
    design = plans[0].design
    figures = [
        Figure(f"{design.impressions_per_day:,.0f}", "impressions a day"),
        Figure(f"{design.rate:.2%}", "conversion rate of the current version"),
        Figure(f"{design.days:g}", "days at most"),
        Figure(f"{max(plan.false_verdicts for plan in plans):.1%}", "false verdicts without a difference"),
    ]
    sections = [_share(plan) for plan in plans]
    if len(plans) > 1:
        sections.insert(0, _comparison(plans))
    findable = any(power.lift > 0 and power.found >= 0.8 for plan in plans for power in plan.powers)
    verdict = ". ".join(f"{text[:1].upper()}{text[1:]}" for text in conclusions) + "."
    title = "How long the experiment takes"
    return render(title, assumptions, verdict, "good" if findable else "bad", figures, sections)


def _share(plan: SharePlan) -> Section:
    curves = [
        charts.Curve(f"{power.lift:+.0%}", np.arange(len(power.by_day) + 1.0), np.concatenate(([0.0], power.by_day)))
        for power in plan.powers
    ]
    svg = charts.lines(curves, "days", "experiments that found the lift", bottom=0, reference=0.8)
    text = (
        "How many of 1,000 simulated experiments have found a lift by the end of each day, with a test that is "
        f"evaluated {plan.design.looks_per_day} times a day. Dashed: 80 %."
    )
    return Section(f"{plan.design.version_share:.1%} of the traffic for the version", text, svg)


def _comparison(plans: Sequence[SharePlan]) -> Section:
    curves = [
        charts.Curve(
            f"{100 * plan.design.version_share:g} %",
            np.array([power.lift for power in plan.powers]),
            np.array([power.days_80 for power in plan.powers]),
        )
        for plan in plans
    ]
    svg = charts.lines(
        curves, "lift of the version", "days", percent=False, percent_x=True, bottom=0, reference=plans[0].design.days
    )
    text = (
        "Days until 80 % of the experiments have found a lift, by the share of the traffic. A line ends where fewer "
        "find it in time. Dashed: the longest duration."
    )
    return Section("Traffic against time", text, svg)
