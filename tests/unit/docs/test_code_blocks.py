"""Every code block of CONTRIBUTING.md and of the guides works: Python runs, YAML is valid, commands exist.

A comment before a block says how to read it: ``<!-- keys of PLUGIN -->`` for a part of a connector's file,
``<!-- not run: REASON -->`` for what cannot be checked here.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from headrace.cli.main import app
from headrace.files import read_config_file
from headrace.interpolation import make_interpolator
from headrace.registry import PluginKind, Registry
from headrace.validation import Validator

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:^<!-- (?P<marker>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```", re.M | re.S)


VARIABLES = {
    "DATABASE_URL": "postgresql+psycopg://reader:secret@db.example/shop",
    "ELASTICSEARCH_URL": "https://search.example:9200",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092",
}
"""Environment variables that must be addresses."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    marker: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("language")) + 1
            found.append(Block(page, line, match["language"], match["code"], match["marker"] or ""))
    return found


BLOCKS = _blocks()
RUN = [block for block in BLOCKS if not block.marker.startswith("not run: ")]


def of(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.place) for block in RUN if block.language in languages]


def test_every_language_has_its_check() -> None:
    assert {block.language for block in RUN} <= {"python", "toml", "yaml", "console", "sh", "bibtex"}


def test_a_block_that_is_not_run_has_a_reason() -> None:
    for block in BLOCKS:
        assert not block.marker or re.fullmatch(r"keys of \w+|not run: .{15,}", block.marker), block.place


def test_the_python_of_every_page_runs_and_passes_its_tests(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    pages = sorted({block.page for block in RUN if block.language == "python"})
    for page in pages:
        module = tmp_path / f"test_{page.stem.replace('-', '_').lower()}.py"
        module.write_text("\n\n".join(block.code for block in RUN if block.page == page and block.language == "python"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("test_*.py"))) == len(pages) > 1


@pytest.mark.parametrize("block", of("toml"))
def test_toml_is_valid(block: Block) -> None:
    assert tomllib.loads(block.code)


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_a_valid_configuration(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{env:(\w+)\}", block.code):
        monkeypatch.setenv(name, VARIABLES.get(name, "value"))
    path = tmp_path / "page.yaml"
    path.write_text(block.code)
    properties = read_config_file(path).properties
    registry = Registry()
    if block.marker:
        model = registry.find(PluginKind.CONNECTOR, block.marker.removeprefix("keys of ")).cls.config_model
        assert properties
        assert [name for name in properties if not model.owns(name)] == []
        return
    validator = Validator(registry, make_interpolator(registry))
    is_connector = "connector.class" in yaml.safe_load(block.code)
    _, findings = validator.connector(properties, trusted=True) if is_connector else validator.worker(properties)
    assert [str(finding) for finding in findings if finding.severity == "error"] == []


@pytest.mark.parametrize("block", of("console", "sh"))
def test_the_commands_of_headrace_exist(block: Block) -> None:
    root = typer.main.get_command(app)
    for words in re.findall(r"^(?:\$ )?headrace ((?:[\w-]+ ?)+)", block.code, re.M):
        command, names = root, words.split()
        while isinstance(command, TyperGroup) and names and not names[0].startswith("-"):
            # Commands are imported when they are called, those of plugins included.
            _, found, _ = command.resolve_command(typer.Context(command), [names.pop(0)])
            assert found is not None, f"headrace {words}"
            command = found
