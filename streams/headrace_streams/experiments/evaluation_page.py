"""The page of an off-policy evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from headrace_streams.experiments import charts
from headrace_streams.experiments.page import Figure, Section, Tone, render, table
from headrace_streams.experiments.policy_log import LogColumns, PolicyEvaluation
from headrace_streams.exploration.off_policy import LEAST_CONVERSIONS, LEAST_SAMPLE_SIZE, Estimate

_TONES: dict[str, Tone] = {"better": "good", "worse": "bad"}


def evaluation_page(
    found: PolicyEvaluation,
    estimates: Sequence[tuple[str, Estimate]],
    summary: str,
    columns: LogColumns,
    source: str,
) -> str:
    """Return the page. Raise ConfigError when matplotlib is not installed."""
    evaluation = found.evaluation
    figures = [
        Figure(f"{evaluation.impressions:,}", "impressions with an outcome"),
        Figure(f"{evaluation.effective_sample_size:,.0f}", f"effective sample size ({LEAST_SAMPLE_SIZE:,.0f} needed)"),
        Figure(f"{evaluation.effective_conversions:,.0f}", f"effective conversions ({LEAST_CONVERSIONS:.0f} needed)"),
        Figure(f"{found.weights.max():,.1f}", "largest weight"),
    ]
    rows = [
        charts.Interval(name, estimate.value, estimate.low, estimate.high, strong=name != "logged")
        for name, estimate in estimates
    ]
    values = charts.intervals(rows, "conversion rate", reference=evaluation.logged.value)
    listed = table(
        ("estimate", "conversion rate", "95 % interval"),
        ((name, f"{e.value:.3%}", f"{e.low:.3%} to {e.high:.3%}") for name, e in estimates),
    )
    reading = (
        "IPS weights each impression by how much more often the evaluated version would have selected it. SNIPS "
        "divides by the sum of the weights. DR adds a model of the rewards, and usually has the narrowest interval. "
        "They should agree: if they do not, the logged propensities are wrong or the overlap is small."
    )
    weights = (
        "A weight of 5 means that the version would have made this selection five times as often. Few large weights "
        "mean that few impressions decide; the effective sample size counts that."
    )
    sections = [Section("What the version would have earned", reading, values, listed)]
    if found.weights.any():
        sections.append(Section("Weights of the impressions", weights, charts.histogram(found.weights, "weight")))
    title = f"{columns.target}, evaluated on the log of another version"
    sentence = f"{summary[:1].upper()}{summary[1:]}."
    return render(title, source, sentence, _TONES.get(evaluation.verdict, "open"), figures, sections)
