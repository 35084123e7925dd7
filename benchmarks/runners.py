"""One runner of a comparison, in a process of its own: ``python -m benchmarks.runners MODULE FUNCTION JSON``.

The function gets the arguments in the JSON and a :class:`Clock`, which it starts at the first record and stops at the
last. CPU time is that of the process between the two; memory is the peak of the whole process.
"""

from __future__ import annotations

import importlib
import json
import logging
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMEOUT = 900.0
"""Seconds until a runner is killed."""


class Clock:
    """The clock of a runner. Only the first start counts."""

    def __init__(self) -> None:
        self.began = self.cpu_began = self.seconds = self.cpu = 0.0

    def start(self) -> None:
        if not self.began:
            self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds, self.cpu = time.perf_counter() - self.began, time.process_time() - self.cpu_began


@dataclass(frozen=True)
class Measurement:
    """The records, time and memory of one run of a runner."""

    records: int
    seconds: float
    cpu: float
    peak_rss_mb: float

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu / self.records * 1e6


def run(module: str, function: str, checkout: Path | None = None, **arguments: Any) -> Measurement:
    """Run a runner to its end with the code of ``checkout`` (None: this). Raise RuntimeError with its errors."""
    python = str(checkout / ".venv/bin/python") if checkout else sys.executable
    command = [python, "-m", "benchmarks.runners", module, function, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, cwd=checkout)
    if done.returncode:
        raise RuntimeError(f"{module}.{function} failed:\n{done.stderr[-4000:]}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    module, function, arguments = sys.argv[1:]
    logging.disable(logging.WARNING)
    runner = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    clock = Clock()
    records = runner(clock=clock, **json.loads(arguments))
    peak = _peak_rss_mb()
    print(json.dumps({"records": records, "seconds": clock.seconds, "cpu": clock.cpu, "peak_rss_mb": peak}))


def _peak_rss_mb() -> float:
    """Return the peak of this program. ``getrusage`` would include the memory of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
