"""What the worker tells of the age of its data, and the pack of dashboards over the demo's indices."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from demo.progress import get_json
from demo.worker import CONFIG

_TIME_RANGE = "3650d"  # the impressions are of 2019
_TIMEOUT = 120.0


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
