"""Faults of configurations and of files and ports of workers."""

from __future__ import annotations

from typing import Any

from tests.engines.http import HTTP
from tests.faults.case import Case, Cases
from tests.faults.world import World


def mistake(case: Case, world: World) -> None:
    config = world.source_config("watched") | {"table.whitelst": "x"}
    answer = HTTP.put(f"{world.worker.url}/connectors/typo/config", json=config, timeout=90)
    assert answer.status_code == 400
    case.is_said_in(answer.text)


def ends(world: World, case: Case, worker: Any, code: int) -> None:
    """Start a worker that must end by itself with a message."""
    worker.start(wait=False)
    assert worker.process.wait(60) == code, worker.log
    case.is_said_in(worker.log)


def port_in_use(case: Case, world: World) -> None:
    ends(world, case, world.process("second", listeners=world.worker.url), 3)


def same_files(case: Case, world: World) -> None:
    shared = str(world.worker.folder / "offsets.jsonl")
    ends(world, case, world.process("second", **{"offset.storage.file.filename": shared}), 3)


def damaged_offsets(case: Case, world: World) -> None:
    worker = world.process("damaged")
    (worker.folder / "offsets.jsonl").write_text("garbage\n")
    ends(world, case, worker, 2)


def changed_file(case: Case, world: World) -> None:
    before = world.watched.read_text()
    world.worker.write("watched", world.source_config("watched", poll_interval_ms="200"))
    case.says("watched")
    world.watched.write_text(before)
    case.heals("watched")


CASES: Cases = {
    "21": mistake,
    "22": port_in_use,
    "25": same_files,
    "26": damaged_offsets,
    "27": changed_file,
}
