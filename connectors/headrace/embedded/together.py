"""Several engines started and stopped at once; a start that fails leaves none of them running."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol


class Startable(Protocol):
    """What can be started, stopped and killed, the latter also while it starts, from another thread."""

    @property
    def running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def start_together(engines: Sequence[Startable]) -> None:
    """Returns when all answer. Raises what the first that fails raises; those that did not run before are gone then."""
    started = [engine for engine in engines if not engine.running]
    if not started:
        return
    try:
        with ThreadPoolExecutor(len(started), "start") as pool:
            starts = [pool.submit(engine.start) for engine in started]
            try:
                for start in as_completed(starts):
                    start.result()
            except BaseException:
                # Now, not when the others are up: their wait ends with their process.
                _kill(started)
                raise
    except BaseException:
        _kill(started)  # one that was not yet a process a moment ago
        raise


def stop_together(engines: Sequence[Startable]) -> None:
    """Returns when all are gone; raises what the first that fails raises."""
    if not engines:
        return
    with ThreadPoolExecutor(len(engines), "stop") as pool:
        stops = [pool.submit(engine.stop) for engine in engines]
    for stop in stops:
        stop.result()


def _kill(engines: Sequence[Startable]) -> None:
    for engine in engines:
        engine.kill()
