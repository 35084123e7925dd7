"""Looks at the counts of an experiment: which version converts better, and what that does to the traffic.

State: the counts of each version since its traffic was allocated, which are sums over units; and the last transition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headrace import WorkerEvent
from headrace_streams.exploration.decision import VersionCounts, decide
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.learned_models import LearnedModels
from headrace_streams.exploration.sequential import Sample
from headrace_streams.exploration.transitions import Traffic, decided, record_of, redeclared
from headrace_streams.operators.followed_experiment import traffic_at, transition_event
from headrace_streams.operators.open_selections import (
    ASSIGNED,
    CALIBRATED,
    FACTS,
    SELECTED_AT,
    TRAFFIC,
    UNIT,
    UNITS,
    LearningState,
)

_UNITS, _LABELLED_UNITS, _CONVERSIONS, _IMPRESSIONS, _SQUARES, _IMPRESSION_SQUARES, _PRODUCT, _PREDICTED = range(8)
_METRIC, _METRIC_SQUARES, _METRIC_PRODUCT, _METRIC_EVENTS, _TIMED, _SLOW = range(8, 14)
"""Places in the counts of a version. States of older releases end before the metric."""
_EMPTY = [0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0]


class ExperimentLooks:
    """Counts selections and labels of one batch, and decides in intervals of event time."""

    def __init__(
        self,
        experiment: Experiment,
        state: LearningState,
        models: LearnedModels,
        logged: Mapping[str, Any] | None,
        write: Callable[[str, Any, dict[str, Any], int], None],
    ) -> None:
        """``logged``: the last record of the experiment in the log. ``write`` gets a stream, key, value and time."""
        self._experiment = experiment
        self._state = state
        self._models = models
        self._logged = logged
        self._write = write
        self.events: list[WorkerEvent] = []
        """The transitions that this batch has made, and those of commands that it is the first to follow."""

    def count_selection(self, entry: list[Any], latency: float | None) -> None:
        """Count the latency of a selection, and its unit at the first one. A new traffic starts all counts again."""
        number = self._fact("counted")
        if number is None or entry[TRAFFIC] > number:
            self._state.put(FACTS, "counted", entry[TRAFFIC])
            self._state.put(FACTS, "counted_since", entry[SELECTED_AT])
            self._state.put(FACTS, "counts", {})
            self._state.put(FACTS, "p_values", {})
            self._state.put(FACTS, "reported", {})
            for key, _ in list(self._state.items(UNITS)):
                self._state.put(UNITS, key, None)
        elif entry[TRAFFIC] < number:
            return
        version = entry[ASSIGNED]  # what a failed version was replaced by does not change who is compared
        key = (version, entry[UNIT])
        is_new = self._state.get(UNITS, key) is None
        if is_new:
            self._state.put(UNITS, key, [0, 0, 0.0])
        if is_new or latency is not None:
            counts = self._of_version(version)
            counts[_UNITS] += is_new
            counts[_TIMED] += latency is not None
            counts[_SLOW] += latency is not None and latency > self._experiment.rules.latency
            self._put_counts(version, counts)

    def count_label(self, entry: list[Any], is_converted: bool, metric: float) -> None:
        if entry[TRAFFIC] != self._fact("counted"):
            return
        version = entry[ASSIGNED]
        key = (version, entry[UNIT])
        shown, conversions, *rest = self._state.get(UNITS, key)
        before = rest[0] if rest else 0.0
        counts = self._of_version(version)
        counts[_LABELLED_UNITS] += shown == 0
        new_shown, new_conversions = shown + 1, conversions + is_converted
        counts[_CONVERSIONS] += is_converted
        counts[_IMPRESSIONS] += 1
        counts[_SQUARES] += new_conversions**2 - conversions**2
        counts[_IMPRESSION_SQUARES] += new_shown**2 - shown**2
        counts[_PRODUCT] += new_shown * new_conversions - shown * conversions
        counts[_PREDICTED] += entry[CALIBRATED] or 0.0
        after = before + metric
        counts[_METRIC] += metric
        counts[_METRIC_SQUARES] += after**2 - before**2
        counts[_METRIC_PRODUCT] += new_shown * after - shown * before
        counts[_METRIC_EVENTS] += metric != 0
        self._state.put(UNITS, key, [new_shown, new_conversions, after])
        self._put_counts(version, counts)

    def _of_version(self, version: str) -> list[Any]:
        return _complete((self._fact("counts") or {}).get(version, []))

    def _put_counts(self, version: str, counts: list[Any]) -> None:
        self._state.put(FACTS, "counts", {**(self._fact("counts") or {}), version: counts})

    def look(self, moment: int) -> None:
        """Decide at most each ``every``, write the evidence, and change or propose to change the traffic."""
        experiment = self._experiment
        last = self._fact("looked")
        if last is not None and moment - last < experiment.every:
            return
        self._state.put(FACTS, "looked", moment)
        traffic = self._current_traffic(moment)
        counts = self._version_counts()
        counted = self._fact("counted")
        if counted is None or counted != traffic.number or not set(counts) <= set(traffic.shares):
            return  # no selection was made with this traffic yet
        age = (moment - self._fact("counted_since")) / 1000
        decision = decide(
            experiment.rules,
            traffic.allocation.default,
            traffic.shares,
            counts,
            age=age,
            p_values=self._fact("p_values"),
        )
        p_values = {name: item.comparison.p_value for name, item in decision.versions.items() if item.comparison}
        self._state.put(FACTS, "p_values", p_values)
        value = {
            "experiment": experiment.name,
            "at": moment,
            "traffic": traffic.number,
            "shares": traffic.shares,
            "open": self._state.count_open(),
            "counts": {name: _as_record(item) for name, item in counts.items()},
            "decision": decision.evidence(),
        }
        self._write("counts", experiment.name, value, moment)
        reported = dict(self._fact("reported") or {})
        for name, item in decision.versions.items():
            if item.action == "wait" or reported.get(name) == item.action:
                continue
            reported[name] = item.action
            evidence = {"counts": value["counts"], **item.evidence()}
            if not experiment.automatic:
                self._transition(traffic, f"proposed {item.action}", item.reason, name, evidence)
                continue
            self._transition(decided(traffic, item, moment), item.action, item.reason, name, evidence)
            break  # the others are decided with the new traffic
        self._state.put(FACTS, "reported", reported)

    def _version_counts(self) -> dict[str, VersionCounts]:
        made = {}
        for name, stored in (self._fact("counts") or {}).items():
            item = _complete(stored)
            sample = Sample(
                item[_LABELLED_UNITS],
                item[_CONVERSIONS],
                item[_IMPRESSIONS],
                item[_SQUARES],
                item[_IMPRESSION_SQUARES],
                item[_PRODUCT],
            )
            metric = Sample(
                item[_LABELLED_UNITS],
                item[_METRIC],
                item[_IMPRESSIONS],
                item[_METRIC_SQUARES],
                item[_IMPRESSION_SQUARES],
                item[_METRIC_PRODUCT],
            )
            made[name] = VersionCounts(
                sample,
                item[_UNITS],
                item[_PREDICTED],
                self._models.degraded.get(name, ""),
                metric,
                item[_METRIC_EVENTS],
                item[_TIMED],
                item[_SLOW],
            )
        return made

    def start(self, moment: int) -> None:
        """Log the first traffic of the experiment, unless it is logged already."""
        if self._fact("traffic") is not None:
            return
        if self._logged is not None:
            self._state.put(FACTS, "traffic", self._logged)
            return
        traffic = Traffic(1, moment, self._experiment.first_allocation)
        self._transition(traffic, "started", "the experiment is declared", by="configuration")

    def _current_traffic(self, moment: int) -> Traffic:
        """Return the traffic after the last transition, of this task or of the log, and follow the configuration."""
        record = self._fact("traffic")
        if self._logged is not None and self._logged["number"] >= record["number"]:
            if self._logged["number"] > record["number"]:
                self.events.append(transition_event(self._logged))
            record = self._logged
            self._state.put(FACTS, "traffic", record)
        if (changed := redeclared(self._experiment, record, moment)) is not None:
            self._transition(changed, "reconfigured", "the configuration has changed", by="configuration")
            return changed
        return traffic_at(self._experiment, record)

    def _transition(
        self,
        traffic: Traffic,
        transition: str,
        reason: str,
        version: str | None = None,
        evidence: Mapping[str, Any] | None = None,
        by: str = "headrace",
    ) -> None:
        record = record_of(
            self._experiment, traffic, transition, by=by, reason=reason, version=version, evidence=evidence
        )
        self._state.put(FACTS, "traffic", record)
        self._write("transitions", self._experiment.name, record, traffic.since)
        self.events.append(transition_event(record))

    def _fact(self, name: str) -> Any:
        return self._state.get(FACTS, name)


def _complete(counts: list[Any]) -> list[Any]:
    return [*counts, *_EMPTY[len(counts) :]]


def _as_record(counts: VersionCounts) -> dict[str, Any]:
    sample = counts.sample
    return {
        "units": counts.units,
        "labelled_units": sample.units,
        "conversions": sample.conversions,
        "impressions": sample.impressions,
        "conversions_squared": sample.conversions_squared,
        "impressions_squared": sample.impressions_squared,
        "product": sample.product,
        "predicted": counts.predicted,
        "calibration": counts.calibration,
        "rate": sample.rate,
        "degraded": counts.degraded,
        "metric": counts.metric.rate,
        "metric_events": counts.metric_events,
        "timed": counts.timed,
        "slow": counts.slow,
    }
