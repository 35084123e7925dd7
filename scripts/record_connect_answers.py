"""Record the answers of a JVM Kafka Connect worker to the requests of the golden contract.

python scripts/record_connect_answers.py    start Kafka and Connect, ask, and write tests/golden/connect/answers.jsonl

Kafka, Connect and its file connectors come from Maven Central by the lock files of the engines and the benchmarks. Run
it when the requests or the version of Connect change. No answer depends on the machine or the time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from headrace.embedded.kafka import Kafka  # noqa: E402 - the folder of the project is not on the path of a script
from tests.engines.connect import ConnectWorker  # noqa: E402
from tests.golden.connect.answers import FILE, as_line, ask  # noqa: E402
from tests.golden.connect.requests import INPUT  # noqa: E402

_SETTINGS = {
    "group.id": "contract",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "offset.flush.interval.ms": "200",
    "scheduled.rebalance.max.delay.ms": "0",
    **{
        f"{kind}.storage.{key}": value
        for kind in ("config", "offset", "status")
        for key, value in (("topic", f"connect-{kind}"), ("replication.factor", "1"))
    },
}


def main() -> int:
    """Write the answers, after all of them were received."""
    with tempfile.TemporaryDirectory(prefix="connect-contract-") as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        (data / INPUT).write_text("one\ntwo\nthree\n", encoding="utf-8")
        kafka = Kafka(folder / "kafka")
        kafka.start()
        connect = ConnectWorker(folder / "connect", kafka.bootstrap_servers, _SETTINGS)
        try:
            connect.start()
            lines = [as_line(request, answer) for request, answer in ask(connect.url, data)]
        finally:
            connect.stop()
            kafka.stop()
    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} answers of Kafka Connect {connect.version}, {FILE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
