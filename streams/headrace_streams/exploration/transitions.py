"""Transitions of an experiment: what changes its traffic, each a record of ``experiment-log`` with its evidence.

The last record of an experiment has its traffic. So a command or a decision changes the traffic by writing a record,
and the log alone says who had which version at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def logged_traffic(record: Mapping[str, Any]) -> Traffic:
    """Return the traffic of a record, whether or not its versions are still declared."""
    ranges = [Range(start, stop, version) for start, stop, version in record["ranges"]]
    return Traffic(record["number"], record["at"], Allocation(record["current"], ranges))


def traffic_of(experiment: Experiment, record: Mapping[str, Any] | None) -> Traffic:
    """Return the traffic after the last record of the log.

    Raises:
        TransitionError: the salt has changed, or a version that has traffic is not declared any more.
    """
    if record is None:
        return Traffic(0, 0, experiment.first_allocation)
    if record["salt"] != experiment.salt:
        raise TransitionError(
            "experiment.salt_changed",
            f"experiment {experiment.name}: the salt was {record['salt']!r} and is {experiment.salt!r} now: users "
            "would be assigned to versions again at random",
            "restore the salt, or start an experiment with another name",
        )
    traffic = logged_traffic(record)
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


def promoted(history: Sequence[Mapping[str, Any]], version: str, at: int) -> Traffic:
    """Return the traffic after a command that makes ``version`` the current one. ``history``: the log, in order.

    Raises:
        TransitionError: the version is not declared, or is the current one.
    """
    before = _commandable(history, version)
    if version == before.allocation.default:
        raise TransitionError("experiment.transition", f"version {version} is the current one already", "")
    return decided(before, VersionDecision(version, "promote", ""), at)


def raised(history: Sequence[Mapping[str, Any]], version: str, share: float, at: int) -> Traffic:
    """Return the traffic after a command that gives ``version`` a share of the traffic.

    Raises:
        TransitionError: the version is not declared, is the current one, or nothing would be left for that.
    """
    before = _commandable(history, version)
    current = before.allocation.default
    if version == current:
        text = f"version {version} is the current one: it has the traffic that no other version has"
        raise TransitionError("experiment.transition", text, "give the other versions more or less")
    others = sum(part for name, part in before.shares.items() if name not in (version, current))
    if not 0 < share < 1 - others:
        text = f"version {version} cannot have {share:.2%} of the traffic: other versions have {others:.2%}, and the "
        text += f"current version {current} needs some"
        raise TransitionError("experiment.transition", text, f"give it less than {1 - others:.2%}, or promote it")
    return decided(before, VersionDecision(version, "raise", "", share=share), at)


def rolled_back(history: Sequence[Mapping[str, Any]], version: str | None, at: int) -> Traffic:
    """Return the traffic after a command that takes back a version's traffic; None: the last change of the traffic.

    If the version is the current one, the version that was the current one before it is that again.

    Raises:
        TransitionError: there is nothing to take back, or the version to return to is not declared any more.
    """
    if version is None:
        last = logged_traffic(history[-1])
        for record in reversed(history):
            earlier = logged_traffic(record)
            if (earlier.allocation.default, earlier.allocation.ranges) != (
                last.allocation.default,
                last.allocation.ranges,
            ):
                for name in earlier.shares:
                    if name != HOLDOUT:
                        _commandable(history, name)
                return Traffic(last.number + 1, at, earlier.allocation)
        raise TransitionError("experiment.transition", "the traffic has not changed since the start", "name a version")
    before = _commandable(history, version)
    if version != before.allocation.default:
        if not before.shares.get(version):
            raise TransitionError("experiment.transition", f"version {version} has no traffic", "")
        return decided(before, VersionDecision(version, "rollback", ""), at)
    previous = next((record["current"] for record in reversed(history) if record["current"] != version), None)
    if previous is None:
        text = f"version {version} has been the current one from the start"
        raise TransitionError("experiment.transition", text, "promote another version")
    _commandable(history, previous)
    shares = {name: share for name, share in before.shares.items() if name not in (version, previous)}
    return Traffic(before.number + 1, at, reallocate(before.allocation, {**shares, version: 0.0}, previous))


def commanded(
    last: Mapping[str, Any],
    traffic: Traffic,
    transition: str,
    *,
    reason: str,
    version: str | None,
    evidence: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the record of a command. What the running application declares stays as it is in the ``last`` record, so
    that a file that was changed meanwhile is a transition of its own."""
    return {
        **last,
        "number": traffic.number,
        "at": traffic.since,
        "transition": transition,
        "version": version,
        "by": "command",
        "reason": reason,
        "evidence": dict(evidence),
        "current": traffic.allocation.default,
        "ranges": [[part.start, part.stop, part.version] for part in traffic.allocation.ranges],
        "shares": traffic.shares,
    }


def _commandable(history: Sequence[Mapping[str, Any]], version: str) -> Traffic:
    """Return the present traffic. Raise TransitionError for a version that the application does not declare."""
    declared = history[-1]["declared"]
    known = [declared["current"], *(name for name in declared if name not in ("current", declared["current"]))]
    if version not in known:
        text = f"version {version} is not declared by the running application, which has {', '.join(known)}"
        hint = "add it to the application's file, apply it, and wait until the log has the transition"
        raise TransitionError("experiment.unknown_version", text, hint)
    if version == HOLDOUT:
        text = "the holdout is no version: its share is a key of the experiment"
        raise TransitionError("experiment.transition", text, "change 'holdout' in the application's file")
    return logged_traffic(history[-1])
