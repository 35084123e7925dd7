"""The report of a run as a table and as JSON, and the comparison of two runs."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Line:
    """One line of the table. Rates are records per second; ``spread`` is the lowest and highest ratio of a round.

    ``limit`` and ``ratio`` are None where there is no limit; ``notes`` are further figures ("p50 31 ms").
    """

    path: str
    rate: float | None = None
    limit: float | None = None
    ratio: float | None = None
    cpu_s_per_million: float | None = None
    peak_rss_mb: float | None = None
    spread: tuple[float, float] | None = None
    notes: Mapping[str, float] = field(default_factory=dict)


def machine(*, apart: bool) -> list[str]:
    """Return processor, memory, system, Python version, load before the run, and the use of cores."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    memory = psutil.virtual_memory().total / 2**30
    one, five, _ = os.getloadavg()
    cores = "the engines have one core, each runner has another" if apart else "engines and runners share the cores"
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GB",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"load before the run {one:.1f} (1 min), {five:.1f} (5 min); {cores}",
        f"command: python -m benchmarks {' '.join(sys.argv[1:])}".rstrip(),
    ]


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def show(description: Sequence[str], lines: Sequence[Line]) -> str:
    """Return the table as text."""
    head = ("path", "headrace/s", "limit/s", "ratio", "rounds", "CPU s/million", "peak MB", "")
    body = [
        (
            line.path,
            _number(line.rate, "{:,.0f}"),
            _number(line.limit, "{:,.0f}"),
            _number(line.ratio, "{:.2f}"),
            f"{line.spread[0]:.2f}–{line.spread[1]:.2f}" if line.spread else "",
            _number(line.cpu_s_per_million, "{:.1f}"),
            _number(line.peak_rss_mb, "{:.0f}"),
            ", ".join(f"{name} {value:g}" for name, value in line.notes.items()),
        )
        for line in lines
    ]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    rows = []
    for row in (head, *body):
        cells = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        rows.append("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]).rstrip())
    return "\n".join(["", *description, "", *rows, ""])


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def write(path: Path, description: Sequence[str], lines: Sequence[Line]) -> None:
    """Write the report as JSON: ``{"machine": …, "paths": […]}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": list(description), "paths": [asdict(line) for line in lines]}, indent=2))


def read(path: Path) -> dict[str, Any]:
    """Return a report that :func:`write` wrote."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def compare(earlier: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Return the ratios of both runs. Their rates are comparable only on the same machine under the same load."""
    # Reports of earlier versions call the baseline "bare loop".
    before = {item["path"].replace("bare loop", "baseline"): item for item in earlier["paths"]}
    rows = [f"{'compared with ' + earlier['machine'][0]:60} {'ratio then':>10} {'now':>6} {'CPU then':>9} {'now':>6}"]
    for line in lines:
        then = before.get(line.path)
        if then is not None:
            rows.append(
                f"{line.path:60} {_number(then['ratio'], '{:.2f}'):>10} {_number(line.ratio, '{:.2f}'):>6} "
                f"{_number(then['cpu_s_per_million'], '{:.1f}'):>9} {_number(line.cpu_s_per_million, '{:.1f}'):>6}"
            )
    return "\n".join([*rows, ""])
