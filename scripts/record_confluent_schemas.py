"""Record how Confluent's converters translate schemas: tests/golden/confluent/answers.jsonl.

python scripts/record_confluent_schemas.py CLASS_PATH

CLASS_PATH has the converters for Avro, JSON Schema and Protobuf (kafka-connect-avro-data,
kafka-connect-json-schema-converter, kafka-connect-protobuf-converter) with all that they need: jars of Confluent's
repository, or classes compiled from their public source. Needs a JDK.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))  # the script is run by its path

from tests.golden.confluent.cases import cases

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "confluent"


def main() -> None:
    """Compile the harness, give it all cases, and write its answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("class_path")
    class_path = parser.parse_args().class_path
    requests = "".join(json.dumps(case.request()) + "\n" for case in cases())
    with TemporaryDirectory() as folder:
        compiler = [
            "javac",
            "-nowarn",
            "-proc:none",
            "-d",
            folder,
            "-cp",
            class_path,
            str(GOLDEN / "ConverterSchemas.java"),
        ]
        subprocess.run(compiler, check=True)
        java = ["java", "-cp", f"{folder}:{class_path}", "ConverterSchemas"]
        answers = subprocess.run(java, input=requests, capture_output=True, text=True, check=True).stdout
    (GOLDEN / "answers.jsonl").write_text(answers, encoding="utf-8")


if __name__ == "__main__":
    main()
