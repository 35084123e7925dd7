"""Build ``connectors/headrace/embedded/java/*.jar`` from the sources in the same folder, reproducibly.

Run it after a change of the sources or of Elasticsearch's version in the lock file::

    python scripts/build_node.py            # compile and write
    python scripts/build_node.py --check    # compile and compare; exit code 1 if a committed jar differs

Needs ``javac`` 17 or newer on the PATH (nothing else does: the jars are committed). ``--release 17`` and fixed dates
in the archive make the bytes the same on each machine with the same major version of javac.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from headrace.embedded.artifacts import locked
from headrace.embedded.jars import fetch

JAVA = Path(__file__).parent.parent / "connectors/headrace/embedded/java"
ARCHIVES = {"node": "elasticsearch-node.jar", "root": "elasticsearch-root.jar"}


def build(folder: str, class_path: str) -> bytes:
    """Return the jar of one folder of sources as bytes."""
    with tempfile.TemporaryDirectory(prefix="headrace-javac-") as target:
        sources = sorted(str(source) for source in (JAVA / folder).glob("*.java"))
        options = ["--release", "17", "-g:none", "-encoding", "UTF-8", "-proc:none", "-implicit:none"]
        subprocess.run(["javac", *options, "-cp", class_path, "-d", target, *sources], check=True)
        content = io.BytesIO()
        with ZipFile(content, "w", ZIP_STORED) as archive:
            for file in sorted(Path(target).rglob("*.class")):
                entry = ZipInfo(file.relative_to(target).as_posix(), (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, file.read_bytes())
        return content.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the Elasticsearch starter from its Java sources.")
    parser.add_argument("--check", action="store_true", help="only compare with the committed jars")
    arguments = parser.parse_args()
    if shutil.which("javac") is None:
        print("javac is not on the PATH: install a JDK 17 or newer", file=sys.stderr)
        return 3
    class_path = ":".join(str(jar) for jar in fetch(locked("elasticsearch").jars))
    stale = 0
    for folder, name in ARCHIVES.items():
        content, target = build(folder, class_path), JAVA / name
        if not arguments.check:
            target.write_bytes(content)
        elif target.read_bytes() != content:
            print(f"{target} differs from the jar that its sources produce", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
