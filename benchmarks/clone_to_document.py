"""From a clone to the first document: the commands and files of docs/quickstart.md, each step with its seconds.

    python -m benchmarks.clone_to_document [--database URL]

Clones this repository into a temporary folder and follows the page from there: virtual environment, installation,
`headrace up`, the page's table and files, `check`, `run`. ``--database`` is a PostgreSQL of your own, in which a table
`orders` may be created; without it the PostgreSQL of `headrace up` is used.
Packages and engines come from the caches of this machine if they are there: run it twice for a figure with warm caches.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from headrace.embedded.tcp_ports import free_port
from headrace.retries import wait_for

ROOT = Path(__file__).parents[1]
FILES = ("worker.yaml", "orders.yaml", "search.yaml")
INDEX = "shop.orders"
_CREATE = "import os, psycopg; psycopg.connect(os.environ['PSYCOPG_URL'], autocommit=True).execute(os.environ['SQL'])"
_TIMEOUT = 300.0


class Steps:
    """Names and seconds of the steps, printed as they end."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        now = time.monotonic()
        print(f"{now - began:7.1f} s   {name:<32} {now - self._began:7.1f} s since the start", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clone_to_document",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--database", metavar="URL", help="SQLAlchemy URL of your PostgreSQL")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-quickstart-") as folder:
        follow_the_page(Path(folder), arguments.database)
    return 0


def follow_the_page(folder: Path, database: str | None) -> None:
    """Follow the quickstart in a folder. Raise CalledProcessError or TimeoutError when a step fails."""
    steps, clone = Steps(), folder / "headrace"
    binaries = folder / ".venv" / "bin"
    with steps.step("git clone"):
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    page = (clone / "docs" / "quickstart.md").read_text(encoding="utf-8")
    with steps.step("python -m venv"):
        subprocess.run([sys.executable, "-m", "venv", str(folder / ".venv")], check=True)
    for extras in (".[fast,postgres]", ".[embedded]"):
        with steps.step(f"pip install '{extras}'"):
            subprocess.run([str(binaries / "pip"), "install", "--quiet", extras], cwd=clone, check=True)
    environment = {**os.environ, "HEADRACE_STACK_DATA": str(folder / "stack")}
    engines = ["kafka", "elasticsearch"] if database else []
    try:
        with steps.step("headrace up --detach"):
            up = [str(binaries / "headrace"), "up", "--detach", *engines]
            said = subprocess.run(up, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            exports = re.findall(r"^export (\w+)=(.*)$", said, re.MULTILINE)
            environment |= {name: shlex.split(value)[0] for name, value in exports}
        if database:
            environment["DATABASE_URL"] = database
        _move_the_table(folder, binaries, environment, page, steps)
    finally:
        subprocess.run([str(binaries / "headrace"), "down"], env=environment, check=False, stdout=subprocess.DEVNULL)


def _move_the_table(folder: Path, binaries: Path, environment: Mapping[str, str], page: str, steps: Steps) -> None:
    with steps.step("table and files of the page"):
        (statements,) = re.findall(r"^```sql\n(.*?)^```", page, re.M | re.S)
        url = environment["DATABASE_URL"].replace("+psycopg", "")
        subprocess.run(
            [str(binaries / "python"), "-c", _CREATE],
            env={**environment, "PSYCOPG_URL": url, "SQL": statements},
            check=True,
        )
        for code in re.findall(r"^```yaml\n(# \w+\.yaml\n.*?)^```", page, re.M | re.S):
            (folder / code.splitlines()[0].removeprefix("# ")).write_text(code, encoding="utf-8")
        with (folder / "worker.yaml").open("a", encoding="utf-8") as file:  # another worker may have the usual port
            file.write(f"listeners: http://127.0.0.1:{free_port()}\n")
    headrace = str(binaries / "headrace")
    with steps.step("headrace check"):
        subprocess.run([headrace, "check", *FILES], cwd=folder, env=environment, check=True)
    with steps.step("headrace run, first document"):
        run = subprocess.Popen([headrace, "run", *FILES], cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        try:
            address = f"{environment['ELASTICSEARCH_URL']}/{INDEX}/_search"
            if not wait_for(lambda: run.poll() is not None or _documents(address), timeout=_TIMEOUT, interval=0.1):
                raise TimeoutError(f"no document within {_TIMEOUT:g} s")
            if run.poll() is not None:
                raise subprocess.CalledProcessError(run.returncode, "headrace run")
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(60)


def _documents(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return len(json.load(answer)["hits"]["hits"])
    except OSError:
        return 0  # the index does not exist yet


if __name__ == "__main__":
    raise SystemExit(main())
