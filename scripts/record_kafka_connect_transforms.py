"""Record the answers of Kafka Connect's transforms for the records that headrace's transforms are compared with.

python scripts/record_kafka_connect_transforms.py    compile, run, and write answers.jsonl in the folder of the cases

A case is a line of that file without ``out``: add one, and run the script. The jars come from Maven Central by the lock
file of the benchmarks. Compiling needs a JDK (``javac`` on the PATH). No answer depends on the machine or the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.kafka_connect import LOCK  # noqa: E402 - the folder of the project is not on the path of a script
from headrace.embedded.artifacts import locked  # noqa: E402
from headrace.embedded.jars import fetch  # noqa: E402
from headrace.embedded.optional_dependencies import java  # noqa: E402

FILE = ROOT / "tests" / "golden" / "connect_transforms" / "answers.jsonl"


def main() -> int:
    """Write the answers, after all cases were run."""
    cases = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    given = [{name: part for name, part in case.items() if name != "out"} for case in cases]
    if len({case["id"] for case in given}) < len(given):
        raise ValueError("two cases have the same id")
    connect = locked("connect", LOCK)
    jars = os.pathsep.join(map(str, fetch(connect.jars)))
    with tempfile.TemporaryDirectory(prefix="connect-transforms-") as classes:
        subprocess.run(["javac", "-d", classes, "-cp", jars, str(FILE.parent / "Transforms.java")], check=True)
        path = os.pathsep.join([classes, jars])
        done = subprocess.run(
            [java(), "-Duser.timezone=UTC", "-Duser.language=en", "-Duser.country=US", "-cp", path, "Transforms"],
            input="".join(f"{json.dumps(case)}\n" for case in given),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    lines = [
        json.dumps({**case, "out": answer}, ensure_ascii=False, separators=(",", ":"))
        for case, answer in zip(given, answers, strict=True)
    ]
    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} answers of Kafka Connect {connect.version}, {FILE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
