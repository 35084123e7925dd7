"""``kill -9`` of ``headrace reindex`` before records are written to the new generation: the next run continues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.testing.faults import HttpProxy
from tests.system.index.rebuilding import assert_rebuilt, finish_after_kill

Search = Any
STEPS = [
    ("before the write block", r"/_block/write", 0, False),
    ("after the write block", r"/_block/write", 0, True),
    ("before the copy", r"/_clone/", 0, False),
    ("after the copy", r"/_clone/", 0, True),
    ("before the alias is set to the copy", r"/_aliases", 0, False),
    ("after the alias is set to the copy", r"/_aliases", 0, True),
    ("after the new generation is created", r"-000002$", 0, True),
]


@pytest.mark.parametrize(("path", "nth", "done"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_a_rebuild_killed_before_the_backfill_continues(
    filled: Callable[..., Search], trickle: Callable[..., Any], elasticsearch: Any, path: str, nth: int, done: bool
) -> None:
    index = filled()
    with trickle(index), HttpProxy(elasticsearch.url) as proxy:
        finish_after_kill(index, proxy, path, nth, done=done)
    assert_rebuilt(index)
