"""Record the results of Kafka Streams for the cases that headrace's stream operators are compared with.

python scripts/record_kafka_streams_results.py    compile, run, and write tests/golden/kafka_streams/results.jsonl

The jars come from Maven Central by the lock file of the benchmarks. Compiling needs a JDK (``javac`` on the PATH); no
Kafka is started. Run it when the cases or the version of Kafka Streams change. No result depends on the machine or the
time.
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
from tests.golden.kafka_streams.cases import FILE, as_line, cases  # noqa: E402

_SOURCE = FILE.parent / "Reference.java"


def main() -> int:
    """Write the results, after all cases were run."""
    wanted = list(cases())
    streams = locked("kafka-streams", LOCK)
    jars = os.pathsep.join(map(str, fetch(streams.jars)))
    given = [{"topology": case.topology, "parameters": case.parameters, "records": case.records} for case in wanted]
    with tempfile.TemporaryDirectory(prefix="kafka-streams-") as classes:
        subprocess.run(["javac", "-d", classes, "-cp", jars, str(_SOURCE)], check=True)
        done = subprocess.run(
            [
                java(),
                "--enable-native-access=ALL-UNNAMED",
                f"-Djava.io.tmpdir={classes}",
                "-cp",
                os.pathsep.join([classes, jars]),
                "Reference",
            ],
            input=json.dumps(given),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    results = json.loads(done.stdout)
    lines = [as_line(case, result) for case, result in zip(wanted, results, strict=True)]
    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} cases of Kafka Streams {streams.version}, {FILE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
