"""A replay as text, JSON and documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace import CommandContext
from headrace_streams.experiments.version_replay import ReplayResult, VersionReplay


class ReplayView:
    """Shows what versions do with logged selections."""

    def __init__(self, result: ReplayResult, source: str) -> None:
        self._result = result
        self._source = source

    def write_text(self, command: CommandContext) -> None:
        result = self._result
        count = len(result.rows)
        command.print(f"{count:,} selections of {self._source}, made again with the models of their time")
        command.print_table(
            ("version", "made by it", "equal byte by byte", "selects the same", "predicted", "IPS", "95 % interval"),
            [_row(item, count) for item in result.versions],
        )
        for item in result.versions:
            if item.first_different:
                command.print(
                    f"{item.version}: {item.own - item.equal:,} selections differ from the log, first that of request "
                    f"{item.first_different}: the file has another configuration, or the code has changed"
                )
        if len(result.versions) > 1:
            names = " and ".join(item.version for item in result.versions)
            command.print(f"{names} select the same candidate in {result.agreements / count:.1%} of the selections")
        for item in result.versions:
            if item.evaluation is not None:
                command.print(f"{item.version}: {_verdict(item)}")
        if not result.outcome_known:
            command.print("no outcomes: the application does not write its labels, or they are not closed yet")

    def data(self) -> dict[str, Any]:
        result = self._result
        return {
            "source": self._source,
            "selections": len(result.rows),
            "outcomes": result.outcome_known,
            "agreements": result.agreements,
            "reproduced": result.reproduced,
            "versions": [_numbers(item, len(result.rows)) for item in result.versions],
        }

    def documents(self) -> Sequence[Mapping[str, Any]]:
        return [{"document": "replay", "source": self._source, **item} for item in self.data()["versions"]]


def _row(item: VersionReplay, count: int) -> tuple[str, ...]:
    value = interval = ""
    if item.evaluation is not None:
        estimate = item.evaluation.evaluation.ips
        value, interval = f"{estimate.value:.3%}", f"{estimate.low:.3%} to {estimate.high:.3%}"
    own = f"{item.equal:,} of {item.own:,}" if item.own else ""
    return (
        item.version,
        f"{item.own:,}",
        own,
        f"{item.same / count:.1%}",
        f"{item.predicted / count:.3%}",
        value,
        interval,
    )


def _verdict(item: VersionReplay) -> str:
    assert item.evaluation is not None
    found = item.evaluation.evaluation
    if not found.reliable:
        return f"no verdict: {found.reason}"
    difference = found.difference
    return (
        f"{found.verdict} than what was selected (difference {100 * difference.value:+.3f} percentage points, "
        f"{100 * difference.low:+.3f} to {100 * difference.high:+.3f})"
    )


def _numbers(item: VersionReplay, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": item.version,
        "selections": count,
        "own": item.own,
        "equal": item.equal,
        "first_different": item.first_different or None,
        "same": item.same,
        "predicted": item.predicted / count,
    }
    if item.evaluation is not None:
        evaluation = item.evaluation.evaluation
        for name in ("logged", "ips", "snips"):
            estimate = getattr(evaluation, name)
            found |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        found |= {"effective_sample_size": evaluation.effective_sample_size, "verdict": evaluation.verdict}
        found["reason"] = evaluation.reason or None
    return found
