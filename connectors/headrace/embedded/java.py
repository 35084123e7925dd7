"""Command lines of the Java servers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from headrace.embedded.optional_dependencies import java

# Tuned for a laptop: a small heap that grows, the collector with the smallest footprint.
_FLAGS = ("-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true")


def java_command(
    main: str, *, class_path: Iterable[Path], heap: str, options: Iterable[str] = (), arguments: Iterable[str] = ()
) -> list[str]:
    """Return the command line of a server. ``heap`` as for ``-Xmx``: ``512m``."""
    joined = os.pathsep.join(str(path) for path in class_path)
    return [java(), "-Xms64m", f"-Xmx{heap}", *_FLAGS, *options, "-cp", joined, main, *arguments]
