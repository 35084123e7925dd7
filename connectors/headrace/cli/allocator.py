"""How the C library allocates memory in a worker."""

from __future__ import annotations

import ctypes
import os

_ARENA_MAX = -8
"""``M_ARENA_MAX`` of glibc's ``mallopt``."""


def share_one_arena() -> None:
    """Let all threads allocate from one arena; no effect with other C libraries than glibc.

    glibc gives threads arenas of their own, up to eight for each core, and memory that is freed in one is not used in
    another. Kafka clients have many threads: one allocates what another frees. ``MALLOC_ARENA_MAX`` in the environment
    counts before that. Call it before threads are started.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
