"""The command ``python -m demo exploration`` as a process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(300)
def test_each_answer_is_the_selection_in_kafka_and_the_experiment_is_indexed() -> None:
    command = [sys.executable, "-m", "demo", "exploration", "--once", "--seconds", "6"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    output = found.stdout + found.stderr
    assert found.returncode == 0, output
    assert "0 of them are not the selection in Kafka, 0 are there twice" in output
    assert "missed conversions: " in output
