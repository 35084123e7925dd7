"""What the worker tells of the age of its data, and the pack of dashboards over the demo's indices."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from demo.progress import get_json
from demo.worker import CONFIG

_TIME_RANGE = "3650d"  # the impressions are of 2019
_TIMEOUT = 120.0


def hop_table(freshness: Iterable[Mapping[str, Any]], now: float) -> Table:
    """Return what :func:`hop_lines` says as a table, and of when the data is. ``now``: epoch seconds."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("Data of")
    for heading in ("As of", "Age p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Median time at each hop")
    for answer in freshness:
        for task in answer["tasks"]:
            if task["age"]["batches"]:
                hops = " → ".join(f"{hop} {_seconds(ages['p50'])}" for hop, ages in task["hops"].items())
                ago = max(0.0, now - task["data_as_of"] / 1000)
                table.add_row(answer["name"], f"{_ago(ago)} ago", _seconds(task["age"]["p99"]), hops)
    return table


def _ago(seconds: float) -> str:
    """Return a time in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.1f} s"


def hop_lines(freshness: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each connector: the median time at its hops, and the age of the data after them.

    ``freshness``: responses of ``GET /v1/connectors/{name}/freshness``.
    """
    lines = []
    for answer in freshness:
        for task in answer["tasks"]:
            hops = " → ".join(f"{hop} {_seconds(ages['p50'])}" for hop, ages in task["hops"].items())
            age = f"age p50 {_seconds(task['age']['p50'])}, p99 {_seconds(task['age']['p99'])}"
            if task["age"]["batches"]:
                lines.append(f"  {answer['name']:<14} {hops}  ({age})")
    return lines


def read_freshness(rest: str) -> list[dict[str, Any]]:
    """Ask the worker. Raises OSError or ValueError."""
    return [get_json(f"{rest}/v1/connectors/{name}/freshness") for name in get_json(f"{rest}/connectors")]


def write_pack(environment: Mapping[str, str], folder: Path) -> str:
    """Build the pack with ``headrace kibana``, run its queries, and draw them. Return what the command printed."""
    program = str(Path(sysconfig.get_path("scripts")) / "headrace")
    files = [str(CONFIG / "worker-standalone.yaml"), str(CONFIG / "connectors" / "elasticsearch.yaml")]
    build = [program, "kibana", "build", *files, "--live", "--time-range", _TIME_RANGE, "--output", str(folder)]
    check = [program, "kibana", "check", str(folder), *files, "--preview", str(folder / "pictures")]
    said = ""
    for command in (build, check):
        done = subprocess.run(
            command,
            env=os.environ | dict(environment),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        said += done.stdout + done.stderr
    return said


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
