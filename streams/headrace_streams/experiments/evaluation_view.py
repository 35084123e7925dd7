"""An off-policy evaluation as text, JSON, documents and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace import CommandContext
from headrace_streams.experiments.policy_log import LogColumns, PolicyEvaluation
from headrace_streams.exploration.off_policy import Estimate

_MEANING = {
    "better": "the evaluated version converts more often than the logging one",
    "worse": "the evaluated version converts less often than the logging one",
    "undecided": "the interval of the difference to the logging version contains 0",
}


class EvaluationView:
    """Implements ``ResultView``."""

    def __init__(self, found: PolicyEvaluation, columns: LogColumns, source: str) -> None:
        self._found = found
        self._columns = columns
        self._source = source

    def estimates(self) -> list[tuple[str, Estimate]]:
        """Return the estimates by name, the logged one first."""
        evaluation = self._found.evaluation
        pairs = [("logged", evaluation.logged), ("IPS", evaluation.ips), ("SNIPS", evaluation.snips)]
        return [*pairs, ("DR", evaluation.dr)] if self._found.has_distribution else pairs

    def summary(self) -> str:
        """Return the verdict as a sentence."""
        evaluation = self._found.evaluation
        if not evaluation.reliable:
            return f"no verdict: {evaluation.reason}"
        difference = evaluation.difference
        return (
            f"{evaluation.verdict}: {_MEANING[evaluation.verdict]} (difference {100 * difference.value:+.3f} "
            f"percentage points, {100 * difference.low:+.3f} to {100 * difference.high:+.3f})"
        )

    def write_text(self, command: CommandContext) -> None:
        evaluation = self._found.evaluation
        command.print(
            f"{evaluation.impressions:,} impressions; {self._columns.target} evaluated on the log {self._source}"
        )
        if self._found.open_impressions:
            command.print(f"{self._found.open_impressions:,} impressions have no outcome yet and are left out")
        rows = [
            (name, f"{estimate.value:.3%}", f"{estimate.low:.3%} to {estimate.high:.3%}")
            for name, estimate in self.estimates()
        ]
        command.print_table(("estimate", "conversion rate", "95 % interval"), rows)
        command.print(
            f"effective sample size {evaluation.effective_sample_size:,.0f}; {evaluation.weighted_conversions:,} "
            f"conversions with weight, worth {evaluation.effective_conversions:,.0f} equal ones; "
            f"largest weight {self._found.weights.max():,.1f}"
        )
        if not self._found.has_distribution:
            command.print("no doubly robust estimate: the log has no probability of each candidate")
        command.print(self.summary())

    def data(self) -> dict[str, Any]:
        evaluation = self._found.evaluation
        return {
            "source": self._source,
            "target": self._columns.target,
            "impressions": evaluation.impressions,
            "open_impressions": self._found.open_impressions,
            "estimates": {name.lower(): _numbers(estimate) for name, estimate in self.estimates()},
            "difference": _numbers(evaluation.difference),
            "effective_sample_size": evaluation.effective_sample_size,
            "weighted_conversions": evaluation.weighted_conversions,
            "effective_conversions": evaluation.effective_conversions,
            "largest_weight": float(self._found.weights.max()),
            "verdict": evaluation.verdict,
            "reason": evaluation.reason or None,
        }

    def documents(self) -> Sequence[Mapping[str, Any]]:
        data = self.data()
        shared = {name: data[name] for name in ("source", "target", "impressions", "verdict", "reason")}
        size = {"effective_sample_size": data["effective_sample_size"]}
        return [
            {"document": "estimate", **shared, **size, "estimate": name, **numbers}
            for name, numbers in data["estimates"].items()
        ]

    def html(self) -> str:
        from headrace_streams.experiments.evaluation_page import evaluation_page

        return evaluation_page(self._found, self.estimates(), self.summary(), self._columns, self._source)


def _numbers(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
