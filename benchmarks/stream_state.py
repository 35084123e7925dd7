"""Memory and restore of the state of stream applications, for each kind of entry. Needs no engine.

    python -m benchmarks.stream_state [--entries N]

The state is made by the steps themselves, written as changelog records, and restored from them in a process of its
own, as a task does after a restart. Prints JSON: bytes of memory and of changelog, and CPU time, for each entry.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import pickle
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import structlog

from benchmarks.streams import START, view_of
from headrace.pipeline.stream.state import StreamState
from headrace.plugin import StreamContext
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition
from headrace.states import TaskId
from headrace_streams.task import StreamApplicationTask

ENTRIES = 500_000
_CHUNK = 10_000


class _Kind(NamedTuple):
    """An application with one store, and the records that make one entry each."""

    config: Mapping[str, str]
    record: Callable[[int], dict[str, Any]]
    key: str


def _view(number: int) -> dict[str, Any]:
    return {"view_id": f"v{number}", **view_of(f"o{number}", START)}


_VIEWS = {"inputs.views.topic": "views", "inputs.views.time": "shown_at", "outputs.out.from": "last"}
_WINDOW = {"by": "offer_id", "tumbling": "1d", "grace": "1d", "aggregate.views": "count(*)"}
_JOIN = {"type": "left", "left": "views", "right": "clicks", "by": "view_id", "within": "1h", "grace": "1m"}
KINDS = {
    "window group, count": _Kind(
        {**_VIEWS, "inputs.views.key": "offer_id", **{f"steps.last.window.{k}": v for k, v in _WINDOW.items()}},
        _view,
        "offer_id",
    ),
    "open record of a join, 150 bytes": _Kind(
        {
            **_VIEWS,
            "inputs.views.key": "view_id",
            "inputs.clicks.topic": "clicks",
            "inputs.clicks.key": "view_id",
            **{f"steps.last.join.{k}": v for k, v in _JOIN.items()},
        },
        _view,
        "view_id",
    ),
    "key of deduplicate": _Kind(
        {
            **_VIEWS,
            "inputs.views.key": "view_id",
            "steps.last.deduplicate.by": "view_id",
            "steps.last.deduplicate.within": "1d",
            "steps.last.deduplicate.grace": "0",
        },
        _view,
        "view_id",
    ),
}


class _Changelog(NamedTuple):
    topic: str
    followed: tuple[str, ...]


def write_changelog(kind: _Kind, entries: int, path: Path) -> tuple[_Changelog, int]:
    """Process records, and write the changelog records of the state in chunks. Return their size in bytes."""
    task = StreamApplicationTask()
    log = structlog.stdlib.get_logger("headrace.task")
    context = StreamContext(TaskId("app", 0), kind.config, threading.Event(), log, lambda key: key, lambda reason: None)
    topology = task.start(context)
    ((store, followed),) = topology.stores.items()
    size = 0
    with path.open("wb") as file:
        for first in range(0, entries, _CHUNK):
            rows = [kind.record(number) for number in range(first, min(first + _CHUNK, entries))]
            numbers = list(range(first, first + len(rows)))
            times = [START] * len(rows)
            place = TopicPartition("views", 0)
            batch = SinkBatch(place, "views", numbers, [row[kind.key] for row in rows], rows, times, [()] * len(rows))
            state = StreamState({store: "changelog"}, topology.stores)
            state.apply(0, task.process(batch, state.of(place)).changes)
            for records, _ in state.changelog_batches():
                assert records.keys is not None
                size += sum(len(text or b"") for text in (*records.keys, *records.values))
                pickle.dump((records.keys, records.values), file)
    task.stop()
    return _Changelog(store, followed), size


def restore(path: Path, changelog: _Changelog) -> tuple[int, int, float]:
    """Restore a state. Return entries, bytes of memory, and CPU seconds."""
    state = StreamState({changelog.topic: "changelog"}, {changelog.topic: changelog.followed})
    process = psutil.Process()
    gc.collect()
    before, began = process.memory_info().rss, time.process_time()
    with path.open("rb") as file:
        while True:
            try:
                keys, values = pickle.load(file)
            except EOFError:
                break
            offsets = list(range(len(keys)))
            headers: list[Any] = [()] * len(keys)
            state.restore(ConsumedBatch(TopicPartition("changelog", 0), offsets, keys, values, offsets, headers))
    spent = time.process_time() - began
    gc.collect()
    return state.entries(), process.memory_info().rss - before, spent


def measured(entries: int) -> dict[str, dict[str, float]]:
    """Return the figures of each kind of entry."""
    found = {}
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "changelog"
            changelog, size = write_changelog(kind, entries, path)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                count, memory, spent = pool.apply(restore, (path, changelog))
        found[name] = {
            "bytes of memory": round(memory / count),
            "bytes of changelog": round(size / count),
            "us of CPU to restore": round(spent / count * 1e6, 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream_state", description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    print(json.dumps(measured(parser.parse_args().entries), indent=2))


if __name__ == "__main__":
    main()
