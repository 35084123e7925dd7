"""``kill -9`` of ``headrace reindex``: an unfinished rebuild can be aborted, and a rollback continues."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from headrace.testing.faults import HttpProxy
from headrace.testing.waiting import eventually
from tests.system.index.rebuilding import KEYWORD, Kill, killed, settled

Search = Any


@pytest.mark.parametrize(
    ("path", "nth", "done"),
    [(r"/_block/write", 0, True), (r"/_clone/", 0, True), (r"/_bulk", 0, True), (r"-000001/_mapping", 1, True)],
)
def test_a_rebuild_killed_before_the_switch_can_be_aborted(
    filled: Callable[..., Search], trickle: Callable[..., Any], elasticsearch: Any, path: str, nth: int, done: bool
) -> None:
    index = filled()
    with trickle(index) as written, HttpProxy(elasticsearch.url) as proxy:
        killed(index, proxy, path, nth, done=done)
        undone = index.reindex("--abort")
        assert undone.returncode == 0, undone.stderr
        before = written.count
        eventually(lambda: written.count > before + 5, index.box.timeout)
    settled(index)
    assert index.mapping() == {"n": {"type": "long"}}
    assert set(index.states().values()) == {"live"}
    assert len(index.states()) == 1


def test_a_killed_rollback_continues(
    filled: Callable[..., Search], trickle: Callable[..., Any], elasticsearch: Any
) -> None:
    index = filled(**{"index.generations": "true"})
    assert index.reindex(**KEYWORD).returncode == 0
    with trickle(index), HttpProxy(elasticsearch.url) as proxy:
        kill = Kill(done=True)
        proxy.play(kill, path="/_aliases")
        files = [index.worker.worker_file(), index.changed_file(**{"connection.url": proxy.url})]
        kill.process = subprocess.Popen(
            [str(index.box.headrace), "reindex", index.name, *map(str, files), "--rollback"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=index.box.command_environment(),
        )
        kill.armed.set()
        output, _ = kill.process.communicate(timeout=index.box.timeout)
        assert kill.process.returncode == -signal.SIGKILL, output

        refused = index.reindex()  # a rebuild while a rollback is not finished
        assert refused.returncode == 2
        assert "reindex.unfinished" in refused.stderr
        assert index.reindex("--abort").returncode == 2
        done = index.reindex("--rollback")
        assert done.returncode == 0, done.stderr
    settled(index)
    assert index.states() == {f"{index.name}-000001": "live", f"{index.name}-000002": "old"}
