"""The page about sizing states what its tables are computed with, and its figures can be measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.stream_state import KINDS, restore, write_changelog
from scripts.stream_sizing import BUSY, FIGURES, PARTITIONS, sizing_page


def test_the_formulas_of_the_page_are_those_of_its_tables() -> None:
    page = sizing_page()
    assert f"÷ {BUSY:.0%} of a core" in page
    assert f"partitions = {PARTITIONS} × processes" in page
    cost = next(iter(json.loads(FIGURES.read_text("utf-8"))["cpu"]["us per record"].values()))
    row = next(line for line in page.splitlines() if line.startswith("| 1,000,000 |"))
    assert row.split("|")[2].strip() == f"{-(-cost // BUSY):.0f} processes"


def test_the_page_names_a_command_and_the_conditions_of_every_figure() -> None:
    figures = json.loads(FIGURES.read_text("utf-8"))
    assert all(group["command"].startswith("python -m benchmarks") for group in figures.values())
    assert all(group["conditions"] for group in figures.values())
    assert figures["state"]["per entry"].keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_measured_state_has_an_entry_for_each_record(kind: str, tmp_path: Path) -> None:
    changelog, size = write_changelog(KINDS[kind], 50, tmp_path / "changelog")
    entries, _, _ = restore(tmp_path / "changelog", changelog)
    assert 50 <= entries <= 55  # and the times and accounts of the partition
    assert size > 50 * 20
