"""Files that configurations name: regular files of at most 1 MiB, within the folders that a list allows."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

LARGEST = 1 << 20
"""Maximum size in bytes, far above that of any file of settings."""


def read_small_file(path: Path) -> str:
    """Return the text of a regular file. Raise OSError, UnicodeDecodeError, or ValueError for any other file.

    A device, a pipe or a huge file would block the task, or fill the memory.
    """
    # Without O_NONBLOCK the opening of a pipe waits for its other end.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    return content.decode("utf-8-sig")


def is_within(path: str, allowed: Iterable[Path]) -> bool:
    """Return whether the path is one of the resolved paths, or below one of them.

    Neither ``..`` nor a symbolic link leads out of an allowed folder.
    """
    try:
        resolved = Path(path).resolve()
    except (OSError, ValueError, RuntimeError):  # a null character, a loop of links
        return False
    return any(resolved.is_relative_to(folder) for folder in allowed)
