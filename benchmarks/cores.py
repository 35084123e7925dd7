"""Bind the engines to one core and the runners to another (Linux).

On shared cores a runner takes CPU time from the engine that it waits for, so its ratio to a limit that computes nothing
depends on the machine as much as on the runner.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import psutil


def keep_apart(engines: Iterable[int]) -> None:
    """Bind the running engines to the first core, and this process and its future children to the second.

    Engines are process ids; their threads and children are bound, too. They must have been started before: a JVM that
    sees one core chooses another garbage collector and smaller pools. Raise SystemExit where binding is impossible.
    """
    if not sys.platform.startswith("linux"):
        raise SystemExit("--apart: only Linux binds processes to cores")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit(f"--apart: two cores are needed, there is {len(cores)}")
    for pid in engines:
        engine = psutil.Process(pid)
        for process in (engine, *engine.children(recursive=True)):
            for thread in process.threads():  # new threads and processes inherit this
                os.sched_setaffinity(thread.id, {cores[0]})
    os.sched_setaffinity(0, {cores[1]})
