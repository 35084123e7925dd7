"""``kill -9`` of ``headrace reindex`` from the backfill to the switch of the alias: the next run continues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.testing.faults import HttpProxy
from tests.system.index.rebuilding import assert_rebuilt, finish_after_kill

Search = Any
STEPS = [
    ("before backfill", r"/_bulk", 0, False),
    ("after backfill", r"/_bulk", 0, True),
    ("after positions are stored", r"-000002/_mapping", 0, True),
    ("after the previous generation is stored", r"-000001/_mapping", 1, True),
    ("before the switch", r"/_aliases", 1, False),
    ("after the switch", r"/_aliases", 1, True),
    ("before the end is stored", r"-000002/_mapping", 1, False),
]


@pytest.mark.parametrize(("path", "nth", "done"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_a_rebuild_killed_after_the_start_of_the_backfill_continues(
    filled: Callable[..., Search], trickle: Callable[..., Any], elasticsearch: Any, path: str, nth: int, done: bool
) -> None:
    index = filled()
    with trickle(index), HttpProxy(elasticsearch.url) as proxy:
        finish_after_kill(index, proxy, path, nth, done=done)
    assert_rebuilt(index)
