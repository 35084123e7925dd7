"""The list of commands is true, and does not import them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from headrace.cli.lazy_commands import COMMANDS, load_command
from headrace.cli.main import app

IMPORTS = """
import sys
from headrace.cli.main import app
try:
    app(["--help"])
finally:
    unwanted = ("headrace.broker", "headrace.pipeline", "headrace.rest", "httpx", "kafka", "structlog")
    print(*(name for name in unwanted if name in sys.modules))
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_the_first_paragraph_of_its_help(name: str) -> None:
    first, _, _ = load_command(name).help.partition("\n\n")
    assert COMMANDS[name].summary == " ".join(first.split())


def test_the_list_of_commands_imports_no_command() -> None:
    listed = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True).stdout
    assert "reindex" in listed
    assert "experiment" in listed, "commands of plugins are missing"
    assert listed.splitlines()[-1] == "", "imported by --help"


def test_a_mistyped_command_is_answered_with_the_nearest_ones_of_headrace_and_of_plugins() -> None:
    assert "Did you mean 'verify'" in CliRunner().invoke(app, ["verfy"]).stderr
    assert "Did you mean 'experiment'" in CliRunner().invoke(app, ["experimnt"]).stderr
