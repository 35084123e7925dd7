"""Parts of the tests of ``headrace reindex``: ``kill -9`` at a request, and the required state afterwards."""

from __future__ import annotations

import signal
import subprocess
import threading
from typing import Any

from headrace.testing.faults import HttpProxy
from headrace.testing.faults.answers import HangUpError
from headrace.testing.waiting import eventually

Search = Any
KEYWORD = {"mapping.fields.n": "keyword"}
"""A change of the configuration that only a new index can take over."""


class Kill:
    """Kills the command with ``kill -9`` when its request arrives, before or after Elasticsearch has executed it."""

    def __init__(self, *, done: bool) -> None:
        self.done = done
        self.process: subprocess.Popen[str] | None = None
        self.armed = threading.Event()

    def answer(self, request: Any, passage: Any) -> Any:
        assert self.armed.wait(60)
        assert self.process is not None
        if self.done:
            passage.forward(request)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        raise HangUpError


def settled(index: Search) -> None:
    eventually(index.settled, index.box.timeout)
    code, report = index.verify()
    assert (code, report["equal"]) == (0, True), report


def killed(index: Search, proxy: HttpProxy, path: str, nth: int, *, done: bool) -> None:
    """Start a rebuild through the proxy and kill it at that request."""
    kill = Kill(done=done)
    proxy.play(*[None] * nth, kill, path=path)
    kill.process = index.start_reindex(**KEYWORD, **{"connection.url": proxy.url})
    kill.armed.set()
    output, _ = kill.process.communicate(timeout=index.box.timeout)
    assert kill.process.returncode == -signal.SIGKILL, output
    assert proxy.left == 0


def finish_after_kill(index: Search, proxy: HttpProxy, path: str, nth: int, *, done: bool) -> None:
    """Kill a rebuild at that request and run it again: it must finish."""
    killed(index, proxy, path, nth, done=done)
    again = index.reindex(**KEYWORD)
    assert again.returncode == 0, again.stderr + again.stdout


def assert_rebuilt(index: Search) -> None:
    """Assert that the index has the new mapping and all records, and that the previous generation is kept."""
    settled(index)
    assert index.mapping() == {"n": {"type": "keyword"}}
    assert index.states() == {f"{index.name}-000001": "old", f"{index.name}-000002": "live"}
