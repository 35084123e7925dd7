"""Transitions of an experiment: what changes its traffic, each a record of ``experiment-log`` with its evidence.

The last record of an experiment has its traffic. So a command or a decision changes the traffic by writing a record,
and the log alone says who had which version at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace_streams.exploration.decision import HOLDOUT, VersionDecision
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.traffic import Allocation, Range, reallocate


class TransitionError(Exception):
    """The configuration does not fit the traffic of the experiment."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@dataclass(frozen=True)
class Traffic:
    """The traffic after a transition."""

    number: int
    """The number of transitions so far; 0: none is logged, the traffic is as declared."""
    since: int
    """Event time of the transition in milliseconds."""
    allocation: Allocation

    @property
    def shares(self) -> dict[str, float]:
        """The shares of all versions with traffic."""
        names = {self.allocation.default, *(part.version for part in self.allocation.ranges)}
        return {name: share for name in sorted(names) if (share := self.allocation.share(name)) > 0}


def traffic_of(experiment: Experiment, record: Mapping[str, Any] | None) -> Traffic:
    """Return the traffic after the last record of the log.

    Raises:
        TransitionError: the salt has changed, or a version that has traffic is not declared any more.
    """
    if record is None:
        return Traffic(0, 0, experiment.first_allocation())
    if record["salt"] != experiment.salt:
        raise TransitionError(
            "experiment.salt_changed",
            f"experiment {experiment.name}: the salt was {record['salt']!r} and is {experiment.salt!r} now: users "
            "would be assigned to versions again at random",
            "restore the salt, or start an experiment with another name",
        )
    ranges = [Range(start, stop, version) for start, stop, version in record["ranges"]]
    traffic = Traffic(record["number"], record["at"], Allocation(record["current"], ranges))
    for version, share in traffic.shares.items():
        if version not in experiment.versions:
            raise TransitionError(
                "experiment.version_removed",
                f"experiment {experiment.name}: version {version} is not declared any more and has {share:.2%} of the "
                "traffic",
                "declare it again with traffic: 0, and remove it after that has been applied; "
                "if it was the current version, promote another one first",
            )
    return traffic


def record_of(
    experiment: Experiment,
    traffic: Traffic,
    transition: str,
    *,
    by: str,
    reason: str,
    version: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of a transition that led to ``traffic``. Its key is the experiment's name."""
    return {
        "experiment": experiment.name,
        "number": traffic.number,
        "at": traffic.since,
        "transition": transition,
        "version": version,
        "by": by,
        "reason": reason,
        "evidence": dict(evidence or {}),
        "salt": experiment.salt,
        "current": traffic.allocation.default,
        "ranges": [[part.start, part.stop, part.version] for part in traffic.allocation.ranges],
        "shares": traffic.shares,
        "declared": {"current": experiment.current, **experiment.shares},
    }


def redeclared(experiment: Experiment, record: Mapping[str, Any], at: int) -> Traffic | None:
    """Return the traffic that the changed configuration asks for; None if it asks for what it did at ``record``."""
    if record["declared"] == {"current": experiment.current, **experiment.shares}:
        return None
    before = traffic_of(experiment, record)
    allocation = reallocate(before.allocation, experiment.shares, experiment.current)
    return Traffic(before.number + 1, at, allocation)


def decided(traffic: Traffic, decision: VersionDecision, at: int) -> Traffic:
    """Return the traffic after a decision other than ``wait``."""
    current = traffic.allocation.default
    shares = {name: share for name, share in traffic.shares.items() if name != current}
    match decision.action:
        case "promote":
            shares = {name: share for name, share in shares.items() if name == HOLDOUT}
            current = decision.version
        case "raise":
            rest = 1.0 - sum(share for name, share in shares.items() if name != decision.version)
            shares[decision.version] = min(decision.share or 0.0, rest)
        case "rollback":
            shares[decision.version] = 0.0
        case "stop":
            shares = {name: share for name, share in shares.items() if name == HOLDOUT}
    return Traffic(traffic.number + 1, at, reallocate(traffic.allocation, shares, current))
