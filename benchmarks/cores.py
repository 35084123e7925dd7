"""One core for the engines, another for whatever is measured against them (Linux).

On shared cores a side that computes takes time away from the engine it waits for, so a ratio to a limit that computes
nothing says as much about the machine as about the side.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import psutil


def keep_apart(engines: Iterable[int]) -> None:
    """Bind the running engines (process ids, with all their threads and children) to the first core, this process and
    what it starts from now on to the second. Raises SystemExit where that cannot be done.

    The engines were started before: a JVM that sees one core chooses another garbage collector and smaller pools, and
    would be another server than the one users have.
    """
    if not sys.platform.startswith("linux"):
        raise SystemExit("--apart: only Linux binds processes to cores")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit(f"--apart: two cores are needed, there is {len(cores)}")
    for pid in engines:
        engine = psutil.Process(pid)
        for process in (engine, *engine.children(recursive=True)):
            for thread in process.threads():  # new threads and processes are bound as those that start them
                os.sched_setaffinity(thread.id, {cores[0]})
    os.sched_setaffinity(0, {cores[1]})
