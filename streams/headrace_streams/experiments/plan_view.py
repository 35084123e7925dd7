"""A plan as text, JSON, documents and HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headrace import CommandContext
from headrace_streams.experiments.experiment_plan import SharePlan
from headrace_streams.exploration.power import Power

_ENOUGH = 0.8
"""Share of the simulated experiments that must find a lift, for the lift to be called findable."""


class PlanView:
    """Implements ``ResultView``."""

    def __init__(self, plans: Sequence[SharePlan], source: str) -> None:
        self._plans = plans
        self._source = source

    def assumptions(self) -> str:
        """Return what the plan assumes as a sentence."""
        design = self._plans[0].design
        clustered = f", design effect {design.design_effect:.2f}" if design.design_effect > 1 else ""
        return (
            f"{design.impressions_per_day:,.0f} impressions a day, conversion rate {design.rate:.2%}{clustered}, "
            f"{design.least_conversions:g} conversions of each version, at most {design.days:g} days; {self._source}"
        )

    def conclusions(self) -> list[str]:
        """Return for each share the smallest lift that is found as a sentence."""
        found = []
        for plan in self._plans:
            lifts = sorted(power.lift for power in plan.powers if power.lift > 0 and power.found >= _ENOUGH)
            longest = f"{plan.design.days:g} days"
            share = f"{plan.design.version_share:.1%}"
            if lifts:
                found.append(f"with {share} of the traffic, lifts from {lifts[0]:.0%} on are found within {longest}")
            else:
                found.append(f"with {share} of the traffic, none of these lifts is found within {longest}")
        return found

    def write_text(self, command: CommandContext) -> None:
        command.print(self.assumptions())
        rows = [
            (
                f"{plan.design.version_share:.1%}",
                f"{power.lift:+.0%}",
                f"{power.found:.0%}",
                _days(power.median_days),
                _days(power.days_80),
            )
            for plan in self._plans
            for power in plan.powers
        ]
        command.print_table(("traffic", "lift", "found", "half after", "80 % after"), rows)
        false = max(plan.false_verdicts for plan in self._plans)
        command.print(f"without a difference, at most {false:.1%} of the simulated experiments find one")
        for sentence in self.conclusions():
            command.print(sentence)

    def data(self) -> dict[str, Any]:
        design = self._plans[0].design
        return {
            "rate": design.rate,
            "impressions_per_day": design.impressions_per_day,
            "days": design.days,
            "alpha": design.alpha,
            "least_conversions": design.least_conversions,
            "design_effect": design.design_effect,
            "plans": [
                {
                    "share": plan.design.version_share,
                    "false_verdicts": plan.false_verdicts,
                    "lifts": [_numbers(power) for power in plan.powers],
                }
                for plan in self._plans
            ],
        }

    def documents(self) -> Sequence[Mapping[str, Any]]:
        data = self.data()
        shared = {name: data[name] for name in ("rate", "impressions_per_day", "days", "alpha", "design_effect")}
        return [
            {"document": "plan", **shared, "share": plan["share"], **lift}
            for plan in data["plans"]
            for lift in plan["lifts"]
        ]

    def html(self) -> str:
        from headrace_streams.experiments.plan_page import plan_page

        return plan_page(self._plans, self.assumptions(), self.conclusions())


def _numbers(power: Power) -> dict[str, Any]:
    return {
        "lift": power.lift,
        "found": power.found,
        "wrong": power.wrong,
        "median_days": None if math.isnan(power.median_days) else power.median_days,
        "days_80": None if math.isnan(power.days_80) else power.days_80,
    }


def _days(days: float) -> str:
    if math.isnan(days):
        return "not in time"
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.0f} hours"
