"""docs/architecture.md names the modules and folders that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_SECTION = re.compile(r"^## [^\n]*`(?P<folder>[\w/]+/)`\n(?P<text>.*?)(?=^## )", re.M | re.S)
SECTIONS = {match["folder"]: match["text"] for match in _SECTION.finditer(PAGE)}


def test_the_page_has_a_section_for_each_part() -> None:
    assert set(SECTIONS) == {
        "connectors/headrace/pipeline/",
        "connectors/headrace/runtime/",
        "sources/headrace_sources/sql/",
        "sinks/headrace_sinks/elasticsearch/",
        "streams/headrace_streams/",
    }


@pytest.mark.parametrize("folder", SECTIONS)
def test_a_section_lists_every_module_of_its_folder(folder: str) -> None:
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", SECTIONS[folder], re.M)
    modules = [path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py")]
    assert sorted(listed) == sorted(name for name in modules if not name.endswith("__init__.py"))


def test_every_path_of_the_page_exists() -> None:
    bases = [ROOT, ROOT / "connectors", ROOT / "connectors/headrace", *(ROOT / folder for folder in SECTIONS)]
    paths = re.findall(r"`([\w./-]+(?:/|\.py))`", PAGE)
    assert len(paths) > 100
    assert [path for path in paths if not any((base / path).exists() for base in bases)] == []


def test_the_page_describes_every_thread_of_a_worker() -> None:
    """Names that begin with a placeholder, such as a task, are compared by what follows it."""
    folders = ["connectors/headrace", "sources", "streams", "sinks"]
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    texts = [file.read_text("utf-8") for file in files if not {"embedded", "testing"} & set(file.parts)]
    created = re.compile(
        r"(?:Thread\(|super\(\).__init__\()[^()]*(?:\([^()]*\)[^()]*)*?\bname=f?\"(?:\{[^}]*\})?([\w-]*[a-z][\w-]*)"
    )
    names = {match[1] for text in texts for match in created.finditer(text)}
    assert len(names) > 10
    threads = PAGE[PAGE.index("## Threads") :]
    assert [name for name in names if not re.search(rf"`[\w-]*{name}`", threads)] == []
