"""The command ``python -m demo`` as a process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(300)
def test_option_once_verifies_that_the_index_equals_the_database(tmp_path: Path) -> None:
    data, pack = tmp_path / "data", tmp_path / "pack"
    demo = start("--once", "--trickle", "3", "--timeout", "120", "--data", str(data), "--pack", str(pack))
    output, _ = demo.communicate()

    assert demo.returncode == 0, output
    assert "The index equals the database." in output
    assert "20,0" in output
    assert re.search(r"elasticsearch +read .* → write .* → search ", output), output
    assert len(list((pack / "pictures").glob("*.svg"))) >= 5, output


@pytest.mark.timeout(300)
def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    demo = start("--data", str(tmp_path))
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if re.search(r"freshness \d", line):
            break
    family = psutil.Process(demo.pid).children(recursive=True)
    assert len(family) >= 4

    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate()

    assert demo.returncode == 0, "".join(lines) + rest
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
