"""The configuration keys of experiments, a section of stream applications: ``experiments.surveys.unit``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from headrace import LOWER, CommaList, ConfigModel, Duration, Finding, key, prefix_key


def _share(value: object) -> object:
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


Share = Annotated[float, BeforeValidator(_share)]
"""A part of a whole, as ``5%`` or ``0.05``."""


class ExperimentKeys(ConfigModel):
    """Keys of one experiment."""

    unit: str = key("unit", doc="The column of a request whose value keeps one version, such as `user_id`.")
    salt: str = key("salt", doc="Text that assigns units to versions at random. It cannot be changed later.")
    request: str = key("request", default="request_id", doc="The column of a request that identifies it.")
    candidate: str = key(
        "candidate", doc="The name of a candidate in features and conditions, such as `offer` for `offer.category`."
    )
    current: str = key("current", doc="The version that is compared with; it has the traffic that no other one has.")
    versions: dict[str, str] = prefix_key("versions.", doc="The versions, by name: `versions.v2.model: logistic`.")
    holdout: Share = key("holdout", default=0.0, ge=0, le=0.5, doc="Part of the traffic with uniform selections.")
    objective: Duration = key(
        "objective.within", ge=1, doc="A selection counts as converted if a conversion comes within this time."
    )
    base_rate: Share = key("base.rate", default=0.02, gt=0, lt=1, doc="The rate of conversion to expect at first.")
    stages: CommaList = key(
        "stages",
        default="5%, 13%, 27%, 58%",
        doc="Ages, as parts of `objective.within`, at which a selection without a conversion counts as a part of a "
        "failure.",
    )
    alpha: Share = key("test.alpha", default=0.05, gt=0, lt=0.5, doc="Probability of a false verdict, over all looks.")
    expected_lift: Share = key(
        "test.expected.lift", default=0.15, gt=0, le=10, doc="The relative difference for which the test is strongest."
    )
    least_conversions: int = key(
        "test.least.conversions", default=100, ge=1, doc="Conversions of each version before any verdict."
    )
    longest: Duration | None = key(
        "test.longest", default=None, ge=1, doc="The time after which a test without a verdict stops."
    )
    every: Duration = key("test.every", default=60_000, ge=1, doc="The time between two looks at the counts.")
    sample_ratio: Share = key(
        "guards.sample.ratio", default=0.001, gt=0, lt=0.5, doc="The p-value below which units are lost."
    )
    calibration: CommaList = key(
        "guards.calibration", default="0.8, 1.25", doc="The range of predicted / observed conversions."
    )
    latency: Duration | None = key(
        "guards.latency",
        default=None,
        ge=1,
        doc="At most 1 % of a version's selections over HTTP may take longer.",
    )
    metric: str = key(
        "guards.metric.column",
        default="",
        doc="The column of a label with a number or boolean that must not get worse, as `conversion.complaint`.",
    )
    metric_margin: Share = key(
        "guards.metric.worse.by", default=0.0, ge=0, doc="By how much it may be worse than with the current version."
    )
    metric_direction: Annotated[Literal["worse", "better"], LOWER] = key(
        "guards.metric.higher.is", default="worse", doc="`worse`, as complaints; `better`, as revenue."
    )
    promotion: Annotated[Literal["ask", "automatic"], LOWER] = key(
        "promote.mode", default="ask", doc="Propose changes of the traffic in the log, or make them."
    )
    ramp: CommaList = key(
        "promote.ramp", default="5%, 20%, 50%", doc="The shares that a version gets one after the other."
    )
    rescore: Duration = key(
        "scores.every", default=600_000, ge=1, doc="A score that does not change is written again after this time."
    )
    log_topic: str = key("log.topic", default="experiment-log", doc="The topic of transitions of all experiments.")

    def problems(self) -> Iterable[Finding]:
        if not self.versions:
            yield Finding("config.missing_key", "the experiment has no versions", "versions", "declare `current`")
        for name, items in (("stages", self.stages), ("promote.ramp", self.ramp)):
            try:
                parts = [float(_share(item)) for item in items]  # type: ignore[arg-type]
            except ValueError:
                text = f"'{', '.join(items)}' is not a list of shares"
                yield Finding("config.invalid_value", text, name, "write 5%, 20%, 50%")
            else:
                if parts != sorted(set(parts)) or not all(0 < part <= 1 for part in parts):
                    text = f"'{', '.join(items)}' must be shares in increasing order, above 0 % and up to 100 %"
                    yield Finding("config.invalid_value", text, name, "write 5%, 20%, 50%")
        try:
            low, high = map(float, self.calibration)
            valid = 0 < low < 1 < high
        except ValueError:
            valid = False
        if not valid:
            text = f"'{', '.join(self.calibration)}' is not a range around 1"
            yield Finding("config.invalid_value", text, "guards.calibration", "write 0.8, 1.25")

    def shares_of(self, items: Iterable[str]) -> tuple[float, ...]:
        """Return a list of shares as numbers."""
        return tuple(float(_share(item)) for item in items)  # type: ignore[arg-type]


class VersionKeys(ConfigModel):
    """Keys of one version."""

    short_form: ClassVar[str] = "model"

    model: Annotated[Literal["beta", "logistic", "call"], LOWER] = key("model", doc="`beta`, `logistic` or `call`.")
    traffic: Share = key(
        "traffic", default=0.0, ge=0, le=1, doc="Its share of the traffic; with 0 it learns and selects in the shadow."
    )
    features: CommaList = key(
        "features",
        default="",
        doc="Columns of the request and of the candidate (`country`, `offer.category`), products "
        "(`country*offer.category`), and numbers with centre and scale (`offer.loi:10:5`).",
    )
    group: str | None = key("group", default=None, doc="For `beta`: the column whose values share a prior.")
    strength: float = key("strength", default=30.0, gt=0, doc="For `beta`: impressions that the first prior is worth.")
    deviation: float = key(
        "deviation", default=0.5, gt=0, doc="For `logistic`: deviation of the candidates' own weights, in log-odds."
    )
    max_levels: int = key("max.levels", default=500, ge=10, le=2000, doc="For `logistic`: weights at most.")
    function: str | None = key(
        "call",
        default=None,
        doc="For `call`: `module:Class` of your model, called without arguments. Over REST, "
        "`connector.functions.allowed` of the worker must include it.",
    )
    floor: Share = key("floor", default=0.05, ge=0, le=1, doc="The part of its selections that is uniform.")
    explore: float | None = key(
        "explore",
        default=None,
        ge=0,
        le=10,
        doc="Factor of the deviation of draws; 0 selects the largest mean. Default: 0.5 for `logistic`, whose "
        "candidates share weights, and 1 for the others.",
    )

    @property
    def deviation_factor(self) -> float:
        """``explore`` with its default."""
        if self.explore is not None:
            return self.explore
        return 0.5 if self.model == "logistic" else 1.0


class PickKeys(ConfigModel):
    """Keys of a step that selects."""

    experiment: str = key("experiment", doc="The experiment whose versions select.")
    candidates: str = key("candidates", doc="The table of candidates; its key is the candidate's id.")
    where: str | None = key("where", default=None, doc="Which candidates a request may get: `offer.active`.")
    most: int = key("most", default=1000, ge=1, le=10_000, doc="At most so many candidates of a request, at random.")
    with_candidates: bool = key(
        "log.candidates", default=True, doc="Write the columns of all candidates, so that a replay can select again."
    )
    with_propensities: bool = key(
        "log.propensities",
        default=False,
        doc="Write the probabilities that each version without traffic gives to all candidates, for doubly robust "
        "estimates. For 200 candidates: 4 ms of CPU time and 6 kB for each version.",
    )


class LearnKeys(ConfigModel):
    """Keys of a step that learns."""

    experiment: str = key("experiment", doc="The experiment whose versions learn.")
