"""Start and stop several engines in parallel; a start that fails leaves none of them running."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol


class Startable(Protocol):
    """An engine. ``kill`` may be called from another thread while it starts."""

    @property
    def running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def start_in_parallel(engines: Sequence[Startable]) -> None:
    """Return when all answer. Raise the first error, after killing the engines that did not run before."""
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
                # At once, not when the others have started: killing an engine ends the wait for it.
                _kill(started)
                raise
    except BaseException:
        _kill(started)  # engines whose process was not there yet at the first time
        raise


def stop_in_parallel(engines: Sequence[Startable]) -> None:
    """Return when all have ended. Raise the first error."""
    if not engines:
        return
    with ThreadPoolExecutor(len(engines), "stop") as pool:
        stops = [pool.submit(engine.stop) for engine in engines]
    for stop in stops:
        stop.result()


def _kill(engines: Sequence[Startable]) -> None:
    for engine in engines:
        engine.kill()
