"""`headrace new connector` writes a package whose own checks pass at once, whatever its name is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.errors import ConfigError


def new(*arguments: str | Path) -> None:
    CliRunner().invoke(app, ["new", "connector", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)


def run(folder: Path, module: str, *arguments: str) -> None:
    """Run a tool in the package; a failure shows its output."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_are_formatted_and_pass_their_linter(tmp_path: Path) -> None:
    for kind in ("source", "sink"):
        for name in ("a", "weather", "weather-station-of-the-north"):
            new(name, "--type", kind, "--directory", tmp_path / f"{kind}-{name}")

    run(tmp_path, "ruff", "check", ".")
    run(tmp_path, "ruff", "format", "--check", ".")


@pytest.mark.parametrize("kind", ["source", "sink"])
def test_the_package_passes_its_own_tests(tmp_path: Path, kind: str) -> None:
    new("weather", "--type", kind, "--directory", tmp_path / "made")

    written = [path for path in (tmp_path / "made").rglob("*") if path.is_file()]
    assert not [path for path in written if "<<" in path.read_text("utf-8")]
    run(tmp_path / "made", "pytest", "-p", "no:cacheprovider")


@pytest.mark.parametrize("name", ["Weather", "weather.station", "", "1st", "-x", "a--b"])
def test_an_invalid_package_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a package") as raised:
        new("--directory", tmp_path / "made", "--", name)

    assert raised.value.code == "cli.bad_name"
    assert not (tmp_path / "made").exists()


def test_files_that_exist_are_never_overwritten(tmp_path: Path) -> None:
    kept = tmp_path / "made" / "README.md"
    kept.parent.mkdir()
    kept.write_text("mine")

    with pytest.raises(ConfigError, match="exists already") as raised:
        new("weather", "--directory", kept.parent)
    assert raised.value.code == "cli.exists"
    assert list(kept.parent.iterdir()) == [kept]
    assert kept.read_text() == "mine"
