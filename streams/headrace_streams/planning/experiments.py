"""Reads the experiments of an application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from headrace import Finding, nearest
from headrace_streams.configuration import NamedKeys, read_section
from headrace_streams.experiment_configuration import ExperimentKeys, VersionKeys
from headrace_streams.exploration.beta import BetaModel
from headrace_streams.exploration.decision import HOLDOUT, DecisionRules
from headrace_streams.exploration.experiment import Experiment, Version
from headrace_streams.exploration.features import Term, parse_terms
from headrace_streams.exploration.logistic import LogisticModel
from headrace_streams.exploration.model import Model
from headrace_streams.planning.builder import PlanBuilder, PlanError
from headrace_streams.planning.step_operations import import_function


def read_experiments(builder: PlanBuilder, flat: Mapping[str, str]) -> None:
    """Give the builder the experiments; what is wrong with the others is reported."""
    entries, findings = read_section("experiments", flat, ExperimentKeys)
    builder.findings += findings
    for entry in entries:
        try:
            builder.experiments[entry.name] = _experiment(builder, entry)
        except PlanError as error:
            builder.findings += error.findings
    if {name.partition(".")[0] for name in flat} - builder.experiments.keys():
        builder.failed.add("experiments")  # steps that refer to those are not reported, too


def _experiment(builder: PlanBuilder, entry: NamedKeys[ExperimentKeys]) -> Experiment:
    keys = entry.keys
    versions: dict[str, Version] = {}
    entries, findings = read_section(f"{entry.prefix}.versions", keys.versions, VersionKeys)
    if findings:
        raise PlanError(*findings)
    for item in entries:
        if item.name == HOLDOUT:
            text = f"'{HOLDOUT}' is the name of the holdout, and not of a version"
            raise PlanError(Finding("config.duplicate_name", text, f"{item.prefix}.model", "rename the version"))
        versions[item.name] = _version(keys, item)
    if keys.current not in versions:
        hint = nearest(keys.current, versions) or f"there are: {', '.join(versions)}"
        text = f"the current version '{keys.current}' is not declared"
        raise PlanError(Finding("experiment.unknown_version", text, f"{entry.prefix}.current", hint))
    if versions[keys.current].share:
        text = f"the current version '{keys.current}' has the rest of the traffic, and no share of its own"
        key = f"{entry.prefix}.versions.{keys.current}.traffic"
        raise PlanError(Finding("config.conflict", text, key, "remove it"))
    total = keys.holdout + sum(version.share for version in versions.values())
    largest = max(versions, key=lambda name: versions[name].share)
    key = f"{entry.prefix}.versions.{largest}.traffic"
    if total > 1 + 1e-9:
        text = f"the versions and the holdout have {total:.2%} of the traffic together"
        raise PlanError(Finding("experiment.traffic", text, key, "reduce it to 100 % or less"))
    if total > 1 - 1e-4:
        text = f"nothing of the traffic is left for the current version '{keys.current}'"
        raise PlanError(Finding("experiment.traffic", text, key, "leave some for it"))
    low, high = map(float, keys.calibration)
    rules = DecisionRules(
        keys.alpha,
        keys.expected_lift,
        keys.least_conversions,
        keys.longest / 1000 if keys.longest is not None else float("inf"),
        keys.sample_ratio,
        (low, high),
        float(keys.latency) if keys.latency is not None else float("inf"),
        keys.metric,
        keys.metric_margin,
        keys.metric_direction == "better",
        keys.shares_of(keys.ramp),
    )
    ages = [round(keys.objective * part) for part in keys.shares_of(keys.stages)]
    stages = (*(age for age in dict.fromkeys(ages) if 0 < age < keys.objective), keys.objective)
    return Experiment(
        entry.name,
        keys.salt,
        keys.unit,
        keys.request,
        keys.candidate,
        keys.current,
        versions,
        keys.objective,
        stages,
        keys.holdout,
        rules,
        keys.promotion == "automatic",
        keys.base_rate,
        keys.every,
        keys.rescore,
        keys.log_topic,
        f"{builder.application}-{entry.name}-models",
    )


def _version(experiment: ExperimentKeys, entry: NamedKeys[VersionKeys]) -> Version:
    keys = entry.keys
    candidate = experiment.candidate
    columns: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    make: Callable[[], Model]
    if keys.model == "beta":
        if keys.features:
            text = "a beta model has no features"
            raise PlanError(Finding("config.conflict", text, f"{entry.prefix}.features", "use 'group', or logistic"))
        columns = (keys.group,) if keys.group else ()

        def make() -> Model:
            return BetaModel(candidate, group=keys.group, base_rate=experiment.base_rate, strength=keys.strength)

    elif keys.model == "logistic":
        terms = (*_terms(entry, candidate), Term(candidate, (candidate,), deviation=keys.deviation))
        columns = tuple(column for term in terms for column in term.columns if column != candidate)
        numbers = tuple(term.columns[0] for term in terms if term.scale is not None)

        def make() -> Model:
            return LogisticModel(terms, base_rate=experiment.base_rate, max_levels=keys.max_levels)

    else:
        key = f"{entry.prefix}.call"
        if keys.function is None:
            text, hint = "a model that is called has no class", "set call: module:Class"
            raise PlanError(Finding("config.missing_key", text, f"{entry.prefix}.model", hint))
        make = import_function(key, keys.function)  # type: ignore[assignment]
        columns = tuple(column for name in keys.features for column in name.split(":")[0].split("*"))
    return Version(entry.name, make, columns, numbers, keys.traffic, keys.floor, keys.deviation_factor)


def _terms(entry: NamedKeys[VersionKeys], candidate: str) -> list[Term]:
    """Return the terms of the features. Those of the request only are equal for all of its candidates."""
    found: dict[str, Term] = {}
    for text in entry.keys.features:
        problem = ""
        try:
            term = _term(text, candidate)
        except ValueError as error:
            problem = str(error)
        else:
            if term.name == candidate or term.name in found:
                problem = "it is there twice; the candidate itself is always a feature"
            found[term.name] = term
        if problem:
            key = f"{entry.prefix}.features"
            hint = "write a column, a product a*b, or <column>:<centre>:<scale>"
            raise PlanError(Finding("experiment.feature", f"feature '{text}': {problem}", key, hint))
    return list(found.values())


def _term(text: str, candidate: str) -> Term:
    name, *numbers = text.split(":")
    ((term),) = parse_terms([name])
    shared = not any(column == candidate or column.startswith(f"{candidate}.") for column in term.columns)
    if len(numbers) not in (0, 2) or not all(term.columns):
        raise ValueError("it is neither a column, a product, nor a number")
    if numbers:
        return replace(term, centre=float(numbers[0]), scale=float(numbers[1]), shared=shared)
    return replace(term, shared=shared)
