"""Build connectors for ``python -m benchmarks competitors --plugins FOLDER`` that no package index has.

Aiven's JDBC source and Elasticsearch sink (Apache License 2.0) are published as archives on GitHub only; unpacked
archives in the folder work, too. This script compiles them from checkouts of their sources, with Maven 3 and a JDK::

    git clone https://github.com/Aiven-Open/jdbc-connector-for-apache-kafka
    git clone https://github.com/Aiven-Open/elasticsearch-connector-for-apache-kafka
    python -m scripts.build_competitors jdbc-connector-for-apache-kafka elasticsearch-connector-for-apache-kafka FOLDER

The sink was written for Kafka 2.2, and reads fields of Elasticsearch's version that the embedded Elasticsearch does not
return. So two places are changed; no record passes either of them. See ``CHANGES``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.lock_engines import KAFKA, pom

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
CONNECT = (f"org.apache.kafka:connect-api:{KAFKA}", f"org.apache.kafka:connect-json:{KAFKA}")
JDBC = ("com.google.guava:guava:33.2.1-jre", "org.slf4j:slf4j-api:1.7.36", "org.postgresql:postgresql:42.7.11")
ELASTICSEARCH = ("org.slf4j:slf4j-api:1.7.36", "co.elastic.clients:elasticsearch-java:7.17.18")
_CONNECTS_OWN = ("connect-", "kafka-clients", "slf4j", "lz4", "snappy", "zstd")
CHANGES = (
    ("import org.apache.kafka.common.utils.SystemTime;", ""),
    ("new SystemTime()", "org.apache.kafka.common.utils.Time.SYSTEM"),
    ("this.elasticClient.info().version().number()", '"8"'),
)


def build(checkout: Path, roots: tuple[str, ...], plugin: Path) -> None:
    """Build one plugin: its own jar, and the jars that it needs and Connect does not include."""
    plugin.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="headrace-competitors-") as name:
        scratch = Path(name)
        (scratch / "pom.xml").write_text(pom((*CONNECT, *roots)))
        jars, classes, sources = scratch / "jars", scratch / "classes", scratch / "java"
        subprocess.run(
            ["mvn", "-q", "-B", "-f", str(scratch / "pom.xml"), COPY, f"-DoutputDirectory={jars}"], check=True
        )
        shutil.copytree(checkout / "src/main/java", sources)
        for file in sources.rglob("*.java"):
            text = changed = file.read_text()
            for before, after in CHANGES:
                changed = changed.replace(before, after)
            if changed != text:
                print(f"changed: {file.relative_to(sources)}", file=sys.stderr)
                file.write_text(changed)
        shutil.copytree(checkout / "src/main/resources", classes)
        java = [str(file) for file in sources.rglob("*.java")]
        subprocess.run(["javac", "-nowarn", "-proc:none", "-d", str(classes), "-cp", f"{jars}/*", *java], check=True)
        subprocess.run(["jar", "cf", str(plugin / f"{plugin.name}.jar"), "-C", str(classes), "."], check=True)
        for jar in jars.iterdir():
            if not jar.name.startswith(_CONNECTS_OWN):
                shutil.copy(jar, plugin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jdbc", type=Path, help="checkout of the JDBC connector")
    parser.add_argument("elasticsearch", type=Path, help="checkout of the Elasticsearch connector")
    parser.add_argument("folder", type=Path, help="where the plugins go")
    options = parser.parse_args()
    build(options.jdbc, JDBC, options.folder / "aiven-jdbc")
    build(options.elasticsearch, ELASTICSEARCH, options.folder / "aiven-elasticsearch")


if __name__ == "__main__":
    main()
