"""Record what Kafka Connect's classes of worker groups write and decide, which headrace's are compared with.

python scripts/record_connect_group.py    compile, run, and write tests/golden/connect_group/answers.jsonl

The jars come from Maven Central by the lock file of the benchmarks. Compiling needs a JDK (``javac`` on the PATH). No
answer depends on the machine or the time.
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
from tests.golden.connect_group.cases import FILE, all_cases  # noqa: E402

MAIN = "org.apache.kafka.connect.runtime.distributed.GroupProtocol"
"""The package has what is not public."""


def main() -> int:
    """Write the answers, after all cases were run."""
    cases = list(all_cases())
    connect = locked("connect", LOCK)
    jars = os.pathsep.join(map(str, fetch(connect.jars)))
    with tempfile.TemporaryDirectory(prefix="connect-group-") as classes:
        subprocess.run(["javac", "-d", classes, "-cp", jars, str(FILE.with_name("GroupProtocol.java"))], check=True)
        done = subprocess.run(
            [java(), "-Dfile.encoding=UTF-8", "-cp", os.pathsep.join([classes, jars]), MAIN],
            input="".join(f"{json.dumps(case)}\n" for case in cases),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    answers = {item["id"]: item["out"] for item in map(json.loads, filter(_is_answer, done.stdout.splitlines()))}
    lines = [
        json.dumps({**case, "out": answers[case["id"]]}, ensure_ascii=False, separators=(",", ":")) for case in cases
    ]
    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} answers of Kafka Connect {connect.version}, {FILE.stat().st_size:,} bytes")
    return 0


def _is_answer(line: str) -> bool:
    return line.startswith('{"id":')  # others are of the logging library


if __name__ == "__main__":
    sys.exit(main())
