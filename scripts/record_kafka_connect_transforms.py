"""Record the answers of Kafka Connect's and Debezium's transforms and of Kafka Connect's header converters, which those
of headrace are compared with.

python scripts/record_kafka_connect_transforms.py    compile, run, and write the files of cases

A case is a line of a file without ``out``: add one, and run the script. The jars come from Maven Central by the lock
file of the benchmarks. Compiling needs a JDK (``javac`` on the PATH). No answer depends on the machine or the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.kafka_connect import LOCK  # noqa: E402 - the folder of the project is not on the path of a script
from headrace.embedded.artifacts import locked  # noqa: E402
from headrace.embedded.jars import fetch  # noqa: E402
from headrace.embedded.optional_dependencies import java  # noqa: E402

FOLDER = ROOT / "tests" / "golden" / "connect_transforms"
FILES = {
    "answers.jsonl": ("connect",),
    "header_converters.jsonl": ("connect",),
    "debezium.jsonl": ("connect-for-debezium", "debezium"),
}
"""Each file with the groups of jars of the lock file that it needs."""


def main() -> int:
    """Write the answers, after all cases were run."""
    for name, groups in FILES.items():
        record(FOLDER / name, groups)
    return 0


def record(file: Path, groups: Sequence[str]) -> None:
    """Run the cases of a file, and write it."""
    cases = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    given = [{name: part for name, part in case.items() if name != "out"} for case in cases]
    if len({case["id"] for case in given}) < len(given):
        raise ValueError("two cases have the same id")
    artifacts = [locked(group, LOCK) for group in groups]
    jars = os.pathsep.join(str(jar) for artifact in artifacts for jar in fetch(artifact.jars))
    with tempfile.TemporaryDirectory(prefix="connect-transforms-") as classes:
        subprocess.run(["javac", "-d", classes, "-cp", jars, str(FOLDER / "Transforms.java")], check=True)
        path = os.pathsep.join([classes, jars])
        done = subprocess.run(
            [java(), "-Duser.timezone=UTC", "-Duser.language=en", "-Duser.country=US", "-cp", path, "Transforms"],
            input="".join(f"{json.dumps(case)}\n" for case in given),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", '"', "true", "false"))]
    lines = [
        json.dumps({**case, "out": answer}, ensure_ascii=False, separators=(",", ":"))
        for case, answer in zip(given, answers, strict=True)
    ]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    versions = ", ".join(f"{group} {artifact.version}" for group, artifact in zip(groups, artifacts, strict=True))
    print(f"{file.name}: {len(lines)} answers of {versions}, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
