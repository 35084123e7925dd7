"""Every command has a help page."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app


@pytest.mark.parametrize(
    "command", ["run", "validate", "check", "plugins", "describe", "schema", "connectors", "up", "down"]
)
def test_a_command_has_a_help_page(command: str) -> None:
    answer = CliRunner().invoke(app, [command, "--help"])

    assert answer.exit_code == 0
    assert "Usage" in answer.stdout
