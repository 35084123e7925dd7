"""Shows in the status which Python function of a step has not returned for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from headrace_streams.operators.call import Call, RunningCall

_INTERVAL = 0.5  # seconds


class FunctionWatchdog:
    """A thread that looks at the running calls of a task from outside.

    It cannot end a call: Python has no way to stop a thread. It says where the call is, so that the user can fix the
    function and restart the worker.
    """

    def __init__(
        self,
        calls: Mapping[str, Call],
        set_status_reason: Callable[[str | None], None],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        """``calls``: by step."""
        self._calls = calls
        self._set_status_reason = set_status_reason
        self._log = log
        self._stop = threading.Event()
        self._logged: RunningCall | None = None
        self._shown = False
        self._thread = threading.Thread(target=self._run, name="function-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self.look()

    def look(self) -> None:
        """Set the status reason to the call that exceeds its limit, or clear it."""
        for step, operator in self._calls.items():
            call = operator.watch.call
            if call is None or (seconds := time.monotonic() - call.since) * 1000 < operator.timeout:
                continue
            text = (
                f"step '{step}': function {operator.path} has not returned for {seconds:.0f} s "
                f"({call.progress()}, at {call.location(operator.file)})"
            )
            self._set_status_reason(f"{text}: if it does not return, fix it and restart the worker")
            self._shown = True
            if call is not self._logged:
                self._logged = call
                self._log.warning("function has not returned", code="stream.function_hangs", reason=text)
            return
        if self._shown:
            self._shown = False
            self._set_status_reason(None)
